"""Signing up: what is asked, what comes of it all at once, and what is refused."""

import pytest
import sqlalchemy as sa

from services.gateway import attempts, sessions
from services.gateway.models import AuthSession, Invitation, Member
from shared.events import MemberJoined
from tests.service.gateway.people import (
    PASSWORD,
    bearer,
    change,
    everything_kept,
    invite,
    join,
    log_in,
    sign_up,
    told,
)


def the_member(db):
    with db.transaction() as session:
        return session.scalars(sa.select(Member).where(Member.email == "grace@example.com")).one()


def count(db, model):
    with db.transaction() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(model))


def test_signing_up_makes_a_member_who_is_logged_in(client, studio, gateway_db):
    org_id, headers = studio
    made = invite(client, headers)

    answer = sign_up(client, made, email="Grace@example.com")

    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json["organization"] == {"id": org_id, "name": "A studio"}
    member = the_member(gateway_db)
    assert (member.id, member.status, member.name, member.role) == (made["user_id"], "active", "Grace", "editor")
    assert member.joined_at == member.terms_accepted_at
    assert member.terms_version == "1"
    [event] = told(gateway_db, MemberJoined)
    assert (event.org_id, event.user_id, event.role, event.name) == (org_id, member.id, "editor", "Grace")
    assert client.get("/v1/credits", headers=bearer(answer.json["session_token"])).status_code == 200


def test_neither_password_nor_token_is_kept(client, studio, gateway_db):
    answer = sign_up(client, invite(client, studio[1]))

    kept = everything_kept(gateway_db)
    assert PASSWORD not in kept
    assert answer.json["session_token"] not in kept
    assert the_member(gateway_db).password_hash.startswith("$argon2id$")


def test_all_effects_or_none(client, studio, gateway_db, monkeypatch):
    made = invite(client, studio[1])

    def broken(*_, **__):
        raise OSError("the session could not be written")

    monkeypatch.setattr(sessions, "begin", broken)
    failed = sign_up(client, made)
    monkeypatch.undo()

    assert failed.status_code == 500
    assert (the_member(gateway_db).status, the_member(gateway_db).joined_at) == ("invited", None)
    assert told(gateway_db, MemberJoined) == []
    assert sign_up(client, made).status_code == 201


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"email": "ada@example.com"}, "/email"),
        ({"password": "seven77"}, "/password"),
        ({"password": "x" * 201}, "/password"),
        ({"terms_accepted": False}, "/terms_accepted"),
        ({"terms_accepted": "true"}, "/terms_accepted"),
        ({"name": "  "}, "/name"),
        ({"name": None}, "/name"),
    ],
)
def test_what_is_asked_has_to_be_given(client, studio, gateway_db, fields, pointer):
    made = invite(client, studio[1])

    answer = sign_up(client, made, **fields)

    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"] == pointer
    assert the_member(gateway_db).status == "invited"


def test_eight_characters_suffice(client, studio):
    assert sign_up(client, invite(client, studio[1]), password="eight888").status_code == 201


def test_an_invitation_is_good_once(client, studio):
    made = invite(client, studio[1])
    sign_up(client, made)

    again = sign_up(client, made)

    assert (again.status_code, again.json["code"]) == (409, "invitation_used")
    assert again.json["login_url"] == "http://gateway.test/login"


def test_an_expired_invitation_is_good_for_nothing(client, studio, gateway_db):
    made = invite(client, studio[1])
    change(gateway_db, Invitation, expires_at=sa.text("now()"))

    answer = sign_up(client, made)

    assert (answer.status_code, answer.json["code"]) == (410, "invitation_expired")
    assert answer.json["detail"] == "Invitation expired. Contact your administrator for a new invitation."


def test_who_has_an_account_is_sent_to_the_login(client, an_organization):
    _, first = an_organization()
    _, second = an_organization()
    made = invite(client, second)
    join(client, first)

    shown = client.post("/v1/invitations/lookup", json={"token": made["token"]})
    answer = sign_up(client, made)

    for refused in (shown, answer):
        assert (refused.status_code, refused.json["code"]) == (409, "account_exists")
        assert refused.json["detail"] == "Account already exists. Try logging in instead."
        assert refused.json["login_url"] == "http://gateway.test/login"
        assert refused.json["reset_url"] == "http://gateway.test/password-reset"


def test_a_member_is_not_invited_again(client, studio):
    _, headers = studio
    join(client, headers)

    answer = client.post("/v1/invitations", json={"email": "grace@example.com"}, headers=headers)

    assert (answer.status_code, answer.json["code"]) == (409, "already_member")


def test_the_same_request_again_makes_one_account_and_logs_in(client, studio, gateway_db):
    made = invite(client, studio[1])
    body = {"token": made["token"], "name": "Grace", "password": PASSWORD, "terms_accepted": True}
    request = {"json": body, "headers": {"Idempotency-Key": "a"}}

    first, again = client.post("/v1/auth/signup", **request), client.post("/v1/auth/signup", **request)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json["member"] == first.json["member"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(told(gateway_db, MemberJoined)) == 1
    assert client.get("/v1/credits", headers=bearer(again.json["session_token"])).status_code == 200


def test_the_same_key_with_another_password_opens_nothing(client, studio, gateway_db):
    made = invite(client, studio[1])
    body = {"token": made["token"], "name": "Grace", "password": PASSWORD, "terms_accepted": True}
    headers = {"Idempotency-Key": "a"}
    client.post("/v1/auth/signup", json=body, headers=headers)

    answer = client.post("/v1/auth/signup", json={**body, "password": "another one"}, headers=headers)

    assert (answer.status_code, answer.json["code"]) == (409, "invitation_used")
    assert count(gateway_db, AuthSession) == 1


def test_a_request_that_is_repeated_is_no_way_to_guess_a_password(client, studio):
    made = invite(client, studio[1])
    body = {"token": made["token"], "name": "Grace", "password": PASSWORD, "terms_accepted": True}
    headers = {"Idempotency-Key": "a"}
    client.post("/v1/auth/signup", json=body, headers=headers)

    guesses = [
        client.post("/v1/auth/signup", json={**body, "password": f"guess no. {number}"}, headers=headers).status_code
        for number in range(attempts.OF_ACCOUNT + 1)
    ]

    assert guesses == [409] * attempts.OF_ACCOUNT + [429]


def test_the_first_owner_signs_up_with_the_link_of_the_organization(client, admin, gateway_db):
    made = client.post(
        "/v1/admin/organizations", json={"name": "A studio", "owner_email": "grace@example.com"}, headers=admin
    ).json

    answer = sign_up(client, made["invitation"])

    assert answer.json["member"]["id"] == made["owner_id"]
    assert answer.json["member"]["role"] == "owner"
    assert log_in(client).status_code == 200
    assert the_member(gateway_db).status == "active"
