"""Making organizations, and who gets in with which key."""

import pytest
import sqlalchemy as sa

from services.gateway import keys
from services.gateway.authentication import KnownKeys
from services.gateway.models import ApiKey, IdempotencyKey, Member, Organization
from shared import events

BODY = {"name": "Rooms & Co", "owner_email": "ada@example.com", "credits": 50, "plan": "team"}


def _told(db):
    with db.transaction() as session:
        bodies = session.execute(sa.text("SELECT body FROM outbox ORDER BY id")).scalars().all()
    return [events.decode(body.encode()) for body in bodies]


def _count(db, model):
    with db.transaction() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(model))


def test_an_organization_comes_with_an_owner_a_key_and_an_open_account(client, admin, services, gateway_db):
    answer = client.post("/v1/admin/organizations", json=BODY, headers={**admin, "X-Request-Id": "req_story"})

    made = answer.json
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    assert (made["name"], made["owner_email"], made["plan"]) == ("Rooms & Co", "ada@example.com", "team")
    assert made["balance"] == {"available": 50, "held": 0, "version": 1}
    assert made["api_key"].startswith("sk_live_")
    assert services.credits.calls == [("open_account", {"org_id": made["id"], "plan": "team", "amount": 50})]
    created, invited = _told(gateway_db)
    assert (created.org_id, created.owner_id, created.plan) == (made["id"], made["owner_id"], "team")
    assert (invited.user_id, invited.role, invited.invited_by) == (made["owner_id"], "owner", "admin:root")
    assert made["invitation"]["url"].startswith("http://gateway.test/signup?token=inv_")
    assert created.meta.correlation_id == "req_story"


def test_the_key_works_and_is_kept_only_as_a_hash(client, studio, gateway_db):
    _, headers = studio
    secret = headers["Authorization"].removeprefix("Bearer ")

    answer = client.get("/v1/credits", headers=headers)

    with gateway_db.transaction() as session:
        [row] = session.scalars(sa.select(ApiKey))
        everything = session.execute(sa.text("SELECT a::text FROM api_keys a")).scalar_one()
    assert answer.status_code == 200
    assert row.secret_sha256 == keys.sha256(secret)
    assert secret.startswith(row.prefix)
    assert len(row.prefix) == 14
    assert secret not in everything


def test_two_keys_are_never_alike(an_organization):
    assert an_organization()[1] != an_organization()[1]


@pytest.mark.parametrize(
    ("credential", "status"),
    [
        (None, 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("Basic YTpi", 401),
        ("Bearer wrong", 401),
        ("Bearer sk_live_wrong", 401),
        ("Bearer " + "x" * 1000, 401),
        ("Bearer sk_live_\xfc", 401),
    ],
)
def test_what_is_no_key_of_ours_opens_nothing(client, credential, status):
    headers = {"Authorization": credential} if credential else {}

    as_organization = client.get("/v1/credits", headers=headers)
    as_admin = client.get("/v1/admin/invariants", headers=headers)

    assert (as_organization.status_code, as_admin.status_code) == (status, status)


def test_the_two_kinds_of_keys_do_not_open_each_others_doors(client, admin, studio):
    _, headers = studio

    assert client.get("/v1/admin/invariants", headers=headers).status_code == 403
    assert client.post("/v1/admin/organizations", json=BODY, headers=headers).status_code == 403
    assert client.get("/v1/credits", headers=admin).status_code == 403


def test_a_revoked_key_is_refused_once_it_is_forgotten(client, gateway, studio):
    _, headers = studio
    gateway.known_keys = KnownKeys(seconds=0)
    assert client.get("/v1/credits", headers=headers).status_code == 200

    with gateway.db.transaction() as session:
        session.execute(sa.update(ApiKey).values(revoked_at=sa.func.now()))

    assert client.get("/v1/credits", headers=headers).status_code == 401


def test_a_key_past_its_end_is_refused(client, gateway, studio):
    _, headers = studio
    gateway.known_keys = KnownKeys(seconds=0)

    with gateway.db.transaction() as session:
        session.execute(sa.update(ApiKey).values(expires_at=sa.func.now() - sa.text("interval '1 second'")))

    assert client.get("/v1/credits", headers=headers).status_code == 401


def test_a_known_key_needs_no_database_for_a_moment(client, gateway, studio):
    _, headers = studio
    client.get("/v1/credits", headers=headers)

    gateway.db = None

    assert client.get("/v1/credits", headers=headers).status_code == 200


def test_only_so_many_keys_are_remembered():
    known = KnownKeys(most=2)

    for number in range(3):
        known.put(str(number), number)

    assert [known.get(str(number)) for number in range(3)] == [None, 1, 2]


def test_the_same_request_again_gives_the_same_key_which_is_kept_nowhere(client, admin, gateway_db):
    headers = {**admin, "Idempotency-Key": "first"}

    first = client.post("/v1/admin/organizations", json=BODY, headers=headers)
    again = client.post("/v1/admin/organizations", json=BODY, headers=headers)
    other = client.post("/v1/admin/organizations", json=BODY, headers={**admin, "Idempotency-Key": "second"})

    assert again.json == first.json
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert other.json["api_key"] != first.json["api_key"]
    assert _count(gateway_db, Organization) == 2
    with gateway_db.transaction() as session:
        kept = session.execute(sa.text("SELECT k::text FROM idempotency_keys k")).scalars().all()
    assert not [row for row in kept if "sk_live_" in row]


def test_an_organization_whose_account_could_not_be_opened_is_finished_by_the_next_try(
    client, admin, services, gateway_db
):
    headers = {**admin, "Idempotency-Key": "first"}
    services.credits.down = True
    failed = client.post("/v1/admin/organizations", json=BODY, headers=headers)

    services.credits.down = False
    answer = client.post("/v1/admin/organizations", json=BODY, headers=headers)

    assert (failed.status_code, answer.status_code) == (503, 201)
    assert failed.headers["Retry-After"] == "1"
    assert _count(gateway_db, Organization) == 1
    assert _count(gateway_db, Member) == 1
    assert client.get("/v1/credits", headers={"Authorization": f"Bearer {answer.json['api_key']}"}).status_code == 200


def test_an_organization_that_makes_no_sense_is_refused(client, admin, gateway_db):
    bad = [{}, {"name": ""}, {**BODY, "owner_email": "ada"}, {**BODY, "credits": -1}, {**BODY, "plan": "gold"}]

    statuses = [client.post("/v1/admin/organizations", json=body, headers=admin).status_code for body in bad]

    assert statuses == [400] * 5
    assert _count(gateway_db, Organization) == 0
    assert _count(gateway_db, IdempotencyKey) == 0


def test_the_ledgers_proof_is_shown_to_administrators(client, admin):
    answer = client.get("/v1/admin/invariants", headers=admin)

    assert answer.status_code == 200
    assert answer.json["violations"] == []


def test_a_tenant_sees_neither_keys_nor_members_nor_requests_of_another(an_organization, gateway_db):
    first, _ = an_organization()
    second, _ = an_organization()

    with gateway_db.transaction(org_id=second) as session:
        for model, column in ((Organization, "id"), (Member, "org_id"), (ApiKey, "org_id")):
            rows = session.scalars(sa.select(model)).all()
            assert [getattr(row, column) for row in rows] == [second]
            assert first not in str(rows)
