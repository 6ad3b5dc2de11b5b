"""Two collections in one organization: what live keys and people have made, and what test keys have made."""

import pytest

from shared.ids import new_id
from shared.problems import LimitExceeded
from tests.fakes import small_picture
from tests.service.gateway.people import bearer, join
from tests.service.gateway.test_tenancy import BODIES, OF_ORGANIZATIONS, kept

PER_MODE = {
    "{upload_id}",
    "{job_id}",
    "{image_id}",
    "{product_id}",
    "{headshot_id}",
    "{revision_id}",
    "{staging_session_id}",
    "{style_id}",
}
OF_BOTH = {"{user_id}", "{invitation_id}", "{key_id}", "{session_id}", "{endpoint_id}"}
LISTS = ("/v1/jobs", "/v1/images", "/v1/products", "/v1/staging-sessions", "/v1/styles", "/v1/headshots")
EVERYTHING = ["read", "write", "spend", "manage"]


def keyed(headers):
    return {**headers, "Idempotency-Key": new_id("key")}


@pytest.fixture
def live(studio):
    return studio[1]


@pytest.fixture
def test(client, live):
    """Give the headers of a test key that may do everything."""
    made = client.post("/v1/api-keys", json={"name": "CI", "livemode": False, "scopes": EVERYTHING}, headers=live)
    return bearer(made.json["secret"])


@pytest.fixture(params=["live", "test"])
def modes(request, live, test):
    """Give ``(headers of the one who owns, headers of the other, whether the owner is live)``, both ways round."""
    return (live, test, True) if request.param == "live" else (test, live, False)


@pytest.fixture
def ids_of_owner(client, services, studio, a_staging, modes):
    """Give one id of each kind that the owner has made."""
    owner, _, livemode = modes
    body = a_staging(studio[0], livemode=livemode)
    job = client.post("/v1/stagings", json=body, headers=keyed(owner)).json
    services.finish(job["id"])
    room = {"upload_id": body["upload_id"], "room_state": "generate_empty"}
    style = {"name": "Theirs", "base": "modern"}
    services.assets[body["upload_id"]]["thumbnail_key"] = "assets/known.thumb.jpg"
    chair = {"name": "A chair", "sku": "DSK-001", "upload_id": body["upload_id"]}
    product = client.post("/v1/products", json=chair, headers=owner).json
    return {
        "{upload_id}": body["upload_id"],
        "{job_id}": job["id"],
        "{image_id}": next(iter(services.images)),
        "{headshot_id}": next(iter(services.headshots)),
        "{product_id}": product["id"],
        "{revision_id}": product["views"][0]["id"],
        "{staging_session_id}": client.post("/v1/staging-sessions", json=room, headers=owner).json["id"],
        "{style_id}": client.post("/v1/styles", json=style, headers=owner).json["id"],
    }


def test_every_kind_of_id_in_an_address_is_of_one_mode_or_known_to_be_of_both():
    kinds = {f"{{{part.partition('}')[0]}}}" for _, path in OF_ORGANIZATIONS for part in path.split("{")[1:]}

    assert kinds == PER_MODE | OF_BOTH


def test_no_route_shows_or_changes_what_the_other_mode_has_made(client, services, modes, ids_of_owner):
    owner, other, _ = modes
    before = kept(services)

    answers = {}
    for method, path in OF_ORGANIZATIONS:
        address = path
        for placeholder, thing_id in ids_of_owner.items():
            address = address.replace(placeholder, thing_id)
        if "{" not in address:
            headers = {**other, "Idempotency-Key": new_id("key")}
            answers[method, path] = client.open(address, method=method, json=BODIES.get(path), headers=headers)

    assert len(answers) >= 8
    assert {answer.status_code for answer in answers.values()} == {404}
    assert {answer.json["code"] for answer in answers.values()} == {"not_found"}
    assert kept(services) == before
    assert client.get(f"/v1/jobs/{ids_of_owner['{job_id}']}", headers=owner).status_code == 200


@pytest.mark.usefixtures("ids_of_owner")
def test_lists_hold_nothing_of_the_other_mode(client, modes):
    owner, other, livemode = modes

    for path in LISTS:
        assert [one["livemode"] for one in client.get(path, headers=owner).json["data"]] == [livemode]
        assert client.get(path, headers=other).json["data"] == []


def test_a_job_is_made_of_uploads_of_its_own_mode(client, services, modes, ids_of_owner):
    _, other, _ = modes
    body = {"upload_id": ids_of_owner["{upload_id}"], "style": "modern", "room_type": "bedroom"}

    orders = [
        client.post("/v1/stagings", json=body, headers=keyed(other)),
        client.post("/v1/jobs", json={"workflow": "staging", "inputs": body}, headers=keyed(other)),
        client.post("/v1/quotes", json={"workflow": "staging", "inputs": body}, headers=other),
    ]

    assert [order.status_code for order in orders] == [404, 404, 404]
    assert len(services.jobs) == 1


@pytest.mark.parametrize("livemode", [True, False])
def test_everything_that_is_made_has_the_mode_of_its_key(client, services, studio, a_staging, live, test, livemode):
    headers = live if livemode else test
    body = a_staging(studio[0], livemode=livemode)

    uploaded = client.post(
        "/v1/uploads", data=small_picture((0, 0, 200)), headers={**headers, "Content-Type": "image/jpeg"}
    ).json
    announced = {"content_type": "image/jpeg", "bytes": 10}
    coming = client.post("/v1/uploads/presign", json=announced, headers=headers).json
    quoted = client.post("/v1/quotes", json={"workflow": "staging", "inputs": body}, headers=headers).json
    job = client.post("/v1/stagings", json=body, headers=keyed(headers)).json

    assert [one["livemode"] for one in (uploaded, quoted, job)] == [livemode] * 3
    assert services.expected[coming["upload_id"]]["livemode"] is livemode


def test_people_see_what_live_keys_have_made(client, live, modes, ids_of_owner):
    _, person = join(client, live, role="viewer")

    job = client.get(f"/v1/jobs/{ids_of_owner['{job_id}']}", headers=person)

    assert job.status_code == (200 if modes[2] else 404)


def test_the_same_idempotency_key_of_two_keys_is_two_requests(client, services, studio, a_staging, live, test):
    for headers, livemode in ((live, True), (test, False)):
        body = a_staging(studio[0], livemode=livemode)
        answer = client.post("/v1/stagings", json=body, headers={**headers, "Idempotency-Key": "the same"})
        assert answer.status_code == 202

    assert sorted(job["livemode"] for job in services.jobs.values()) == [False, True]


# --- what it costs


def test_a_test_job_holds_nothing_and_tells_the_balance_as_it_is(client, studio, a_staging, test):
    answer = client.post("/v1/stagings", json=a_staging(studio[0], livemode=False), headers=keyed(test))

    assert (answer.status_code, answer.json["livemode"], answer.json["reserved"]) == (202, False, 0)
    assert answer.json["balance"] == {"available": 100, "held": 0, "version": 1}


def test_a_test_jobs_receipt_is_empty_and_credits_is_not_asked(client, services, studio, a_staging, test):
    job = client.post("/v1/stagings", json=a_staging(studio[0], livemode=False), headers=keyed(test)).json
    services.finish(job["id"])

    receipt = client.get(f"/v1/jobs/{job['id']}/receipt", headers=test).json

    assert (receipt["closed"], receipt["reservation_id"], receipt["totals"]) == (True, None, {})
    assert receipt["lines"]["data"] == []
    assert services.credits.asked("receipt") == []


def test_a_test_key_sees_the_organizations_wallet_and_none_of_its_entries(client, services, live, test):
    wallets = [client.get("/v1/credits", headers=headers).json for headers in (live, test)]
    entries = [client.get("/v1/credits/entries", headers=headers).json for headers in (live, test)]
    table = client.get("/v1/credits/entries.csv", headers=test).text

    assert wallets[0] == wallets[1]
    assert [len(page["data"]) for page in entries] == [1, 0]
    assert len(table.splitlines()) == 1
    assert len(services.credits.asked("entries")) == 1


def test_a_test_key_buys_no_plan(client, services, live, test):
    refused = client.put("/v1/plan", json={"plan": "team"}, headers=test)
    allowed = client.put("/v1/plan", json={"plan": "team"}, headers=live)

    assert (refused.status_code, refused.json["code"], allowed.status_code) == (403, "forbidden", 200)
    assert len(services.credits.asked("change_plan")) == 1


def test_more_test_work_than_may_be_open_is_told_with_the_numbers(client, services, studio, a_staging, test):
    services.refusal = LimitExceeded("Test keys may have 50 generations open.", limit=50, excess=2)
    body, headers = a_staging(studio[0], livemode=False), keyed(test)

    refused = client.post("/v1/stagings", json=body, headers=headers)
    services.refusal = None
    later = client.post("/v1/stagings", json=body, headers=headers)

    assert (refused.status_code, refused.json["code"]) == (422, "limit_exceeded")
    assert (refused.json["limit"], refused.json["excess"]) == (50, 2)
    assert later.status_code == 202


# --- what is of both


@pytest.mark.parametrize("path", ["/v1/members", "/v1/plans", "/v1/pricing", "/v1/usage"])
def test_people_plans_and_prices_are_the_organizations(client, live, test, path):
    assert client.get(path, headers=test).json == client.get(path, headers=live).json
