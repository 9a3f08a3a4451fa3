"""The revisions of the database's schema, for Alembic. scripts/new_revision.py drafts the next one."""
