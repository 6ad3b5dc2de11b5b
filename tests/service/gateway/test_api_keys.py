"""API keys: made once, shown once, limited, replaced with an overlap, revoked; and what a key may not hand on."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from services.gateway import api_keys
from services.gateway.models import ApiKey
from shared.problems import KeyCapReached
from tests.service.gateway.people import at_once, bearer, change, everything_kept, join

EVERYTHING = ["read", "write", "spend", "manage"]
LIMITS = {
    "test": {"livemode": False, "scopes": EVERYTHING},
    "one scope": {"scopes": ["manage"]},
    "all scopes but one": {"scopes": ["read", "write", "manage"]},
    "one workflow": {"scopes": EVERYTHING, "workflows": ["staging"]},
    "an end": {"scopes": EVERYTHING, "expires_at": "2999-01-01"},
    "a daily cap": {"scopes": EVERYTHING, "daily_cap": 100},
}


def make(client, headers, **fields):
    return client.post("/v1/api-keys", json={"name": "CI", **fields}, headers=headers)


def a_key(client, headers, **fields):
    """Make a key and return ``(what was answered, headers with it)``."""
    answer = make(client, headers, **fields)
    assert answer.status_code == 201, answer.text
    return answer.json, bearer(answer.json["secret"])


def listed(client, headers, query=""):
    return client.get(f"/v1/api-keys{query}", headers=headers).json["data"]


def rotate(client, headers, key_id, **fields):
    return client.post(f"/v1/api-keys/{key_id}/rotate", json=fields, headers=headers)


def reads(client, headers):
    return client.get("/v1/credits", headers=headers).status_code


def test_a_key_is_shown_once_and_kept_as_a_hash(client, studio, gateway_db):
    _, owner = studio

    answer = make(client, owner)

    made = answer.json
    assert answer.headers["Cache-Control"] == "no-store"
    assert made["secret"].startswith("sk_live_")
    assert made["secret"].startswith(made["prefix"])
    assert (made["scopes"], made["workflows"], made["status"]) == (["read", "write", "spend"], None, "active")
    assert made["secret"] not in everything_kept(gateway_db)
    assert "secret" not in str(listed(client, owner))
    assert reads(client, bearer(made["secret"])) == 200


def test_keys_are_found_by_how_they_begin(client, studio):
    _, owner = studio
    made, _ = a_key(client, owner)
    a_key(client, owner)

    assert [key["id"] for key in listed(client, owner, f"?prefix={made['prefix']}")] == [made["id"]]
    assert listed(client, owner, "?prefix=%25") == []
    assert len(listed(client, owner)) == 3


def test_keys_come_in_pages_newest_first(client, studio):
    _, owner = studio
    made = [a_key(client, owner)[0]["id"] for _ in range(2)]

    first = client.get("/v1/api-keys?limit=2", headers=owner).json
    rest = client.get(f"/v1/api-keys?limit=2&after={first['next_cursor']}", headers=owner).json

    assert [key["id"] for key in first["data"]] == made[::-1]
    assert [key["name"] for key in rest["data"]] == ["First key"]


def test_a_key_does_what_its_scopes_allow(client, studio, a_staging):
    org_id, owner = studio
    _, reader = a_key(client, owner, scopes=["read"])
    _, spender = a_key(client, owner, scopes=["spend"])
    order = {"json": a_staging(org_id)}

    ordered = [
        client.post("/v1/stagings", **order, headers={**headers, "Idempotency-Key": "a"}).status_code
        for headers in (reader, spender)
    ]

    assert ordered == [403, 202]
    assert (reads(client, reader), reads(client, spender)) == (200, 403)


def test_a_key_for_some_workflows_asks_for_those_alone(client, studio, a_staging):
    org_id, owner = studio
    made, headers = a_key(client, owner, workflows=["staging"])

    answer = client.post("/v1/stagings", json=a_staging(org_id), headers={**headers, "Idempotency-Key": "a"})

    assert made["workflows"] == ["staging"]
    assert answer.status_code == 202


def test_a_test_key_says_what_it_is(client, studio):
    made, headers = a_key(client, studio[1], livemode=False)

    assert made["secret"].startswith("sk_test_")
    assert made["livemode"] is False
    assert client.get("/v1/me", headers=headers).json["livemode"] is False


def test_a_key_is_refused_after_its_end(client, studio, gateway, gateway_db):
    _, owner = studio
    made, headers = a_key(client, owner, expires_at="2999-01-01")
    assert reads(client, headers) == 200

    with gateway_db.transaction() as session:
        ended = sa.update(ApiKey).where(ApiKey.id == made["id"]).values(expires_at=sa.func.now())
        session.execute(ended)
    gateway.known_keys.forget()

    assert reads(client, headers) == 401
    assert listed(client, owner)[0]["status"] == "expired"


def test_a_revoked_key_is_refused_at_once(client, studio):
    _, owner = studio
    made, headers = a_key(client, owner)
    assert reads(client, headers) == 200

    revoked = [client.delete(f"/v1/api-keys/{made['id']}", headers=owner).status_code for _ in range(2)]

    assert revoked == [204, 204]
    assert reads(client, headers) == 401
    assert listed(client, owner)[0]["status"] == "revoked"


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
def test_the_last_way_in_of_an_owner_is_not_revoked(client, studio, limits):
    _, owner = studio
    [first] = listed(client, owner)
    a_key(client, owner, **limits)

    refused = client.delete(f"/v1/api-keys/{first['id']}", headers=owner)
    join(client, owner, role="owner")
    allowed = client.delete(f"/v1/api-keys/{first['id']}", headers=owner)

    assert (refused.status_code, refused.json["code"]) == (409, "last_owner")
    assert allowed.status_code == 204


def test_a_replaced_key_goes_on_for_the_overlap(client, studio, gateway, gateway_db):
    _, owner = studio
    old, old_headers = a_key(client, owner, scopes=["read"], workflows=["staging"])

    new = rotate(client, owner, old["id"], overlap_seconds=3600).json

    assert (new["rotated_from"], new["name"], new["scopes"], new["workflows"], new["expires_at"]) == (
        old["id"],
        "CI",
        ["read"],
        ["staging"],
        None,
    )
    assert (reads(client, old_headers), reads(client, bearer(new["secret"]))) == (200, 200)
    with gateway_db.transaction() as session:
        left = session.scalar(sa.select(ApiKey.expires_at - sa.func.now()).where(ApiKey.id == old["id"]))
        assert 3590 < left.total_seconds() <= 3600
        session.execute(sa.update(ApiKey).where(ApiKey.id == old["id"]).values(expires_at=sa.func.now()))
    gateway.known_keys.forget()
    assert (reads(client, old_headers), reads(client, bearer(new["secret"]))) == (401, 200)


def test_without_an_overlap_the_old_key_ends_at_once(client, studio):
    _, owner = studio
    old, headers = a_key(client, owner)
    reads(client, headers)

    rotate(client, owner, old["id"], overlap_seconds=0)

    assert reads(client, headers) == 401


def test_replacing_a_key_does_not_lengthen_its_life(client, studio):
    _, owner = studio
    old, _ = a_key(client, owner, expires_at="2999-01-01")

    new = rotate(client, owner, old["id"]).json

    assert new["expires_at"] == old["expires_at"]
    assert listed(client, owner)[1]["expires_at"] < old["expires_at"]


def test_a_key_that_has_ended_is_not_replaced(client, studio):
    _, owner = studio
    made, _ = a_key(client, owner)
    client.delete(f"/v1/api-keys/{made['id']}", headers=owner)

    answer = rotate(client, owner, made["id"])

    assert (answer.status_code, answer.json["code"]) == (409, "key_not_usable")


def test_the_same_request_again_gives_the_same_secret(client, studio):
    _, owner = studio
    once = {**owner, "Idempotency-Key": "a"}
    first, again = make(client, once).json, make(client, once).json
    twice = {**owner, "Idempotency-Key": "b"}
    new, new_again = rotate(client, twice, first["id"]).json, rotate(client, twice, first["id"]).json

    assert first["secret"] == again["secret"]
    assert new["secret"] == new_again["secret"] != first["secret"]
    assert len(listed(client, owner)) == 3


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
def test_a_key_that_is_limited_gives_itself_no_more_by_any_way(client, studio, limits):
    _, owner = studio
    other, _ = a_key(client, owner)
    user_id, _ = join(client, owner, role="owner")
    _, limited = a_key(client, owner, **limits)

    asked = [
        make(client, limited, scopes=["read"], livemode=False),
        rotate(client, limited, other["id"]),
        client.delete(f"/v1/api-keys/{other['id']}", headers=limited),
        client.post("/v1/invitations", json={"email": "evil@example.com", "role": "owner"}, headers=limited),
        client.patch(f"/v1/members/{user_id}", json={"role": "viewer"}, headers=limited),
        client.delete(f"/v1/members/{user_id}", headers=limited),
        client.put("/v1/plan", json={"plan": "free"}, headers=limited),
    ]

    assert [answer.status_code for answer in asked] == [403] * len(asked)


def test_a_key_that_nothing_limits_manages(client, studio):
    _, manager = a_key(client, studio[1], scopes=EVERYTHING)

    assert make(client, manager).status_code == 201
    assert client.get("/v1/invitations", headers=manager).status_code == 200


def test_a_key_that_was_replaced_makes_none_that_outlives_it(client, studio):
    _, owner = studio
    old, replaced = a_key(client, owner, scopes=EVERYTHING)
    rotate(client, owner, old["id"], overlap_seconds=3600)
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()

    asked = [make(client, replaced, **fields).status_code for fields in ({}, {"expires_at": soon})]

    assert asked == [403, 201]


def test_a_key_that_replaces_itself_is_told_the_new_secret_again(client, studio):
    _, owner = studio
    [first] = listed(client, owner)
    once = {**owner, "Idempotency-Key": "a"}

    new, again = rotate(client, once, first["id"]), rotate(client, once, first["id"])

    assert (new.status_code, again.status_code) == (201, 201)
    assert again.json["secret"] == new.json["secret"]


def test_a_key_is_replaced_once(client, studio):
    _, owner = studio
    old, _ = a_key(client, owner)
    new = rotate(client, owner, old["id"]).json

    answer = rotate(client, owner, old["id"])

    assert (answer.status_code, answer.json["code"], answer.json["key_id"]) == (409, "key_replaced", new["id"])
    assert rotate(client, owner, new["id"]).json["expires_at"] is None


def test_nobody_gets_a_secret_that_acts_as_somebody_else(client, studio):
    _, owner = studio
    _, mary = join(client, owner, "mary@example.com", role="owner")
    hers, _ = a_key(client, mary)

    answer = rotate(client, owner, hers["id"])

    assert answer.status_code == 403
    assert "stands for somebody else" in answer.json["detail"]
    assert rotate(client, mary, hers["id"]).status_code == 201


def test_an_organization_has_only_so_many_keys(client, studio, monkeypatch):
    _, owner = studio
    monkeypatch.setattr(api_keys, "MOST_KEYS", 2)
    made, _ = a_key(client, owner)

    refused = make(client, owner)
    replaced = rotate(client, owner, made["id"], overlap_seconds=0)
    still_full = make(client, owner)
    client.delete(f"/v1/api-keys/{replaced.json['id']}", headers=owner)
    allowed = make(client, owner)

    assert (refused.status_code, refused.json["code"]) == (422, "limit_exceeded")
    assert (refused.json["limit"], refused.json["excess"]) == (2, 1)
    assert [answer.status_code for answer in (replaced, still_full, allowed)] == [201, 422, 201]


def test_keys_made_at_once_are_no_more_than_there_may_be(client, studio, monkeypatch):
    _, owner = studio
    monkeypatch.setattr(api_keys, "MOST_KEYS", 3)

    statuses = at_once(client, *[lambda own: make(own, owner).status_code] * 5)

    assert sorted(statuses) == [201, 201, 422, 422, 422]


def test_it_is_written_once_a_minute_that_a_key_was_used(client, studio, gateway, gateway_db):
    _, owner = studio
    made, headers = a_key(client, owner)

    def used():
        gateway.known_keys.forget()
        reads(client, headers)
        return next(key["last_used_at"] for key in listed(client, owner) if key["id"] == made["id"])

    assert made["last_used_at"] is None
    first = used()
    assert first is not None
    assert used() == first
    change(gateway_db, ApiKey, last_used_at=ApiKey.last_used_at - sa.text("interval '61 seconds'"))
    assert used() > first


def test_another_organizations_keys_are_not_there(client, an_organization):
    _, ours = an_organization()
    _, theirs = an_organization()
    made, _ = a_key(client, ours)

    assert client.delete(f"/v1/api-keys/{made['id']}", headers=theirs).status_code == 404
    assert rotate(client, theirs, made["id"]).status_code == 404
    assert rotate(client, theirs, "nothing").status_code == 404
    assert made["id"] not in str(listed(client, theirs))


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"name": " "}, "/name"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["admin"]}, "/scopes/0"),
        ({"scopes": ["read", "read"]}, "/scopes"),
        ({"workflows": []}, "/workflows"),
        ({"workflows": ["alchemy"]}, "/workflows"),
        ({"expires_at": "2020-01-01"}, "/expires_at"),
        ({"livemode": "no"}, "/livemode"),
        ({"daily_cap": 0}, "/daily_cap"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(client, studio, fields, pointer):
    answer = make(client, studio[1], **fields)

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, pointer)


def order(client, services, headers, body, key):
    """Order a staging, and return what generation was told of its key."""
    answer = client.post("/v1/stagings", json=body, headers={**headers, "Idempotency-Key": key})
    assert answer.status_code == 202, answer.text
    asked = services.generation.asked("submit")[-1]
    return asked["cap_id"], asked["daily_cap"]


def test_a_key_with_a_daily_cap_says_so_with_every_order(client, studio, services, a_staging):
    org_id, owner = studio
    made, headers = a_key(client, owner, daily_cap=50)
    body = a_staging(org_id)

    assert made["daily_cap"] == listed(client, owner)[0]["daily_cap"] == 50
    assert order(client, services, headers, body, "a") == (made["id"], 50)
    client.post("/v1/stagings", json={**body, "dry_run": True}, headers=headers)
    assert services.generation.asked("submit")[-1]["cap_id"] == made["id"]


def test_a_key_without_a_cap_and_a_person_have_none(client, studio, services, a_staging):
    org_id, owner = studio
    made, headers = a_key(client, owner)
    _, person = join(client, owner)
    body = a_staging(org_id)

    assert made["daily_cap"] is None
    assert order(client, services, headers, body, "a") == (None, None)
    assert order(client, services, person, body, "b") == (None, None)


@pytest.mark.parametrize("daily_cap", [0, -1, 1.5, "50", True, 1_000_000_001])
def test_a_cap_is_a_number_of_credits(client, studio, daily_cap):
    answer = make(client, studio[1], daily_cap=daily_cap)

    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"] == "/daily_cap"


def test_a_key_that_takes_the_place_of_another_shares_its_cap(client, studio, services, a_staging):
    org_id, owner = studio
    first, headers = a_key(client, owner, daily_cap=50)
    body = a_staging(org_id)

    second = rotate(client, owner, first["id"]).json
    third = rotate(client, owner, second["id"]).json

    assert (second["daily_cap"], third["daily_cap"]) == (50, 50)
    caps = [
        order(client, services, each, body, name)
        for name, each in (("a", headers), ("b", bearer(second["secret"])), ("c", bearer(third["secret"])))
    ]
    assert caps == [(first["id"], 50)] * 3


def test_a_key_that_is_used_up_is_answered_402_with_its_figures(client, studio, services, a_staging):
    org_id, owner = studio
    _, headers = a_key(client, owner, daily_cap=50)
    figures = {"unit": "credits", "limit": 50, "used": 45, "requested": 20, "max_affordable": 0}
    services.refusal = KeyCapReached("Of the 50 credits 45 are used.", **figures, resets_at="2031-05-02T00:00:00Z")

    answer = client.post("/v1/stagings", json=a_staging(org_id), headers={**headers, "Idempotency-Key": "a"})

    assert (answer.status_code, answer.json["code"]) == (402, "key_cap_reached")
    assert {name: answer.json[name] for name in figures} == figures
