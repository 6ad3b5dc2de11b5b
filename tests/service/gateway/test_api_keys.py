"""API keys: made once, shown once, limited, replaced with an overlap, revoked; and what a key may not hand on."""

import pytest
import sqlalchemy as sa

from services.gateway.models import ApiKey
from tests.service.gateway.people import bearer, change, everything_kept, join


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


def test_the_last_way_in_of_an_owner_is_not_revoked(client, studio):
    _, owner = studio
    [first] = listed(client, owner)

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


def test_a_key_hands_on_no_more_than_it_has(client, studio):
    _, owner = studio
    _, manager = a_key(client, owner, scopes=["manage", "read"], workflows=["staging"])
    richer, _ = a_key(client, owner)

    asked = [
        make(client, manager, scopes=["read"], workflows=["staging"]),
        make(client, manager, scopes=["spend"], workflows=["staging"]),
        make(client, manager, scopes=["read"]),
        rotate(client, manager, richer["id"]),
    ]

    assert [answer.status_code for answer in asked] == [201, 403, 403, 403]


def test_a_test_key_makes_no_live_key(client, studio):
    _, owner = studio
    _, tester = a_key(client, owner, livemode=False, scopes=["manage", "read"])

    assert make(client, tester, scopes=["read"]).status_code == 403
    assert make(client, tester, scopes=["read"], livemode=False).status_code == 201


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
        ({"daily_cap": 5}, "/daily_cap"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(client, studio, fields, pointer):
    answer = make(client, studio[1], **fields)

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, pointer)
