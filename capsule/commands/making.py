"""`capsule init`: makes a Capsule."""

import json
from pathlib import Path

import click

from capsule.commands import options
from sonar.cli_support import talk

__all__ = ["init"]


@click.command()
@options.home
@options.passphrase
@options.database
@click.option("--key-bits", type=int, default=3072, show_default=True, help="The length of Paillier keys.")
@click.option("--allow-insecure-small-key", is_flag=True, hidden=True)
@options.as_json
def init(
    home: Path | None,
    passphrase_file: Path | None,
    database: str | None,
    key_bits: int,
    allow_insecure_small_key: bool,
    as_json: bool,
) -> None:
    """Make a Capsule: its account, its sealing key, its database.

    Prints the address that signs admissions and settlements; it needs some coin to relay settlements.
    """
    from capsule.home import create_home, default_home

    directory = home or default_home()
    where = options.database_of(directory, database)
    words = options.read_passphrase(passphrase_file, confirm=True)
    made = create_home(directory, words, key_bits, database=where, allow_insecure_small_key=allow_insecure_small_key)
    made.state.close()
    facts = {
        "address": made.address,
        "sealing_key": "0x" + made.sealing.public.hex(),
        "key_bits": made.key_bits,
        "home": str(directory),
    }
    options.show(facts, as_json=as_json)
    if database is not None:
        talk(f"put this line into {directory / 'capsule.toml'}, so that all commands find the database:")
        talk(f"database = {json.dumps(database, ensure_ascii=False)}")
    talk("without its database and passphrase no campaign can be judged or delivered: make backups with")
    talk("`capsule backup`, which a copy of the directory is not, and keep a second copy of the passphrase elsewhere")
    talk(f"transfer some coin to {made.address}, which pays for settlements")
