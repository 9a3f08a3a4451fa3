"""`capsule keys`: what became of every Paillier key, and a new passphrase for all of them."""

import time
from pathlib import Path

import click

from capsule.commands import options
from sonar.cli_support import echo_json, talk

__all__ = ["keys"]

_SCRUB_SECONDS = 10.0


@click.group()
def keys() -> None:
    """Look after the Capsule's keys."""


@keys.command("list")
@options.home
@options.database
@click.option("--use", type=click.Choice(["spare", "issued", "used", "round", "lost"]), help="Only keys of this use.")
@options.as_json
def list_keys(home: Path | None, database: str | None, use: str | None, as_json: bool) -> None:
    """List the Paillier keys, the oldest first; never a secret, so it needs no passphrase.

    A key is spare (ready for use), issued (to an account, can still admit a model), used (by an admission, also a
    failed one), round (of a campaign's later model version) or lost (spare in a backup that was restored).
    """
    from capsule.home import default_home, open_state

    directory = home or default_home()
    state = open_state(directory, options.database_of(directory, database), migrate=False)
    try:
        found = [key for key in state.keys() if use in (None, key.use)]  # noqa: SIM118  (a method)
    finally:
        state.close()
    now = time.time()
    rows = [
        {
            "key": "0x" + key.id.hex(),
            "use": key.use,
            "bits": int.from_bytes(key.modulus, "big").bit_length(),
            "account": key.owner,
            "campaign": None if key.campaign is None else "0x" + key.campaign.hex(),
            "age_seconds": max(0, int(now - key.time)),
            "deleted": key.deleted is not None,
        }
        for key in found
    ]
    if as_json:
        echo_json(rows)
        return
    if not rows:
        talk("no keys yet" if use is None else f"no key is {use}")
        return
    click.echo(f"{'key':<18}  {'use':<6}  {'age':>8}  campaign, else account")
    for row in rows:
        whose = row["campaign"] or row["account"] or ""
        gone = "  secret deleted" if row["deleted"] else ""
        click.echo(f"{str(row['key'])[:18]}  {row['use']:<6}  {_age(int(str(row['age_seconds']))):>8}  {whose}{gone}")


@keys.command()
@options.home
@options.database
@options.passphrase
@click.option(
    "--new-passphrase-file",
    type=click.Path(path_type=Path),
    help="A file that starts with the new passphrase. [SONAR_CAPSULE_NEW_PASSPHRASE, or asked]",
)
@options.as_json
def rotate(
    home: Path | None,
    database: str | None,
    passphrase_file: Path | None,
    new_passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Change the passphrase: wrap all secrets under a new master key, in one transaction.

    The Capsule must be stopped. Killed at any instant, either the old passphrase opens everything or the new one.
    """
    from capsule.custody.rotation import rotate as run
    from capsule.home import default_home, locked, open_home, write_keystore
    from sonar.errors import ConfigError

    directory = home or default_home()
    url = options.database_of(directory, database)
    words = options.read_passphrase(passphrase_file)
    new = options.read_passphrase(new_passphrase_file, confirm=True, kind="new")
    with locked(directory):
        opened = open_home(directory, words, database=url)
        try:
            if new == words:
                raise ConfigError("the new passphrase is the present one, and protects no better: give another")
            vault, keystore = run(opened, new)
            write_keystore(directory, keystore)
            scrubbed = opened.state.scrub(_SCRUB_SECONDS)
        finally:
            opened.state.close()
    options.show({"address": opened.address, "master_key_id": vault.master_id.hex()}, as_json=as_json)
    if not scrubbed:
        talk(
            f"the log beside {opened.state.where} may still hold what the old passphrase opens, because a program "
            "reads it: end that, and `capsule serve` empties the log"
        )
    talk("put the new passphrase where `capsule serve` reads it: the old one does not open this database any more")
    talk("the old passphrase still opens older backups: make a new one, and delete those that should not be opened")


def _age(seconds: int) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
