"""The `mine` command: a data owner's account, data sets and daemon."""

import click

from mine.commands.account import encrypt, init, withdraw
from mine.commands.audit import audit
from mine.commands.data import add
from mine.commands.earnings import earnings
from mine.commands.matching import match
from mine.commands.policy import approve, deny, policy
from mine.commands.privacy import privacy
from mine.commands.removing import remove
from mine.commands.running import run, status
from mine.commands.training import campaigns, train
from sonar import __version__
from sonar.cli_support import SonarGroup

__all__ = ["main"]


@click.group(cls=SonarGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mine")
def main() -> None:
    """Train campaigns on your data, which stays here, and be paid for the improvement."""


main.add_command(init)
main.add_command(encrypt)
main.add_command(add)
main.add_command(remove)
main.add_command(match)
main.add_command(campaigns)
main.add_command(policy)
main.add_command(approve)
main.add_command(deny)
main.add_command(train)
main.add_command(run)
main.add_command(status)
main.add_command(withdraw)
main.add_command(earnings)
main.add_command(audit)
main.add_command(privacy)
