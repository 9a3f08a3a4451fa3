"""Whose a Capsule's directory is: root's commands in another's home would leave files that the Capsule cannot open."""

import os
import sys
from pathlib import Path

from capsule.errors import CapsuleHomeError

__all__ = ["check_owner", "is_open_to_others"]


def check_owner(directory: Path) -> None:
    """Raises CapsuleHomeError where root would work in the home of another account.

    Not only for the files that it would leave: that account could have a link in their place, which root would follow.
    """
    if sys.platform == "win32" or os.geteuid() != 0:
        return
    try:
        owner = directory.stat().st_uid
    except OSError:
        return  # there is none yet, or the command says what is wrong with it
    if owner != 0:
        try:
            name = directory.owner()
        except KeyError:
            name = f"#{owner}"
        raise CapsuleHomeError(
            f"{directory} belongs to the account {name}, which cannot open what root makes there: run this as that "
            f"account, with `runuser -u {name} -- capsule ...`, or in a container as user {owner}"
        )


def is_open_to_others(directory: Path) -> bool:
    """Whether other accounts may look into the directory."""
    return os.name == "posix" and bool(directory.stat().st_mode & 0o077)
