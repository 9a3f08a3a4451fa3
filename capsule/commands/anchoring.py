"""`capsule forget-chain`: takes back what the Capsule holds fast of its chain."""

from pathlib import Path

import click

from capsule.commands import options
from sonar.cli_support import echo_json, talk

__all__ = ["forget_chain"]


@click.command("forget-chain")
@options.home
@options.database
@options.as_json
def forget_chain(home: Path | None, database: str | None, as_json: bool) -> None:
    """Forget which chain this database is about: what the node shows next is held fast instead.

    A Capsule holds fast the block that its contract's events begin at, and the contract's code, and believes no node
    that shows others. Forget them only once you know by another way that the node is right now, and was not when they
    were held fast. It needs no passphrase, and a running Capsule goes on by itself.
    """
    from capsule.home import default_home, open_state
    from capsule.worker.anchor import forget_anchor

    directory = home or default_home()
    state = open_state(directory, options.database_of(directory, database), migrate=False)
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
