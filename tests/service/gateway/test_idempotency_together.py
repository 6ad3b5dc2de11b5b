"""Keys claimed and answers kept at the same time: one statement for all, and each request keeps what is its own."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from services.gateway import idempotency
from services.gateway.idempotency import Claim, Scope, take
from services.gateway.models import IdempotencyKey
from shared import database
from shared.problems import Problem


@pytest.fixture
def statements(gateway_db):
    """The statements about keys that the database is sent."""
    sent = []

    def note(_connection, _cursor, statement, *_):
        if "idempotency_keys" in statement:
            sent.append(statement)

    sa.event.listen(gateway_db.engine, "before_cursor_execute", note)
    yield sent
    sa.event.remove(gateway_db.engine, "before_cursor_execute", note)


def _rows(db):
    with db.transaction() as session:
        return {(row.org_id, row.key): row for row in session.scalars(sa.select(IdempotencyKey))}


def _claimed(db, scope, *, fingerprint="f", resource_id="job_1"):
    """Claim a key; give the claim, or the code of the refusal."""
    try:
        return take(db, scope, fingerprint=fingerprint, resource_id=resource_id)
    except Problem as problem:
        return problem.code


def _all_at_once(function, items):
    with ThreadPoolExecutor(len(items)) as callers:
        return list(callers.map(function, items))


def test_requests_of_several_organizations_at_once_make_a_job_each_with_few_statements(
    client, an_organization, a_staging, services, gateway_db, statements
):
    studios = [an_organization() for _ in range(3)]
    bodies = {org_id: a_staging(org_id) for org_id, _ in studios}
    statements.clear()

    def order(number):
        org_id, headers = studios[number % 3]
        sent = {**headers, "Idempotency-Key": f"k{number}"}
        return client.post("/v1/stagings", json=bodies[org_id], headers=sent)

    answers = _all_at_once(order, range(30))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json["id"] for answer in answers} & set(services.jobs)) == 30
    rows = _rows(gateway_db)
    for number, answer in enumerate(answers):
        row = rows[studios[number % 3][0], f"k{number}"]
        assert (row.resource_id, row.status) == (answer.json["id"], 202)
        assert answer.json["id"] in row.body
    assert len(statements) < 60  # one by one they would be 2 for each


def test_a_key_that_is_claimed_twice_in_one_moment_is_claimed_once(gateway_db):
    scope = Scope(org_id="org_a", principal_id="key_1", key="k")

    taken = _all_at_once(lambda number: _claimed(gateway_db, scope, resource_id=f"job_{number}"), range(20))

    claims = [each for each in taken if isinstance(each, Claim)]
    assert len(claims) == 1
    assert taken.count("request_in_progress") == 19
    assert _rows(gateway_db)["org_a", "k"].resource_id == claims[0].resource_id


def test_one_that_is_reused_for_another_request_is_refused_among_others_that_are_not(gateway_db):
    scope = Scope(org_id="org_a", principal_id="key_1", key="known")
    _claimed(gateway_db, scope, fingerprint="first")
    asked = [("known", "second"), ("known", "first"), ("new", "third"), ("newer", "fourth")]

    taken = _all_at_once(
        lambda each: _claimed(
            gateway_db, Scope(org_id="org_a", principal_id="key_1", key=each[0]), fingerprint=each[1]
        ),
        asked,
    )

    assert taken[:2] == ["idempotency_key_reused", "request_in_progress"]
    assert all(isinstance(each, Claim) for each in taken[2:])


def test_claims_of_one_organization_are_made_behind_the_wall_and_those_of_several_by_the_system(
    gateway_db, monkeypatch
):
    entered = []
    transaction = database.Database.transaction

    @contextlib.contextmanager
    def noted(self, *, org_id=None, **more):
        entered.append(org_id)
        with transaction(self, org_id=org_id, **more) as session:
            yield session

    monkeypatch.setattr(database.Database, "transaction", noted)
    one = [idempotency.Asked(scope=Scope(org_id="org_a", principal_id="k", key=key), fingerprint="f", resource_id="r")
           for key in ("a", "b")]  # fmt: skip
    other = idempotency.Asked(scope=Scope(org_id="org_b", principal_id="k", key="a"), fingerprint="f", resource_id="r")

    idempotency.take_together(gateway_db, one)
    idempotency.take_together(gateway_db, [*one, other])

    assert entered == ["org_a", None]
