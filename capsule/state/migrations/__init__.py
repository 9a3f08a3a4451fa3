"""The revisions of the database's schema, for Alembic. docs/operations.md tells how one is added."""
