"""What a job costs before it is asked for, and on which terms it is: quotes, dry runs, too few credits."""

import pytest
import sqlalchemy as sa

from services.gateway.models import IdempotencyKey
from shared.ids import is_id, new_id
from shared.problems import InsufficientCredits, NotFound, QuotaExceeded, QuoteExpired, QuoteMismatch, QuoteUsed
from tests.service.gateway.conftest import DOCUMENT

KEY = {"Idempotency-Key": "k1"}


@pytest.fixture
def org_id(studio):
    return studio[0]


@pytest.fixture
def headers(studio):
    return studio[1]


@pytest.fixture(params=["/v1/jobs", "/v1/stagings"])
def order(request, client, headers, org_id, a_staging):
    """Ask for the same staging in both ways, on the given terms."""
    staging = a_staging(org_id)

    def send(key="k1", **terms):
        body = {"workflow": "staging", "inputs": staging} if request.param == "/v1/jobs" else staging
        sent = {**headers, "Idempotency-Key": key} if key else headers
        return client.post(request.param, json={**body, **terms}, headers=sent)

    return send


def _keys(db):
    with db.transaction() as session:
        return session.scalars(sa.select(IdempotencyKey.key)).all()


def test_a_quote_is_planned_by_generation_and_priced_by_credits(client, services, headers, org_id, a_staging):
    inputs = a_staging(org_id)

    answer = client.post("/v1/quotes", json={"workflow": "staging", "inputs": inputs}, headers=headers)

    quote = answer.json
    assert answer.status_code == 201
    assert is_id(quote["id"], prefix="quo")
    assert (quote["amount"], quote["totals"], quote["images"]) == (20, {"credits": 20}, 2)
    assert set(quote["lines"][0]) == {"sku", "unit", "count", "unit_amount", "amount", "price_version"}
    [planned] = services.generation.asked("quote")
    [priced] = services.credits.asked("quote")
    assert (planned["org_id"], planned["inputs"], list(planned["assets"])) == (org_id, inputs, [inputs["upload_id"]])
    assert (priced["org_id"], priced["quote_id"], priced["skus"]) == (org_id, quote["id"], {"staging.variant": 2})
    assert len(priced["fingerprint"]) == 64
    assert services.jobs == {}


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"workflow": "alchemy"}, "/workflow"),
        ({"inputs": {}}, "/inputs/upload_id"),
        ({"inputs": None}, "/inputs"),
        ({"dry_run": True}, "/dry_run"),
    ],
)
def test_a_quote_for_what_cannot_be_is_refused(client, services, headers, org_id, a_staging, change, pointer):
    body = {"workflow": "staging", "inputs": a_staging(org_id), **change}

    answer = client.post("/v1/quotes", json=body, headers=headers)

    assert answer.status_code == 400
    assert pointer in [error["pointer"] for error in answer.json["errors"]]
    assert services.quotes == {}


def test_a_quote_on_an_upload_that_is_not_there_is_refused(client, services, headers, org_id, a_staging):
    inputs = {**a_staging(org_id), "upload_id": new_id("ast")}

    answer = client.post("/v1/quotes", json={"workflow": "staging", "inputs": inputs}, headers=headers)

    assert answer.status_code == 404
    assert services.quotes == {}


@pytest.mark.parametrize("name", ["catalog", "generation", "credits"])
def test_a_quote_without_a_service_behind_is_503(client, services, headers, org_id, a_staging, name):
    body = {"workflow": "staging", "inputs": a_staging(org_id)}
    getattr(services, name).down = True

    assert client.post("/v1/quotes", json=body, headers=headers).status_code == 503


def test_a_job_is_asked_for_on_its_terms(order, services):
    quote_id = new_id("quo")

    answer = order(quote_id=quote_id, on_insufficient="partial", deadline_seconds=600)

    assert answer.status_code == 202
    [asked] = services.generation.asked("submit")
    assert (asked["quote_id"], asked["on_insufficient"], asked["dry_run"]) == (quote_id, "partial", False)
    assert asked["deadline_seconds"] == 600


def test_a_job_without_terms_is_all_or_nothing(order, services):
    order()

    [asked] = services.generation.asked("submit")
    assert (asked["quote_id"], asked["on_insufficient"], asked["dry_run"]) == (None, "reject", False)


@pytest.mark.parametrize(
    ("terms", "pointer"),
    [
        ({"on_insufficient": "beg"}, "/on_insufficient"),
        ({"quote_id": "quo_1"}, "/quote_id"),
        ({"quote_id": new_id("job")}, "/quote_id"),
        ({"dry_run": "true"}, "/dry_run"),
        ({"dry_run": 1}, "/dry_run"),
        ({"dry_run": None}, "/dry_run"),
    ],
)
def test_terms_that_make_no_sense_are_refused(order, services, terms, pointer):
    answer = order(**terms)

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
    assert services.generation.calls == []


@pytest.mark.parametrize("refusal", [QuoteExpired(), QuoteUsed(), QuoteMismatch(), NotFound("There is no such quote.")])
def test_a_quote_that_cannot_be_taken_is_told(order, services, refusal):
    services.refusal = refusal

    answer = order(quote_id=new_id("quo"))

    assert (answer.status_code, answer.json["code"]) == (refusal.status, refusal.code)


def test_a_spent_allowance_is_told_with_its_numbers(order, services):
    numbers = {
        "limit": 100,
        "used": 85,
        "requested": 180,
        "max_affordable": 15,
        "resets_at": "2026-12-01T00:00:00Z",
    }
    services.refusal = QuotaExceeded("You asked for 180 and 15 are left.", unit="plan_generations", **numbers)

    answer = order()

    assert (answer.status_code, answer.json["code"]) == (402, "quota_exceeded")
    assert {name: answer.json[name] for name in numbers} == numbers


def test_a_paused_job_is_accepted_and_says_what_it_waits_for(order, services, gateway_db):
    submit = services.generation.methods["submit"]

    def hold_nothing(**asked):
        answer = submit(**asked)
        warning = {"code": "quota_exceeded", "detail": "0 of 2 can be paid."}
        answer["job"].update(status="paused", reserved=0, waiting_reason="allowance", warnings=[warning])
        return answer

    services.generation.methods["submit"] = hold_nothing

    answer = order(on_insufficient="pause")
    again = order(on_insufficient="pause")

    assert answer.status_code == 202
    assert (answer.json["status"], answer.json["waiting_reason"]) == ("paused", "allowance")
    assert answer.json["warnings"][0]["code"] == "quota_exceeded"
    assert again.json == answer.json
    assert _keys(gateway_db) == ["k1"]
    assert len(services.generation.asked("submit")) == 1


def test_a_paused_job_whose_answer_was_lost_is_found_and_not_asked_for_again(order, services):
    services.lose_next_answer = True
    lost = order(on_insufficient="pause")
    [job] = services.jobs.values()
    job.update(status="paused", waiting_reason="allowance")

    answer = order(on_insufficient="pause")

    assert (lost.status_code, answer.status_code) == (503, 202)
    assert (answer.json["id"], answer.json["status"]) == (job["id"], "paused")
    assert len(services.generation.asked("submit")) == 1


@pytest.mark.parametrize("key", [None, "k1"])
def test_a_dry_run_tells_the_price_and_makes_nothing(order, services, gateway_db, key):
    answer = order(key, dry_run=True, on_insufficient="pause")

    assert answer.status_code == 200
    assert (answer.json["dry_run"], answer.json["amount"], answer.json["totals"]) == (True, 20, {"credits": 20})
    assert answer.json["balance"] == {"available": 80, "held": 20, "version": 1}
    assert "internal_cost" not in answer.json["lines"][0]
    [asked] = services.generation.asked("submit")
    assert (asked["dry_run"], asked["on_insufficient"]) == (True, "pause")
    assert services.jobs == {}
    assert _keys(gateway_db) == []


def test_a_dry_run_is_never_replayed_and_leaves_the_key_to_the_job(order, services):
    runs = [order("k1", dry_run=True) for _ in range(2)]
    job = order("k1")
    late = order("k1", dry_run=True)

    assert [run.status_code for run in (*runs, job, late)] == [200, 200, 202, 200]
    assert all("Idempotency-Replayed" not in run.headers for run in (*runs, job, late))
    asked = services.generation.asked("submit")
    assert len({submission["job_id"] for submission in asked}) == 4
    assert list(services.jobs) == [job.json["id"]]


def test_a_dry_run_meets_the_same_refusals(order, services, gateway_db):
    services.refusal = InsufficientCredits("You need 20.", unit="credits", required=20, available=5, max_affordable=0)

    answer = order(dry_run=True)

    assert (answer.status_code, answer.json["max_affordable"]) == (402, 0)
    assert _keys(gateway_db) == []


def test_a_dry_run_does_not_wait(client, headers, org_id, a_staging):
    answer = client.post(
        "/v1/stagings", json={**a_staging(org_id), "dry_run": True}, headers={**headers, **KEY, "Prefer": "wait=30"}
    )

    assert answer.json["dry_run"] is True


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"dry_run"', b'{"dry_run": [true]}', b"[" * 5000])
def test_what_cannot_be_read_is_no_dry_run(client, headers, body):
    answer = client.post("/v1/jobs", data=body, headers=headers, content_type="application/json")

    assert (answer.status_code, answer.json["code"]) == (400, "idempotency_key_required")


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/stagings"])
def test_the_document_lists_what_can_keep_a_job_from_being_paid(path):
    responses = DOCUMENT["paths"][path]["post"]["responses"]

    caps = ["daily_cap_reached", "key_cap_reached"]
    assert responses["402"]["x-problem-codes"] == sorted([*caps, "insufficient_credits", "quota_exceeded"])
    assert {"quote_expired", "quote_used"} < set(responses["409"]["x-problem-codes"])
    assert "quote_mismatch" in responses["422"]["x-problem-codes"]
