"""The migrations and the models describe the same tables."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.gateway.models import Model
from shared.database import delivery_metadata


def test_the_migrations_build_what_the_models_say(gateway_db):
    with gateway_db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": _is_ours})
        differences = compare_metadata(context, Model.metadata)

    assert differences == []


def _is_ours(_item, name, kind, _reflected, _compared):
    return not (kind == "table" and name in {*delivery_metadata.tables, "alembic_version"})
