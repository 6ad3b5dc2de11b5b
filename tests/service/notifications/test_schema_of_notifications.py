"""The migrations and the models describe the same tables."""

from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.notifications.models import Model
from services.notifications.sessions import EndedJob
from shared.database import delivery_metadata


def test_the_migrations_build_what_the_models_say(notifications_db):
    with notifications_db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": _is_ours})
        differences = compare_metadata(context, Model.metadata)

    assert differences == []


def test_the_migrations_make_every_check_the_models_name(notifications_db):
    with notifications_db.engine.connect() as connection:
        made = set(connection.scalars(sa.text("SELECT conname FROM pg_constraint WHERE contype = 'c'")))

    named = {
        constraint.name
        for table in Model.metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, sa.CheckConstraint)
    }
    assert named
    assert named <= made


def test_both_kinds_of_transaction_can_be_opened(notifications_db):
    for org_id in (None, "org_first"):
        with notifications_db.transaction(org_id=org_id) as session:
            assert session.execute(sa.text("SELECT 1")).scalar_one() == 1


def test_every_table_with_an_organization_is_behind_the_wall(notifications_db):
    with notifications_db.engine.connect() as connection:
        walled = set(
            connection.scalars(sa.text("SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity"))
        )

    assert EndedJob.__tablename__ in walled
    assert walled == {table.name for table in Model.metadata.tables.values() if "org_id" in table.columns}


def _is_ours(_item: Any, name: Any, kind: str, _reflected: Any, _compared: Any) -> bool:
    return not (kind == "table" and name in {*delivery_metadata.tables, "alembic_version"})
