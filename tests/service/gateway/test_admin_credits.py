"""What an administrator does to an organization's credits, and that it is written down who did it, and why."""

import pytest

from shared.ids import is_id, new_id
from shared.problems import Conflict

GRANT = {"amount": 50, "kind": "purchased", "reason": "order 17"}
ADJUSTMENT = {"amount": -5, "reason": "counted twice"}


@pytest.fixture
def org_id(studio):
    return studio[0]


@pytest.fixture
def post(client, admin):
    def send(path, body):
        return client.post(f"/v1/admin/{path}", json=body, headers={**admin, "Idempotency-Key": new_id("key")})

    return send


@pytest.fixture
def job_id(client, studio, a_staging):
    org_id, headers = studio
    answer = client.post("/v1/stagings", json=a_staging(org_id), headers={**headers, "Idempotency-Key": "k"})
    return answer.json["id"]


def test_a_grant_names_who_gave_it_and_why(post, services, org_id):
    answer = post(f"organizations/{org_id}/grants", {**GRANT, "expires_at": "2999-01-01T00:00:00+01:00", "priority": 5})

    grant = answer.json
    assert answer.status_code == 201
    assert is_id(grant["id"], prefix="grt")
    assert (grant["org_id"], grant["amount"], grant["balance"]["available"]) == (org_id, 50, 150)
    assert services.credits.asked("grant") == [
        {
            "grant_id": grant["id"],
            "org_id": org_id,
            "amount": 50,
            "kind": "purchased",
            "reason": "order 17",
            "actor": "admin:root",
            "expires_at": "2998-12-31T23:00:00.000000Z",
            "priority": 5,
        }
    ]


def test_a_grant_is_good_for_ever_where_nothing_is_said(post, services, org_id):
    answer = post(f"organizations/{org_id}/grants", GRANT)

    [asked] = services.credits.asked("grant")
    assert (asked["expires_at"], asked["priority"]) == (None, None)
    assert (answer.json["expires_at"], answer.json["priority"]) == (None, None)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"amount": 0}, "/amount"),
        ({"amount": -1}, "/amount"),
        ({"amount": 1_000_000_001}, "/amount"),
        ({"amount": 1.5}, "/amount"),
        ({"amount": "50"}, "/amount"),
        ({"amount": True}, "/amount"),
        ({"amount": None}, "/amount"),
        ({"kind": "gift"}, "/kind"),
        ({"reason": ""}, "/reason"),
        ({"reason": "  \n"}, "/reason"),
        ({"reason": "x" * 501}, "/reason"),
        ({"expires_at": "2020-01-01"}, "/expires_at"),
        ({"expires_at": "tomorrow"}, "/expires_at"),
        ({"priority": -1}, "/priority"),
        ({"priority": 101}, "/priority"),
        ({"unit": "credits"}, "/unit"),
        ({"actor": "admin:somebody"}, "/actor"),
    ],
)
def test_a_grant_that_makes_no_sense_is_refused(post, services, org_id, change, pointer):
    answer = post(f"organizations/{org_id}/grants", {**GRANT, **change})

    assert answer.status_code == 400
    assert {error["pointer"] for error in answer.json["errors"]} == {pointer}
    assert services.moved == {}


@pytest.mark.parametrize("missing", ["amount", "kind", "reason"])
def test_a_grant_says_how_much_of_what_and_why(post, services, org_id, missing):
    answer = post(f"organizations/{org_id}/grants", {name: GRANT[name] for name in GRANT if name != missing})

    assert answer.json["errors"][0] == {
        "pointer": f"/{missing}",
        "code": "required",
        "detail": "Missing data for required field.",
    }
    assert services.moved == {}


@pytest.mark.parametrize("unit", ["credits", "plan_generations"])
def test_an_adjustment_adds_or_takes_away(post, services, org_id, unit):
    answer = post(f"organizations/{org_id}/adjustments", {**ADJUSTMENT, "unit": unit})

    made = answer.json
    assert answer.status_code == 201
    assert is_id(made["id"], prefix="adj")
    assert (made["amount"], made["unit"], made["balance"]["available"]) == (-5, unit, 95)
    assert services.credits.asked("adjust") == [
        {
            "adjustment_id": made["id"],
            "org_id": org_id,
            "amount": -5,
            "unit": unit,
            "reason": "counted twice",
            "actor": "admin:root",
        }
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 0},
        {"amount": -1_000_000_001},
        {"amount": 1_000_000_001},
        {"amount": True},
        {"unit": "euros"},
        {"reason": " "},
        {"kind": "purchased"},
    ],
)
def test_an_adjustment_that_makes_no_sense_is_refused(post, services, org_id, change):
    assert post(f"organizations/{org_id}/adjustments", {**ADJUSTMENT, **change}).status_code == 400
    assert services.moved == {}


def test_an_adjustment_below_nothing_is_refused(post, services, org_id):
    def adjust(**_):
        raise Conflict("There is less.")

    services.credits.methods["adjust"] = adjust

    assert post(f"organizations/{org_id}/adjustments", ADJUSTMENT).status_code == 409


@pytest.mark.parametrize("generation_id", [None, new_id("gen")])
def test_a_refund_is_of_a_job_or_of_one_generation(post, services, org_id, job_id, generation_id):
    body = {"reason": "blurred"} if generation_id is None else {"reason": "blurred", "generation_id": generation_id}

    answer = post(f"jobs/{job_id}/refund", body)

    assert answer.status_code == 200
    assert (answer.json["job_id"], answer.json["org_id"], answer.json["amount"]) == (job_id, org_id, 10)
    assert services.credits.asked("refund") == [
        {"job_id": job_id, "generation_id": generation_id, "reason": "blurred", "actor": "admin:root"}
    ]


@pytest.mark.parametrize(
    "body", [{}, {"reason": ""}, {"reason": "a", "generation_id": "gen_1"}, {"reason": "a", "amount": 10}]
)
def test_a_refund_that_makes_no_sense_is_refused(post, services, job_id, body):
    assert post(f"jobs/{job_id}/refund", body).status_code == 400
    assert services.moved == {}


def test_a_refund_of_what_is_still_held_is_refused(post, services, job_id):
    def refund(**_):
        raise Conflict("It has not ended.")

    services.credits.methods["refund"] = refund

    assert post(f"jobs/{job_id}/refund", {"reason": "blurred"}).status_code == 409


def test_an_administrator_puts_an_organization_on_a_plan(client, admin, services, org_id):
    answers = [
        client.put(f"/v1/admin/organizations/{org_id}/plan", json={"plan": "free"}, headers=admin) for _ in range(2)
    ]

    assert [(answer.status_code, answer.json["plan"]) for answer in answers] == [(200, "free")] * 2
    assert services.credits.asked("change_plan") == [{"org_id": org_id, "plan": "free", "actor": "admin:root"}] * 2


def test_a_plan_that_there_is_not_is_refused(client, admin, services, org_id):
    answer = client.put(f"/v1/admin/organizations/{org_id}/plan", json={"plan": "gold"}, headers=admin)

    assert answer.status_code == 400
    assert services.plans == {}


def test_the_ledgers_proof_says_how_far_its_chain_reaches(client, admin):
    answer = client.get("/v1/admin/invariants", headers=admin)

    assert answer.json["chain"] == {"sealed": 3, "head": "0" * 64, "unsealed": 1}
