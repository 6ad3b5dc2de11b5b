"""The migrations and the models describe the same tables."""

from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.credits.models import Model
from shared.database import Database, delivery_metadata


def test_the_migrations_build_what_the_models_say(credits_db: Database) -> None:
    with credits_db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": _is_ours})
        differences = compare_metadata(context, Model.metadata)

    assert differences == []


def test_the_migrations_make_every_check_the_models_name(credits_db: Database) -> None:
    with credits_db.engine.connect() as connection:
        made = set(connection.scalars(sa.text("SELECT conname FROM pg_constraint WHERE contype = 'c'")))

    named = {
        constraint.name
        for table in Model.metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, sa.CheckConstraint)
    }
    assert named
    assert named <= made


def _is_ours(_item: Any, name: Any, kind: str, _reflected: Any, _compared: Any) -> bool:
    return not (kind == "table" and name in {*delivery_metadata.tables, "alembic_version"})
