"""The database of notifications: for now the delivery tables alone."""

import sqlalchemy as sa

from shared.database import delivery_metadata


def test_the_database_has_the_delivery_tables_and_no_others(notifications_db):
    with notifications_db.engine.connect() as connection:
        tables = set(sa.inspect(connection).get_table_names())

    assert tables == {*delivery_metadata.tables, "alembic_version"}


def test_both_kinds_of_transaction_can_be_opened(notifications_db):
    for org_id in (None, "org_first"):
        with notifications_db.transaction(org_id=org_id) as session:
            assert session.execute(sa.text("SELECT 1")).scalar_one() == 1
