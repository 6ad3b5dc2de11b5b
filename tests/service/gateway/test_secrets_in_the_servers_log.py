"""What PostgreSQL writes down of statements that fail: nothing that a password or a key can be guessed from."""

import pytest
import sqlalchemy as sa

from services.gateway import admin_keys, keys
from services.gateway.models import Member
from shared.ids import new_id


@pytest.fixture
def postgres_log(postgres):
    return postgres.log


@pytest.mark.parametrize(
    "fails",
    [
        {"email": "ada@example.com"},  # taken: the statement would be logged
        {"email": None, "role": "nobody"},  # refused by a check: the row would be
    ],
)
def test_a_statement_that_fails_leaves_no_hash_in_the_log(gateway_db, postgres_log, studio, fails):
    org_id, _ = studio
    person = {"org_id": org_id, "role": "editor", "status": "active", "password_hash": "$argon2id$secret"}
    with gateway_db.transaction() as session:
        session.add(Member(id=new_id("usr"), email="ada@example.com", **person))
    before = len(postgres_log.read_text())

    with pytest.raises(sa.exc.IntegrityError), gateway_db.transaction() as session:
        session.execute(sa.insert(Member).values(id=new_id("usr"), **{**person, **fails}))

    written = postgres_log.read_text()[before:]
    assert "constraint" in written
    assert "argon2id" not in written


def test_a_taken_name_is_found_before_anything_fails(gateway_db, postgres_log):
    admin_keys.create(gateway_db, key_id=new_id("adk"), name="ada", secret=keys.new(keys.ADMIN))
    before = len(postgres_log.read_text())

    with pytest.raises(admin_keys.NameTaken):
        admin_keys.create(gateway_db, key_id=new_id("adk"), name="ada", secret=keys.new(keys.ADMIN))

    assert postgres_log.read_text()[before:] == ""
