"""`capsule backup`, `capsule restore` and `capsule held`: copies of a Capsule, and what a restored one holds back."""

from datetime import UTC, datetime
from pathlib import Path

import click

from capsule.commands import options
from sonar.cli_support import echo_json, talk

__all__ = ["backup", "held", "restore"]

_FILE = click.argument("file", type=click.Path(path_type=Path))
_backup_passphrase = click.option(
    "--backup-passphrase-file",
    type=click.Path(path_type=Path),
    help="A file that starts with the backup's own passphrase. [SONAR_CAPSULE_BACKUP_PASSPHRASE, else the Capsule's]",
)


@click.command()
@_FILE
@options.home
@options.database
@options.passphrase
@_backup_passphrase
@options.as_json
def backup(
    file: Path,
    home: Path | None,
    database: str | None,
    passphrase_file: Path | None,
    backup_passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Write a backup of the whole database to FILE, encrypted, while the Capsule may go on serving.

    With a passphrase of its own the backup needs none of the Capsule's, and whoever can open it reads no key.
    """
    from capsule.custody.backup import back_up
    from capsule.home import default_home, open_state
    from capsule.secret import Vault

    directory = home or default_home()
    own = options.optional_passphrase(backup_passphrase_file, kind="backup")
    words = own or options.read_passphrase(passphrase_file)
    state = open_state(directory, options.database_of(directory, database), migrate=False)
    try:
        header = state.setting("vault")
        if own is None and header is not None:
            Vault(words, header)  # a mistyped passphrase would show only when the backup is needed
        manifest = back_up(state, file, words)
    finally:
        state.close()
    facts = {
        "file": str(file),
        "bytes": file.stat().st_size,
        "address": manifest.address,
        "audit_length": manifest.audit_length,
        "audit_head": "0x" + manifest.audit_hash,
    }
    options.show(facts, as_json=as_json)


@click.command()
@_FILE
@options.home
@options.database
@options.passphrase
@_backup_passphrase
@click.option("--moved", is_flag=True, help="The Capsule was stopped before this backup and never started since.")
@options.as_json
def restore(
    file: Path,
    home: Path | None,
    database: str | None,
    passphrase_file: Path | None,
    backup_passphrase_file: Path | None,
    moved: bool,
    as_json: bool,
) -> None:
    """Restore the backup FILE into an empty home or database; nothing is ever overwritten.

    The former Capsule must be stopped for good. What it may have done after the backup is held back: `capsule held`.
    """
    from capsule.config import shown_url
    from capsule.custody.restoring import restore as run
    from capsule.home import default_home, new_home

    directory = home or default_home()
    own = options.optional_passphrase(backup_passphrase_file, kind="backup")
    words = options.read_passphrase(passphrase_file)
    url = options.database_of(directory, database)
    with new_home(directory, url) as target:
        manifest = run(file, own or words, words, target, moved=moved)
    facts = {
        **({"home": str(directory)} if url is None else {"database": shown_url(url)}),
        "address": manifest.address,
        "made": datetime.fromtimestamp(manifest.made, UTC).isoformat(),
        "audit_length": manifest.audit_length,
        "audit_head": "0x" + manifest.audit_hash,
    }
    options.show(facts, as_json=as_json)
    if url is not None:
        talk(f"nothing was written to a home: to serve it, have {directory / 'capsule.toml'} name this database")
    if not moved:
        talk("rounds that the former Capsule may have signed are held back: see `capsule held` once this one serves")


@click.command()
@options.home
@options.database
@options.passphrase
@click.option("--release", metavar="CAMPAIGN", help="Let this campaign's round be signed again. Needs the passphrase.")
@options.as_json
def held(
    home: Path | None, database: str | None, passphrase_file: Path | None, release: str | None, as_json: bool
) -> None:
    """List the campaigns whose present round is held back since a restore, because it may have been signed before.

    Release one only if no settlement of that round was ever published: whoever has two can choose between them.
    """
    from capsule.custody.quarantine import Quarantine
    from capsule.home import default_home, open_home, open_state
    from sonar.errors import ConfigError
    from sonar.units import campaign_id_of

    directory = home or default_home()
    url = options.database_of(directory, database)
    released = None if release is None else campaign_id_of(release)
    if released is None:
        state = open_state(directory, url, migrate=False)
    else:
        state = open_home(directory, options.read_passphrase(passphrase_file), database=url, migrate=False).state
    try:
        quarantine = Quarantine(state)
        if released is not None and not quarantine.release(released):
            raise ConfigError(f"campaign 0x{released.hex()} is not held: `capsule held` lists those that are")
        rows = [{"campaign": "0x" + campaign.hex(), "round": number} for campaign, number in quarantine.held().items()]
    finally:
        state.close()
    if released is not None:
        talk(f"released: the round of 0x{released.hex()} can be judged, and its settlement signed, again")
    if as_json:
        echo_json(rows)
        return
    if not rows:
        talk("nothing is held")
    for row in rows:
        click.echo(f"{row['campaign']}  {'not seen yet' if row['round'] is None else 'round ' + str(row['round'])}")
