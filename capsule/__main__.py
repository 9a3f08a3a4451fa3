"""`python -m capsule`: the `capsule` command."""

from capsule.cli import main

main(prog_name="capsule")
