"""Alembic's entry point: runs the migrations on the connection that `store.schema` hands over."""

from alembic import context

from agentmail.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=connection.dialect.name == "sqlite")
# No begin_transaction(): the caller's transaction holds the lock and commits everything or nothing.
context.run_migrations()
