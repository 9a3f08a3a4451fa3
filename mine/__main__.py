"""`python -m mine`: the `mine` command."""

from mine.cli import main

main(prog_name="mine")
