"""`capsule serve`: runs a Capsule."""

from pathlib import Path

import click

from capsule.commands import options

__all__ = ["serve"]


@click.command()
@options.home
@options.passphrase
@options.network
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8700, show_default=True, help="0 takes a free one.")
@click.option("--poll", type=click.FloatRange(0.05, 3600), default=1.0, show_default=True, help="Seconds a step.")
def serve(
    home: Path | None, passphrase_file: Path | None, network: Path | None, host: str, port: int, poll: float
) -> None:
    """Serve the API and judge rounds until stopped.

    Prints one JSON line with its url when it listens; the log goes to stderr.
    """
    from capsule.home import default_home
    from capsule.serving import serve as run
    from sonar.config import Network

    found = Network.load(network)
    run(home or default_home(), options.read_passphrase(passphrase_file), found, host=host, port=port, poll=poll)
