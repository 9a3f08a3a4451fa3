"""`capsule forget-chain`: takes back what the Capsule holds fast of its chain."""

from pathlib import Path

import click

from capsule.commands import options
from sonar.cli_support import echo_json, talk

__all__ = ["forget_chain"]


@click.command("forget-chain")
@options.home
@options.database
@options.passphrase
@options.as_json
def forget_chain(home: Path | None, database: str | None, passphrase_file: Path | None, as_json: bool) -> None:
    """Forget which chain this database is about: what the node shows next is held fast instead.

    A Capsule holds fast the block that its contract's events begin at, and the contract's code, and believes no node
    that shows others. Forget them only once you know by another way that the node is right now, and was not when they
    were held fast. A running Capsule looks anew by itself. The audit log tells of it, which needs the passphrase.
    """
    from capsule.home import default_home, open_home
    from capsule.worker.anchor import forget_anchor

    directory = home or default_home()
    url = options.database_of(directory, database)
    state = open_home(directory, options.read_passphrase(passphrase_file), database=url, migrate=False).state
    try:
        forgotten = forget_anchor(state)
    finally:
        state.close()
    if forgotten is None:
        talk("nothing of the chain is held fast")
    if as_json:
        echo_json(forgotten)
    elif forgotten is not None:
        options.show(forgotten, as_json=False)
