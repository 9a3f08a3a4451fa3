#!/usr/bin/env python3
"""Drafts the next revision of the Capsule's database from what changed in capsule/state/tables.py.

Run it in the project's environment: .venv/bin/python scripts/new_revision.py "what changes". Read what it wrote, then
name the new number in `capsule.state.tables.REVISION`; tests/state compares tables and revisions on both databases.
"""

import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from capsule.state.migrating import migrations


def main() -> int:
    """Writes the revision's module and prints where it is."""
    if len(sys.argv) != 2:
        print('usage: scripts/new_revision.py "what changes"', file=sys.stderr)
        return 2
    head = ScriptDirectory(str(migrations())).get_current_head()
    number = f"{int(head or 0) + 1:04}"
    config = Config()
    config.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    config.set_main_option("file_template", "revision_%%(rev)s")
    with tempfile.TemporaryDirectory() as directory:
        engine = create_engine(f"sqlite:///{directory}/now.db")
        with engine.begin() as db:
            config.attributes["connection"] = db
            command.upgrade(config, "head")
            command.revision(config, sys.argv[1], autogenerate=True, rev_id=number)
        engine.dispose()
    print(Path(migrations()) / "versions" / f"revision_{number}.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
