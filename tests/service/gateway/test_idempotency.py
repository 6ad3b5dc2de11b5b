"""A request that is sent again: answered again, and what it makes is made once."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from services.gateway import idempotency
from services.gateway.models import IdempotencyKey
from shared.ids import is_id
from shared.problems import BadRequest, Conflict, InsufficientCredits, NotFound, Problem


@pytest.fixture
def order(client, studio, a_staging):
    """Order a staging with an Idempotency-Key; the same body each time."""
    org_id, headers = studio
    body = a_staging(org_id)

    def send(key="k1", *, path="/v1/stagings", **fields):
        return client.post(path, json={**body, **fields}, headers={**headers, "Idempotency-Key": key})

    return send


def _rows(db):
    with db.transaction() as session:
        return session.scalars(sa.select(IdempotencyKey)).all()


def _end_leases(db):
    with db.transaction() as session:
        session.execute(sa.update(IdempotencyKey).values(lease_until=sa.func.now() - sa.text("interval '1 second'")))


def test_a_paid_request_without_a_key_is_refused_before_anything_is_looked_at(client, studio):
    _, headers = studio

    answer = client.post("/v1/stagings", json={"nonsense": 1}, headers=headers)

    assert answer.status_code == 400
    assert answer.json["code"] == "idempotency_key_required"


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a\tb", "\xfc"])
def test_a_key_that_is_none_is_refused(order, key):
    answer = order(key)

    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"] == "/headers/Idempotency-Key"


def test_the_same_request_again_gets_the_same_answer_and_one_job(order, services):
    first = order()
    services.finish(first.json["id"])  # the answer is the one of then, whatever has happened since
    again = order()

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json == first.json
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert len(services.jobs) == 1
    assert len(services.generation.asked("submit")) == 1


def test_another_key_is_another_job(order, services):
    order("k1")
    order("k2")

    assert len(services.jobs) == 2


@pytest.mark.parametrize("change", [{"variants": 3}, {"path": "/v1/stagings?"}, {"path": "/v1/jobs"}])
def test_the_same_key_for_another_request_is_refused(order, services, change):
    order()

    answer = order(**change)

    if change == {"path": "/v1/stagings?"}:
        assert answer.status_code == 202  # an empty query is none
    else:
        assert (answer.status_code, answer.json["code"]) == (422, "idempotency_key_reused")
    assert len(services.jobs) == 1


def test_the_key_is_checked_before_the_body(order):
    order()

    answer = order(surplus=1)

    assert answer.json["code"] == "idempotency_key_reused"


def test_fifty_at_once_make_one_job(order, services):
    with ThreadPoolExecutor(50) as clients:
        answers = list(clients.map(lambda _: order(), range(50)))

    accepted = [answer for answer in answers if answer.status_code == 202]
    waiting = [answer for answer in answers if answer.status_code == 409]
    assert len(services.jobs) == 1
    assert len(accepted) + len(waiting) == 50
    assert accepted
    assert {answer.json["id"] for answer in accepted} == set(services.jobs)
    assert all(answer.headers["Retry-After"] and answer.json["code"] == "request_in_progress" for answer in waiting)


def test_two_organizations_may_use_the_same_key(order, an_organization, a_staging, client, services):
    order("same")
    other_id, other_headers = an_organization()

    answer = client.post("/v1/stagings", json=a_staging(other_id), headers={**other_headers, "Idempotency-Key": "same"})

    assert answer.status_code == 202
    assert len(services.jobs) == 2


def test_a_lost_answer_is_found_again_under_the_same_id(order, services):
    services.lose_next_answer = True
    lost = order()

    again = order()

    assert (lost.status_code, again.status_code) == (503, 202)
    assert list(services.jobs) == [again.json["id"]]
    assert again.json["balance"] == {"available": 100, "held": 0, "version": 1}
    assert len(services.generation.asked("submit")) == 1


def test_a_gateway_that_died_before_asking_is_made_up_for_after_the_lease(order, gateway_db, monkeypatch):
    monkeypatch.setattr("services.gateway.idempotency.crash_point", _die)
    with pytest.raises(KeyboardInterrupt):
        order()
    monkeypatch.undo()

    early = order()
    _end_leases(gateway_db)
    late = order()

    [row] = _rows(gateway_db)
    assert (early.status_code, early.json["code"]) == (409, "request_in_progress")
    assert int(early.headers["Retry-After"]) >= 1
    assert late.status_code == 202
    assert late.json["id"] == row.resource_id
    assert row.tries == 2


def test_a_gateway_that_died_after_asking_gives_the_same_job_after_the_lease(order, services, gateway_db, monkeypatch):
    monkeypatch.setattr("services.gateway.jobs.crash_point", _die)
    with pytest.raises(KeyboardInterrupt):
        order()
    monkeypatch.undo()

    _end_leases(gateway_db)
    late = order()

    assert late.status_code == 202
    assert list(services.jobs) == [late.json["id"]]


@pytest.mark.parametrize(
    "refusal", [BadRequest(), NotFound(), Conflict(), InsufficientCredits(required=20, available=0)]
)
def test_a_refusal_frees_the_key(order, services, gateway_db, refusal):
    services.refusal = refusal
    refused = order()
    freed = _rows(gateway_db)

    services.refusal = None
    answer = order(variants=1)

    assert refused.status_code == refusal.status
    assert freed == []
    assert answer.status_code == 202
    assert "Idempotency-Replayed" not in answer.headers


def test_a_refused_body_frees_the_key(order, gateway_db):
    assert order(variants=9).status_code == 400
    assert _rows(gateway_db) == []
    assert order().status_code == 202


@pytest.mark.parametrize("failure", [Problem(), RuntimeError("a bug")])
def test_after_a_failure_of_ours_the_same_id_is_tried_again(order, services, gateway_db, failure):
    services.refusal = failure
    failed = order()
    [row] = _rows(gateway_db)

    services.refusal = None
    reused = order(variants=1)
    answer = order()

    assert failed.status_code == 500
    assert reused.status_code == 422
    assert answer.status_code == 202
    assert answer.json["id"] == row.resource_id


def test_a_refusal_of_a_second_try_keeps_the_id_of_the_first(order, services, gateway_db):
    services.refusal = Problem()
    order()
    services.refusal = NotFound()
    order()
    [row] = _rows(gateway_db)

    services.refusal = None
    answer = order()

    assert answer.json["id"] == row.resource_id


def test_a_job_that_was_refused_its_credits_unseen_is_ordered_anew(order, services):
    services.lose_next_answer = True
    order()
    [refused] = services.jobs.values()
    refused["status"] = "rejected"

    answer = order()

    assert answer.status_code == 202
    assert answer.json["id"] != refused["id"]
    assert order().json["id"] == answer.json["id"]


def test_a_job_that_is_given_up_while_it_is_asked_for_again_is_no_answer(order, services):
    services.lose_next_answer = True
    order()
    [waiting] = services.jobs.values()
    waiting["status"] = "awaiting_credit"
    submit = services.generation.methods["submit"]

    def give_up_meanwhile(**asked):
        answer = submit(**asked)
        waiting["status"] = "rejected"
        return {**answer, "job": waiting}

    services.generation.methods["submit"] = give_up_meanwhile
    unavailable = order()
    services.generation.methods["submit"] = submit
    answer = order()

    assert (unavailable.status_code, answer.status_code) == (503, 202)
    assert answer.json["id"] != waiting["id"]


def test_a_job_that_still_waits_for_its_credits_is_asked_for_again(order, services):
    services.lose_next_answer = True
    order()
    [waiting] = services.jobs.values()
    waiting["status"] = "awaiting_credit"

    answer = order()

    assert answer.json["id"] == waiting["id"]
    assert len(services.generation.asked("submit")) == 2


def test_an_answer_that_cannot_be_kept_is_given_all_the_same(order, gateway_db, monkeypatch):
    monkeypatch.setattr("services.gateway.idempotency.KEEP", sa.text("SELECT no_such_column FROM idempotency_keys"))
    answer = order()
    monkeypatch.undo()
    _end_leases(gateway_db)

    again = order()

    assert (answer.status_code, again.status_code) == (202, 202)
    assert again.json["id"] == answer.json["id"]


def test_who_lost_the_lease_changes_nothing_any_more(gateway_db):
    scope = idempotency.Scope(org_id="org_1", principal_id="key_1", key="k")
    slow = idempotency.take(gateway_db, scope, fingerprint="f", resource_id="job_1")
    _end_leases(gateway_db)
    fast = idempotency.take(gateway_db, scope, fingerprint="f", resource_id="job_2")

    idempotency.settle(gateway_db, scope, slow, idempotency.FORGET)

    [row] = _rows(gateway_db)
    assert (row.tries, fast.tries) == (2, 2)
    assert fast.resource_id == "job_1"


def test_keys_are_kept_for_seven_days(order, gateway_db):
    order("new")
    order("old")
    with gateway_db.transaction() as session:
        session.execute(
            sa.update(IdempotencyKey)
            .where(IdempotencyKey.key == "old")
            .values(created_at=sa.func.now() - sa.text("interval '7 days 1 minute'"))
        )

    forgotten = idempotency.prune(gateway_db)

    assert forgotten == 1
    assert [row.key for row in _rows(gateway_db)] == ["new"]


def test_a_tenant_sees_no_request_of_another(order, an_organization, gateway_db):
    order()
    other_id, _ = an_organization()

    with gateway_db.transaction(org_id=other_id) as session:
        assert session.scalars(sa.select(IdempotencyKey)).all() == []


def test_a_kept_key_holds_a_job_id(order, gateway_db):
    order()

    [row] = _rows(gateway_db)
    assert is_id(row.resource_id, prefix="job")


def _die(_name):
    raise KeyboardInterrupt  # like kill -9 it passes every except Exception
