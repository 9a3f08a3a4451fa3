"""`python -m pysonar`: the `pysonar` command."""

from pysonar.cli import main

main(prog_name="pysonar")
