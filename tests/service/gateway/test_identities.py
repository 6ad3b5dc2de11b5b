"""Logging in at an identity provider: who joins by it, who they are from then on, and who is sent away."""

import threading

import pytest
import sqlalchemy as sa

from services.gateway.identity_provider import IdentityProvider
from services.gateway.issuer_keys import IssuerKeys
from services.gateway.models import Invitation, LinkedIdentity, Member
from shared.events import MemberJoined
from shared.http import application_of
from tests.oidc_issuer import AUDIENCE, DISCOVERY, LocalIssuer, by_hand
from tests.service.gateway.conftest import CheckedClient
from tests.service.gateway.people import PASSWORD, bearer, change, everything_kept, invite, join, sign_up, told


@pytest.fixture(scope="module")
def running_issuer():
    with LocalIssuer().running() as issuer:
        yield issuer


@pytest.fixture
def issuer(gateway, running_issuer):
    gateway.identity_provider = IdentityProvider(
        issuer=running_issuer.url, audience=[AUDIENCE], keys=IssuerKeys(running_issuer.url)
    )
    return running_issuer


def me(client, token):
    return client.get("/v1/me", headers=bearer(token))


def links(db):
    with db.transaction() as session:
        rows = session.execute(
            sa.select(LinkedIdentity.subject, LinkedIdentity.user_id).order_by(LinkedIdentity.subject)
        )
        return [tuple(row) for row in rows]


def refused(answer, code):
    return (answer.status_code, answer.json["code"]) == (403, code)


def test_somebody_who_was_invited_joins_with_a_token(client, studio, issuer, gateway_db):
    org_id, headers = studio
    invited = invite(client, headers, "grace@example.com", "viewer")

    answer = me(client, issuer.token(email="Grace@Example.com"))

    assert answer.status_code == 200
    shown = {name: answer.json[name] for name in ("id", "email", "name", "role", "status", "credential")}
    assert shown == {
        "id": invited["user_id"],
        "email": "grace@example.com",
        "name": "Grace",
        "role": "viewer",
        "status": "active",
        "credential": "oidc",
    }
    assert answer.json["organization"]["id"] == org_id
    assert answer.json["terms_version"] is None  # what was agreed to was agreed to elsewhere
    [event] = told(gateway_db, MemberJoined)
    assert (event.user_id, event.role, event.email) == (invited["user_id"], "viewer", "grace@example.com")
    assert client.get("/v1/invitations", headers=headers).json["data"][0]["status"] == "accepted"


def test_from_then_on_the_subject_is_enough_whatever_else_is_said(client, studio, issuer, gateway_db):
    invite(client, studio[1])
    first = me(client, issuer.token())

    for later in (
        issuer.token(email=None, email_verified=None),
        issuer.token(email="other@example.com"),
        issuer.token(email="other@example.com", email_verified=False, name="Somebody"),
    ):
        answer = me(client, later)
        assert (answer.status_code, answer.json["id"], answer.json["name"]) == (200, first.json["id"], "Grace")

    assert len(told(gateway_db, MemberJoined)) == 1
    assert links(gateway_db) == [("user_1", first.json["id"])]


def test_a_member_who_signed_up_comes_with_a_token_as_well(client, studio, issuer, gateway_db):
    user_id, _ = join(client, studio[1])

    answer = me(client, issuer.token(name="Another name"))

    assert (answer.json["id"], answer.json["name"]) == (user_id, "Grace")
    assert len(told(gateway_db, MemberJoined)) == 1


def test_a_password_whose_chooser_never_proved_the_address_ends_when_its_owner_comes(client, studio, issuer):
    """Whoever invites holds the link, and may have signed up in the name of somebody else."""
    _, session = join(client, studio[1])

    me(client, issuer.token())

    login = client.post("/v1/auth/login", json={"email": "grace@example.com", "password": PASSWORD})
    assert client.get("/v1/me", headers=session).status_code == 401
    assert login.status_code == 401
    assert me(client, issuer.token()).status_code == 200


def test_the_first_owner_joins_with_a_token(client, an_organization, issuer):
    org_id, _ = an_organization(owner_email="grace@example.com")

    answer = me(client, issuer.token())

    assert (answer.json["organization"]["id"], answer.json["role"]) == (org_id, "owner")


@pytest.mark.parametrize(
    "claims",
    [
        {"email": "nobody@example.com"},
        {"email_verified": False},
        {"email_verified": None},
        {"email_verified": "true"},
        {"email": None},
        {"email": "gr\u0251ce@example.com"},
    ],
)
def test_nobody_joins_who_was_not_invited_or_whose_address_nobody_verified(client, studio, issuer, gateway_db, claims):
    invite(client, studio[1])
    before = everything_kept(gateway_db)

    answer = me(client, issuer.token(**claims))

    assert refused(answer, "not_invited")
    assert everything_kept(gateway_db) == before


def test_an_invitation_that_is_over_lets_nobody_in(client, studio, issuer, gateway_db):
    invited = invite(client, studio[1])
    change(gateway_db, Invitation, expires_at=sa.text("now()"))
    assert refused(me(client, issuer.token()), "not_invited")

    change(gateway_db, Invitation, expires_at=sa.text("now() + interval '1 day'"))
    client.delete(f"/v1/invitations/{invited['id']}", headers=studio[1])
    assert refused(me(client, issuer.token()), "not_invited")
    assert links(gateway_db) == []


def test_whoever_is_invited_by_two_organizations_says_which(client, an_organization, issuer):
    theirs, other = an_organization(), an_organization(name="Another")
    invitation = invite(client, theirs[1])
    invite(client, other[1])

    assert refused(me(client, issuer.token()), "not_invited")

    sign_up(client, invitation)
    assert me(client, issuer.token()).json["organization"]["id"] == theirs[0]


def test_a_member_has_one_account_of_an_issuer(client, studio, issuer, gateway_db):
    invite(client, studio[1])
    me(client, issuer.token(sub="user_1"))

    answer = me(client, issuer.token(sub="user_2"))

    assert refused(answer, "linked_to_another")
    assert [subject for subject, _ in links(gateway_db)] == ["user_1"]


def test_whoever_was_removed_is_out_at_once_and_may_be_invited_again(client, studio, issuer, gateway_db):
    invite(client, studio[1])
    first = me(client, issuer.token()).json["id"]

    assert client.delete(f"/v1/members/{first}", headers=studio[1]).status_code == 204
    assert refused(me(client, issuer.token()), "not_invited")
    assert links(gateway_db) == []

    invite(client, studio[1])
    again = me(client, issuer.token())
    assert again.status_code == 200
    assert links(gateway_db) == [("user_1", again.json["id"])]
    assert again.json["id"] != first


def test_a_role_counts_from_the_next_request_on(client, studio, issuer):
    invite(client, studio[1], role="viewer")
    token = issuer.token()
    user_id = me(client, token).json["id"]
    body = {"email": "more@example.com"}

    before = client.post("/v1/invitations", json=body, headers=bearer(token))
    client.patch(f"/v1/members/{user_id}", json={"role": "owner"}, headers=studio[1])
    after = client.post("/v1/invitations", json=body, headers=bearer(token))

    assert (before.status_code, after.status_code) == (403, 201)


def test_first_requests_at_once_make_one_member_and_are_all_answered(gateway, client, studio, issuer, gateway_db):
    invite(client, studio[1])
    application, token = application_of(gateway), issuer.token()
    statuses = []

    def ask():
        statuses.append(CheckedClient(application).get("/v1/me", headers=bearer(token)).status_code)

    asking = [threading.Thread(target=ask) for _ in range(10)]
    for one in asking:
        one.start()
    for one in asking:
        one.join()

    assert statuses == [200] * 10
    assert len(links(gateway_db)) == 1
    assert len(told(gateway_db, MemberJoined)) == 1


def test_of_several_accounts_with_one_address_at_once_one_gets_in(gateway, client, studio, issuer, gateway_db):
    invite(client, studio[1])
    application = application_of(gateway)
    answers = []

    def ask(number):
        token = issuer.token(sub=f"user_{number}")
        answers.append(CheckedClient(application).get("/v1/me", headers=bearer(token)))

    asking = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for one in asking:
        one.start()
    for one in asking:
        one.join()

    assert sorted(answer.status_code for answer in answers) == [200] + [403] * 7
    assert {answer.json["code"] for answer in answers if answer.status_code == 403} == {"linked_to_another"}
    assert len(links(gateway_db)) == 1


def test_signing_up_and_a_token_at_once_make_one_member(gateway, client, studio, issuer, gateway_db):
    invitation = invite(client, studio[1])
    application, token = application_of(gateway), issuer.token()
    answers = []
    asking = [
        threading.Thread(target=lambda: answers.append(sign_up(CheckedClient(application), invitation))),
        threading.Thread(target=lambda: answers.append(me(CheckedClient(application), token))),
    ]

    for one in asking:
        one.start()
    for one in asking:
        one.join()

    assert {answer.status_code for answer in answers} <= {200, 201, 409}
    assert me(client, token).status_code == 200
    assert len(told(gateway_db, MemberJoined)) == 1


def test_two_tokens_of_one_person_are_one_principal(client, services, studio, issuer, a_staging):
    invite(client, studio[1])
    body = a_staging(studio[0])

    answers = [
        client.post("/v1/stagings", json=body, headers={**bearer(issuer.token(jti=jti)), "Idempotency-Key": "k"})
        for jti in ("a", "b")
    ]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[1].headers["Idempotency-Replayed"] == "true"
    assert len(services.jobs) == 1


def test_a_person_from_outside_has_no_session_here_to_end(client, studio, issuer):
    invite(client, studio[1])
    headers = bearer(issuer.token())

    assert client.post("/v1/auth/logout", headers=headers).status_code == 403
    assert client.get("/v1/auth/sessions", headers=headers).json["data"] == []
    assert client.delete("/v1/auth/sessions", headers=headers).status_code == 204


def test_administrators_come_with_keys_only(client, studio, issuer):
    invite(client, studio[1])

    good = client.get("/v1/admin/keys", headers=bearer(issuer.token()))
    bad = client.get("/v1/admin/keys", headers=bearer(issuer.token(exp=1)))

    assert (good.status_code, bad.status_code) == (403, 401)


def test_a_token_that_is_not_good_is_answered_with_why(client, studio, issuer):
    invite(client, studio[1])

    forged = by_hand({"alg": "none", "kid": "RS256-0"}, issuer.claims())
    tokens = {
        issuer.token(exp=1): "expired",
        issuer.token(aud="others"): "audience",
        forged: "not good",
        issuer.token(padding="a" * 8000): "Authorization",
        issuer.token(padding="a" * 4000)[:-9]: "not good",
    }

    for token, reason in tokens.items():
        answer = me(client, token)
        assert (answer.status_code, answer.json["code"]) == (401, "unauthenticated")
        assert reason in answer.json["detail"]
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_no_token_is_kept(client, studio, issuer, gateway_db):
    invite(client, studio[1])
    token = issuer.token()
    me(client, token)

    kept = everything_kept(gateway_db)
    assert token not in kept
    assert token.rpartition(".")[2] not in kept


def test_while_the_issuer_is_away_others_log_in_as_before(client, studio, gateway):
    with LocalIssuer().running() as away:
        away.answers[DISCOVERY] = 503
        gateway.identity_provider = IdentityProvider(issuer=away.url, audience=[AUDIENCE], keys=IssuerKeys(away.url))
        _, session = join(client, studio[1])

        answer = me(client, away.token())

        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert client.get("/v1/me", headers=session).status_code == 200


def test_without_an_identity_provider_no_token_opens_anything(client, studio, gateway, issuer):
    invite(client, studio[1])
    gateway.identity_provider = None

    assert me(client, issuer.token()).status_code == 401


def test_another_organization_sees_and_takes_nothing_of_the_links(client, an_organization, issuer, gateway_db):
    theirs, other = an_organization(), an_organization(name="Another")
    invite(client, theirs[1])
    me(client, issuer.token())

    with gateway_db.transaction(org_id=other[0]) as session:
        assert session.scalars(sa.select(LinkedIdentity.subject)).all() == []
        session.execute(sa.delete(LinkedIdentity))

    assert len(links(gateway_db)) == 1


def test_a_link_leads_to_nobody_who_is_not_active(client, studio, issuer, gateway_db):
    invite(client, studio[1])
    me(client, issuer.token())
    with gateway_db.transaction() as session:  # as nothing of ours does it
        session.execute(sa.update(Member).where(Member.email == "grace@example.com").values(status="removed"))

    assert refused(me(client, issuer.token()), "not_invited")
