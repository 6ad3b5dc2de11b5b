"""A log of the version before is told, added up and found as today's is."""

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from services.notifications import activity, summaries
from shared import events
from shared.database import Database
from shared.migrations import upgrade
from tests.service.notifications.mails import rows
from tests.service.notifications.test_telling import a_member, choose
from tests.service.notifications.told import finished, started

MIGRATIONS = Path(__file__).resolve().parents[3] / "services" / "notifications" / "migrations"
WEDNESDAY = datetime(2031, 5, 7, 12, 0, tzinfo=UTC)
RECORD = sa.text("""
    INSERT INTO recorded_events (org_id, sequence, event_id, type, body, job_id, recorded_at, of_test_key)
    VALUES ('org_1', :number, :id, :type, :body, :job_id, :recorded_at, :of_test_key)
""")


@pytest.fixture
def old(postgres):
    """The database of notifications before events were marked, with a log of three events."""
    service = f"notifications_{secrets.token_hex(4)}"
    url = postgres.create_service_database(service)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = url
    command.upgrade(config, "0006")
    database = Database(url, application=service)
    items = [started("org_1"), finished("org_1", succeeded=3, failed=1), finished("org_1", livemode=False)]
    with database.transaction() as session:
        session.execute(sa.text("INSERT INTO event_sequences (org_id, last) VALUES ('org_1', 3)"))
        for number, item in enumerate(items, start=1):
            shown = events.public(item)
            values = {
                "number": number,
                "id": shown["id"],
                "type": shown["type"],
                "body": msgspec.json.encode(shown).decode(),
                "job_id": item.job_id,
                "recorded_at": WEDNESDAY - timedelta(days=4),
                "of_test_key": not getattr(item, "livemode", True),
            }
            session.execute(RECORD, values)
    yield database
    database.engine.dispose()
    postgres.drop_database(service)


def test_a_log_of_the_version_before_is_told_and_added_up(old):
    upgrade("notifications", url=old.url.render_as_string(hide_password=False))
    old.engine.dispose()
    choose(old, "org_1", a_member(old, "org_1"), email={"weekly_usage_summary": True})

    with old.transaction(org_id="org_1") as session:
        told = activity.activity(session, org_id="org_1", livemode=True)["data"]
    summaries.send_weekly(old, now=WEDNESDAY)

    assert [line["text"].partition(" at ")[0] for line in told] == [
        "Staging was completed, with 3 of 4 images generated"
    ]
    ((_, facts),) = [row for row in rows(old, "kind, facts") if row[0] == "weekly_usage_summary"]
    assert (facts["jobs"], facts["images"], facts["failed"]) == (1, 3, 1)
