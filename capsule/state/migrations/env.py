"""Run by Alembic: hands it the connection that the Capsule, or a developer's script, has opened."""

from alembic import context

from capsule.state.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    transactional_ddl=True,  # SQLite as well: capsule.state.engine begins its transactions itself
)
with context.begin_transaction():
    context.run_migrations()
