"""The `capsule` command: makes a Capsule, serves it, looks after it, asks one who it is."""

import click

from capsule.commands.anchoring import forget_chain
from capsule.commands.asking import info
from capsule.commands.audit import audit
from capsule.commands.backups import backup, held, restore
from capsule.commands.campaigns import campaigns
from capsule.commands.keys import keys
from capsule.commands.making import init
from capsule.commands.serving import config, serve
from sonar.cli_support import SonarGroup

__all__ = ["main"]


@click.group(cls=SonarGroup)
@click.version_option(package_name="sonar-marketplace")
def main() -> None:
    """The Capsule: issues Paillier keys, judges rounds, delivers models."""


main.add_command(init)
main.add_command(serve)
main.add_command(config)
main.add_command(campaigns)
main.add_command(keys)
main.add_command(audit)
main.add_command(backup)
main.add_command(restore)
main.add_command(held)
main.add_command(forget_chain)
main.add_command(info)
