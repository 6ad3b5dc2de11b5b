"""Streams end with the credentials they were opened with, whatever kind these are, and however many there are."""

import time

import pytest
import sqlalchemy as sa

from services.gateway import authentication, watching
from services.gateway.identity_provider import Claimed, IdentityProvider
from services.gateway.issuer_keys import FRESH_SECONDS, IssuerKeys
from services.gateway.models import ApiKey
from services.gateway.passing import Wanted
from services.gateway.streams import Streams
from shared.http import Principal
from shared.ids import new_id
from tests.oidc_issuer import AUDIENCE, LocalIssuer
from tests.polling import until
from tests.service.gateway.following import ended
from tests.service.gateway.people import bearer, everything_kept, invite, join


def test_a_revoked_key_ends_its_stream_and_no_other(follow, client, gateway, studio):
    _, headers = studio
    made = client.post("/v1/api-keys", json={"name": "CI"}, headers=headers).json
    revoked, pieces = follow({"Authorization": f"Bearer {made['secret']}"})
    next(pieces)
    other, pieces_of_other = follow(headers)
    next(pieces_of_other)
    assert len(gateway.streams.all()) == 2
    [stream] = [one for one in gateway.streams.all() if one.wanted.asker.id == made["id"]]
    assert not ended(gateway, stream)

    client.delete(f"/v1/api-keys/{made['id']}", headers=headers)

    assert ended(gateway, stream)
    assert list(pieces) == []
    assert len(gateway.streams.all()) == 1
    revoked.close()
    other.close()


@pytest.mark.parametrize("how", ["logout", "removal"])
def test_a_person_who_has_left_follows_nothing(follow, client, gateway, studio, how):
    user_id, person = join(client, studio[1])
    answer, pieces = follow(person)
    next(pieces)
    [stream] = gateway.streams.all()
    assert not ended(gateway, stream)

    if how == "logout":
        client.post("/v1/auth/logout", headers=person)
    else:
        client.delete(f"/v1/members/{user_id}", headers=studio[1])

    assert ended(gateway, stream)
    answer.close()


def test_a_key_that_expires_ends_its_stream(follow, gateway, studio):
    answer, pieces = follow(studio[1])
    next(pieces)
    [stream] = gateway.streams.all()

    with gateway.db.transaction() as session:
        session.execute(sa.update(ApiKey).values(expires_at=sa.text("now() - interval '1 second'")))

    assert ended(gateway, stream)
    answer.close()


def test_streams_end_where_nobody_can_tell_whose_credentials_are_good(follow, gateway, studio, monkeypatch):
    answer, pieces = follow(studio[1])
    next(pieces)
    [stream] = gateway.streams.all()

    def down(**_):
        raise ConnectionError

    monkeypatch.setattr(gateway.db, "transaction", down)
    with pytest.raises(ConnectionError):
        ended(gateway, stream)
    assert not stream.closed
    monkeypatch.setattr("services.gateway.watching.UNKNOWN_SECONDS", -1.0)
    with pytest.raises(ConnectionError):
        ended(gateway, stream)

    assert stream.closed
    answer.close()


@pytest.fixture
def later():
    """By how many seconds the clock is ahead that says when to ask the issuer for its keys."""
    return [0.0]


@pytest.fixture
def issuer(gateway, later):
    with LocalIssuer().running() as running:
        keys = IssuerKeys(running.url, clock=lambda: time.monotonic() + later[0])
        gateway.identity_provider = IdentityProvider(issuer=running.url, audience=[AUDIENCE], keys=keys)
        yield running


@pytest.fixture
def person(client, studio, issuer):
    """Somebody who has joined with a token; returns their id."""
    invited = invite(client, studio[1])
    assert client.get("/v1/me", headers=bearer(issuer.token())).status_code == 200
    return invited["user_id"]


def opened(follow, gateway, token):
    answer, pieces = follow(bearer(token))
    next(pieces)
    [stream] = gateway.streams.all()
    assert not ended(gateway, stream)
    return answer, stream


def test_who_was_removed_and_is_invited_elsewhere_follows_nothing_and_joins_nobody_by_that(
    client, gateway, follow, studio, person, issuer, an_organization, gateway_db
):
    answer, stream = opened(follow, gateway, issuer.token())
    _, elsewhere = an_organization(name="Somebody else")

    client.delete(f"/v1/members/{person}", headers=studio[1])
    invite(client, elsewhere)
    kept = everything_kept(gateway_db)

    assert ended(gateway, stream)
    assert everything_kept(gateway_db) == kept
    assert client.get("/v1/invitations", headers=elsewhere).json["data"][0]["status"] == "open"
    answer.close()


def test_who_was_removed_and_has_joined_elsewhere_follows_nothing(
    client, gateway, follow, studio, person, issuer, an_organization
):
    answer, stream = opened(follow, gateway, issuer.token())
    _, elsewhere = an_organization(name="Somebody else")

    client.delete(f"/v1/members/{person}", headers=studio[1])
    invite(client, elsewhere)
    assert client.get("/v1/me", headers=bearer(issuer.token())).status_code == 200

    assert ended(gateway, stream)
    answer.close()


@pytest.mark.usefixtures("person")
def test_a_token_that_has_expired_follows_nothing(gateway, follow, issuer, monkeypatch):
    answer, stream = opened(follow, gateway, issuer.token())

    in_an_hour = time.time() + 3_600
    monkeypatch.setattr(time, "time", lambda: in_an_hour)

    assert ended(gateway, stream)
    answer.close()


@pytest.mark.usefixtures("person")
def test_a_token_whose_key_the_issuer_has_taken_back_follows_nothing(gateway, follow, issuer, later):
    answer, stream = opened(follow, gateway, issuer.token())

    issuer.rotate("ES256")
    later[0] = FRESH_SECONDS + 1

    assert until(lambda: ended(gateway, stream), seconds=5)
    answer.close()


@pytest.mark.usefixtures("person")
def test_an_issuer_that_is_away_ends_no_stream(gateway, follow, issuer):
    answer, stream = opened(follow, gateway, issuer.token())

    issuer.go_away()

    assert not ended(gateway, stream)
    answer.close()


def test_two_thousand_streams_of_tokens_are_looked_at_by_one_query(gateway, gateway_db, issuer, studio):
    org_id, _ = studio
    streams = [gateway.streams.open(one) for one in members_with_tokens(gateway_db, org_id, issuer.url, 2_000)]
    gateway.streams = Streams(per_organization=2_000, in_all=2_000)
    for stream in streams:
        gateway.streams.add(stream)
    asked = []
    sa.event.listen(gateway_db.engine, "before_cursor_execute", lambda *sent: asked.append(sent[2]))
    gone = streams[::2]
    with gateway_db.transaction() as session:
        session.execute(
            sa.text("UPDATE members SET status = 'removed' WHERE id = ANY(:ids)"),
            {"ids": [stream.wanted.asker.user_id for stream in gone]},
        )
    asked.clear()
    began = time.monotonic()

    gateway.watch.look(gateway.db, gateway.streams, gateway.identity_provider)

    assert [stream.closed for stream in streams] == [True, False] * 1_000
    assert len([statement for statement in asked if "members" in statement]) == 1
    assert time.monotonic() - began < watching.EVERY_SECONDS


def members_with_tokens(db, org_id, issuer, count):
    """Make members who are known by a token; return the stream that each wants."""
    made = [{"org_id": org_id, "id": new_id("usr"), "subject": f"subject_{number}"} for number in range(count)]
    with db.transaction() as session:
        session.execute(
            sa.text(
                "INSERT INTO members (org_id, id, email, role, status)"
                " VALUES (:org_id, :id, :id || '@example.com', 'viewer', 'active')"
            ),
            made,
        )
        session.execute(
            sa.text(
                "INSERT INTO linked_identities (issuer, subject, org_id, user_id)"
                " VALUES (:issuer, :subject, :org_id, :id)"
            ),
            [{**one, "issuer": issuer} for one in made],
        )
    chosen = {"types": None, "session_id": None, "job_id": None}
    return [
        Wanted(
            asker=Principal(kind="oidc", id=one["id"], name="Grace", org_id=org_id, user_id=one["id"], role="viewer"),
            org_id=org_id,
            after=None,
            chosen=chosen,
            claimed=Claimed(issuer=issuer, subject=one["subject"], key_id="RS256-0", ends_at=int(time.time()) + 300),
        )
        for one in made
    ]


def test_a_stream_is_opened_by_what_is_known_of_a_key_for_2_seconds_at_most(
    client, follow, gateway, studio, monkeypatch
):
    """One look is up to 2 s away: who opens a stream with what another process has revoked 5 s ago is too late."""
    _, headers = studio
    assert client.get("/v1/events", headers=headers).status_code == 200
    with gateway.db.transaction() as session:
        session.execute(sa.update(ApiKey).values(revoked_at=sa.func.now()))
    now = time.monotonic()
    monkeypatch.setattr(authentication.time, "monotonic", lambda: now + 3.0)

    page, (stream, _) = client.get("/v1/events", headers=headers), follow(headers)

    assert (page.status_code, stream.status_code) == (200, 401)
