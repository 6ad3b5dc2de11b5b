"""Members and keys of the first version, with everything that can be in them, move to today's tables."""

import secrets
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import IntegrityError

from services.gateway.models import ApiKey, Member
from shared.database import Database
from shared.migrations import upgrade

MIGRATIONS = Path(__file__).resolve().parents[3] / "services" / "gateway" / "migrations"
FIRST_VERSION = """
    INSERT INTO organizations (id, name, created_by) VALUES ('org_1', 'One', 'root'), ('org_2', 'Two', 'root');
    INSERT INTO members (id, org_id, email, role)
        VALUES ('usr_1', 'org_1', 'Ada@Example.com', 'owner'), ('usr_2', 'org_2', 'ada@example.com', 'owner'),
            ('usr_3', 'org_2', NULL, 'owner');
    INSERT INTO api_keys (id, org_id, user_id, name, prefix, secret_sha256, livemode)
        VALUES ('key_1', 'org_1', 'usr_1', 'First key', 'sk_live_abcdef', 'hash', true)
"""


@pytest.fixture
def old(postgres):
    """A gateway's database of the first version, with two organizations."""
    service = f"gateway_{secrets.token_hex(4)}"
    url = postgres.create_service_database(service)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = url
    command.upgrade(config, "0001")
    database = Database(url, application=service)
    with database.transaction() as session:
        session.execute(sa.text(FIRST_VERSION))
    yield database
    database.engine.dispose()
    postgres.drop_database(service)


def test_owners_known_by_address_may_still_sign_up_and_their_keys_may_do_everything(old):
    upgrade("gateway", url=old.url.render_as_string(hide_password=False))

    with old.transaction() as session:
        members = session.execute(sa.select(Member.email, Member.status).order_by(Member.id)).all()
        [key] = session.scalars(sa.select(ApiKey))
    assert members == [("ada@example.com", "invited"), ("ada@example.com", "invited"), (None, "active")]
    assert set(key.scopes) == {"read", "write", "spend", "manage"}
    assert (key.workflows, key.daily_cap, key.last_used_at) == (None, None, None)


def test_a_person_belongs_to_one_organization(old):
    upgrade("gateway", url=old.url.render_as_string(hide_password=False))
    with old.transaction() as session:
        session.execute(sa.update(Member).where(Member.id == "usr_1").values(status="active"))

    with pytest.raises(IntegrityError, match="members_one_organization"), old.transaction() as session:
        session.execute(sa.update(Member).where(Member.id == "usr_2").values(status="active"))


@pytest.mark.parametrize("table", ["invitations", "auth_sessions", "password_resets"])
def test_the_new_tables_stand_behind_the_tenant_wall(gateway_db, table):
    with gateway_db.transaction() as session:
        walls = session.execute(
            sa.text("SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = CAST(:table AS regclass)"),
            {"table": table},
        ).one()
        policies = session.execute(
            sa.text("SELECT policyname FROM pg_policies WHERE tablename = :table ORDER BY 1"), {"table": table}
        ).scalars()
        assert walls == (True, True)
        assert list(policies) == ["system", "tenant"]


@pytest.mark.parametrize("table", ["admin_keys", "auth_attempts"])
def test_a_tenant_has_no_business_with_administrators_and_attempts(gateway_db, table):
    with (
        pytest.raises(sa.exc.ProgrammingError, match="permission denied"),
        gateway_db.transaction(org_id="org_1") as session,
    ):
        session.execute(sa.text(f"SELECT count(*) FROM {table}"))
