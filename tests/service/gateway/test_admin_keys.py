"""Administrators' own keys: named, made with the root key alone, and recorded under their names."""

import sqlalchemy as sa

from services.gateway.models import AdminKey, Organization
from tests.service.gateway.people import bearer, change, everything_kept


def make(client, headers, name="Ada"):
    return client.post("/v1/admin/keys", json={"name": name}, headers=headers)


def test_a_named_key_administers_and_its_name_is_recorded(client, admin, gateway_db):
    made = make(client, admin)

    answer = client.post("/v1/admin/organizations", json={"name": "A"}, headers=bearer(made.json["secret"]))

    assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
    assert made.json["secret"].startswith("adm_")
    assert answer.status_code == 201
    with gateway_db.transaction() as session:
        assert session.scalars(sa.select(Organization.created_by)).one() == "Ada"
    assert made.json["secret"] not in everything_kept(gateway_db)


def test_only_the_root_key_makes_lists_and_revokes_keys(client, admin):
    made = make(client, admin).json
    ada = bearer(made["secret"])

    statuses = [
        make(client, ada, "Eve").status_code,
        client.get("/v1/admin/keys", headers=ada).status_code,
        client.delete(f"/v1/admin/keys/{made['id']}", headers=ada).status_code,
    ]

    assert statuses == [403, 403, 403]


def test_keys_are_listed_without_secrets(client, admin):
    made = [make(client, admin, name).json["id"] for name in ("Ada", "Grace")]

    first = client.get("/v1/admin/keys?limit=1", headers=admin).json
    second = client.get(f"/v1/admin/keys?limit=1&after={first['next_cursor']}", headers=admin).json

    assert [key["id"] for key in first["data"] + second["data"]] == made[::-1]
    assert "secret" not in str(first)


def test_a_revoked_key_is_refused_at_once_and_its_name_is_free(client, admin):
    made = make(client, admin).json

    revoked = [client.delete(f"/v1/admin/keys/{made['id']}", headers=admin).status_code for _ in range(2)]

    assert revoked == [204, 204]
    assert client.get("/v1/admin/invariants", headers=bearer(made["secret"])).status_code == 401
    assert make(client, admin).status_code == 201
    assert client.delete("/v1/admin/keys/nothing", headers=admin).status_code == 404


def test_two_keys_in_use_have_two_names(client, admin):
    make(client, admin)

    taken, root = make(client, admin), make(client, admin, "root")

    assert [(answer.status_code, answer.json["code"]) for answer in (taken, root)] == [(409, "name_taken")] * 2


def test_the_same_request_again_gives_the_same_secret(client, admin):
    headers = {**admin, "Idempotency-Key": "a"}

    assert make(client, headers).json == make(client, headers).json


def test_an_administrators_key_belongs_to_no_organization(client, admin):
    ada = bearer(make(client, admin).json["secret"])

    assert client.get("/v1/credits", headers=ada).status_code == 403
    assert client.get("/v1/credits", headers=bearer("adm_unknown")).status_code == 401


def test_its_use_is_written_down_once_a_minute(client, admin, gateway_db):
    ada = bearer(make(client, admin).json["secret"])

    def used():
        client.get("/v1/admin/invariants", headers=ada)
        [key] = client.get("/v1/admin/keys", headers=admin).json["data"]
        return key["last_used_at"]

    first = used()
    assert first is not None
    assert used() == first
    change(gateway_db, AdminKey, last_used_at=AdminKey.last_used_at - sa.text("interval '61 seconds'"))
    assert used() > first


def test_a_key_needs_a_name_that_can_be_recorded(client, admin):
    assert [make(client, admin, name).status_code for name in ("", " ", "a\nb", "x" * 101, None)] == [400] * 5
