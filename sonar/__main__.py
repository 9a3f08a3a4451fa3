"""`python -m sonar`: the `sonar` command."""

from sonar.cli import main

main(prog_name="sonar")
