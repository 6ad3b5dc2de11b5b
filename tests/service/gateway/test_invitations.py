"""Invitations: who may send them, what their link shows, and for how long."""

import dataclasses

import pytest
import sqlalchemy as sa

from services.gateway import invitations
from services.gateway.models import Invitation, Member
from shared.config import Secret
from shared.events import MemberInvited
from shared.http import Principal
from shared.ids import new_id
from shared.problems import Forbidden
from tests.service.gateway.people import change, everything_kept, invite, join, sign_up, told


def lookup(client, token):
    return client.post("/v1/invitations/lookup", json={"token": token})


def statuses(db):
    with db.transaction() as session:
        return dict(session.execute(sa.select(Member.email, Member.status)).all())


def test_an_invitation_makes_a_waiting_member_and_tells_whoever_sends_mail(client, studio, gateway_db):
    org_id, headers = studio

    made = invite(client, headers, "Grace@Example.com", role="viewer")

    assert (made["email"], made["role"], made["status"]) == ("grace@example.com", "viewer", "open")
    assert made["url"] == f"http://gateway.test/signup?token={made['token']}"
    assert statuses(gateway_db)["grace@example.com"] == "invited"
    [event] = told(gateway_db, MemberInvited)
    assert (event.org_id, event.user_id, event.invitation_id) == (org_id, made["user_id"], made["id"])
    assert (event.email, event.organization_name, event.inviter_name) == ("grace@example.com", "A studio", "First key")
    assert event.expires_at == made["expires_at"]


def test_the_token_is_nowhere_but_in_the_answer(client, studio, gateway_db):
    _, headers = studio

    made = invite(client, headers)
    listed = client.get("/v1/invitations", headers=headers)

    assert made["token"].rpartition(".")[2] not in everything_kept(gateway_db)
    assert "token" not in listed.text


def test_the_link_shows_who_is_invited_by_whom_into_what(client, studio):
    _, headers = studio
    made = invite(client, headers)

    answer = lookup(client, made["token"])

    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json == {
        "email": "grace@example.com",
        "role": "editor",
        "organization_name": "A studio",
        "inviter_name": "First key",
        "expires_at": made["expires_at"],
    }


def test_a_token_that_was_altered_is_refused(client, studio):
    made = invite(client, studio[1])
    subject, end, mac = made["token"].split(".")
    other = f"{new_id('inv')}.{end}.{mac}"
    later = f"{subject}.{int(end) + 1}.{mac}"

    answers = [lookup(client, token) for token in (made["token"] + "x", made["token"][:-1], other, later, "nothing")]

    assert [(answer.status_code, answer.json["code"]) for answer in answers] == [(400, "invitation_invalid")] * 5
    assert answers[0].json["errors"][0]["pointer"] == "/token"


@pytest.mark.parametrize(("ago", "status"), [("-1 second", 200), ("1 second", 410)])
def test_an_invitation_is_good_for_seven_days(client, studio, gateway_db, ago, status):
    made = invite(client, studio[1])
    with gateway_db.transaction() as session:
        lasts = session.execute(sa.select(Invitation.expires_at - Invitation.created_at)).scalar_one()
    change(gateway_db, Invitation, expires_at=sa.text(f"now() - interval '{ago}'"))

    answer = lookup(client, made["token"])

    assert 7 * 86_400 - 1 <= lasts.total_seconds() <= 7 * 86_400
    assert answer.status_code == status
    if status == 410:
        assert answer.json["code"] == "invitation_expired"
        assert answer.json["detail"] == "Invitation expired. Contact your administrator for a new invitation."


def test_an_invitation_that_was_taken_back_is_good_for_nothing(client, studio, gateway_db):
    _, headers = studio
    made = invite(client, headers)

    taken_back = [client.delete(f"/v1/invitations/{made['id']}", headers=headers).status_code for _ in range(2)]

    assert taken_back == [204, 204]
    assert lookup(client, made["token"]).json["code"] == "invitation_revoked"
    assert statuses(gateway_db)["grace@example.com"] == "removed"


def test_a_newer_invitation_ends_the_earlier_and_may_change_the_role(client, studio):
    _, headers = studio
    first = invite(client, headers, role="viewer")

    second = invite(client, headers, role="owner")

    assert second["user_id"] == first["user_id"]
    assert lookup(client, first["token"]).status_code == 410
    assert lookup(client, second["token"]).json["role"] == "owner"
    assert [item["status"] for item in client.get("/v1/invitations", headers=headers).json["data"]] == [
        "open",
        "revoked",
    ]


def test_somebody_whose_invitation_was_taken_back_can_be_invited_again(client, studio):
    _, headers = studio
    first = invite(client, headers)
    client.delete(f"/v1/invitations/{first['id']}", headers=headers)

    second = invite(client, headers)

    assert lookup(client, second["token"]).status_code == 200


def test_the_only_owner_does_not_invite_away_the_owners_role(client, an_organization):
    _, headers = an_organization(owner_email="ada@example.com")

    answer = client.post("/v1/invitations", json={"email": "ada@example.com", "role": "viewer"}, headers=headers)

    assert (answer.status_code, answer.json["code"]) == (409, "last_owner")
    assert client.get("/v1/invitations", headers=headers).status_code == 200


def test_the_first_owners_key_survives_the_end_of_the_invitation(client, an_organization, gateway):
    _, headers = an_organization(owner_email="ada@example.com")
    [invitation] = client.get("/v1/invitations", headers=headers).json["data"]

    client.delete(f"/v1/invitations/{invitation['id']}", headers=headers)
    gateway.known_keys.forget()

    assert client.get("/v1/credits", headers=headers).status_code == 200


def test_the_same_request_again_gives_the_same_link(client, studio, gateway_db):
    _, headers = studio
    request = {"json": {"email": "grace@example.com"}, "headers": {**headers, "Idempotency-Key": "a"}}

    first, again = client.post("/v1/invitations", **request), client.post("/v1/invitations", **request)

    assert again.json == first.json
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(told(gateway_db, MemberInvited)) == 1
    assert lookup(client, again.json["token"]).status_code == 200


def test_another_organizations_invitations_are_not_there(client, an_organization):
    _, ours = an_organization()
    _, theirs = an_organization()
    made = invite(client, ours)

    assert client.get("/v1/invitations", headers=theirs).json["data"] == []
    assert client.delete(f"/v1/invitations/{made['id']}", headers=theirs).status_code == 404
    assert client.delete("/v1/invitations/nothing", headers=theirs).status_code == 404
    assert lookup(client, made["token"]).status_code == 200


def test_invitations_come_in_pages_newest_first(client, studio):
    _, headers = studio
    made = [invite(client, headers, f"{name}@example.com")["id"] for name in ("ada", "grace", "mary")]

    first = client.get("/v1/invitations?limit=2", headers=headers).json
    second = client.get(f"/v1/invitations?limit=2&after={first['next_cursor']}", headers=headers).json

    assert [item["id"] for item in first["data"] + second["data"]] == made[::-1]
    assert (first["has_more"], second["has_more"], second["next_cursor"]) == (True, False, None)


@pytest.mark.parametrize(
    "body",
    [{}, {"email": "grace"}, {"email": "grâce@example.com"}, {"email": "g@e.com", "role": "admin"}, {"email": None}],
)
def test_an_invitation_that_makes_no_sense_is_refused(client, studio, body):
    answer = client.post("/v1/invitations", json=body, headers=studio[1])

    assert answer.status_code == 400
    assert answer.json["errors"]


@pytest.mark.parametrize("leave", ["removed", "demoted"])
def test_what_somebody_sent_ends_with_the_right_to_send_it(client, studio, gateway_db, leave):
    _, owner = studio
    user_id, mary = join(client, owner, "mary@example.com", role="owner")
    hers = invite(client, mary, "accomplice@example.com", role="owner")
    others = invite(client, owner, "ada@example.com")

    if leave == "removed":
        client.delete(f"/v1/members/{user_id}", headers=owner)
    else:
        client.patch(f"/v1/members/{user_id}", json={"role": "editor"}, headers=owner)

    assert lookup(client, hers["token"]).json["code"] == "invitation_revoked"
    assert sign_up(client, hers).status_code == 410
    assert statuses(gateway_db)["accomplice@example.com"] == "removed"
    assert sign_up(client, others).status_code == 201


def test_a_changed_role_is_a_new_version_of_whoever_waits(client, studio):
    _, headers = studio
    invite(client, headers, role="viewer")

    invite(client, headers, role="editor")
    invite(client, headers, role="editor")

    [waiting] = [one for one in client.get("/v1/members", headers=headers).json["data"] if one["email"]]
    assert (waiting["role"], waiting["version"]) == ("editor", 2)


def test_who_was_removed_while_asking_invites_nobody(client, studio, gateway_db):
    org_id, owner = studio
    user_id, _ = join(client, owner, "mary@example.com", role="owner")
    let_in = Principal(kind="session", id=user_id, name="Mary", org_id=org_id, user_id=user_id, role="owner")
    client.delete(f"/v1/members/{user_id}", headers=owner)

    wanted = invitations.Wanted(id=new_id("inv"), org_id=org_id, email="accomplice@example.com", role="owner")
    with pytest.raises(Forbidden):
        invitations.invite(gateway_db, wanted, asker=let_in)

    assert "accomplice@example.com" not in statuses(gateway_db)


@pytest.fixture
def with_mail(gateway):
    gateway.settings = dataclasses.replace(gateway.settings, smtp_url=Secret("smtp://mail.test"))


@pytest.mark.usefixtures("with_mail")
def test_where_mail_is_sent_only_the_mail_has_the_link(client, studio, gateway_db):
    headers = {**studio[1], "Idempotency-Key": "one"}
    body = {"email": "grace@example.com"}

    answers = [client.post("/v1/invitations", json=body, headers=headers) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json == answers[1].json
    assert not {"token", "url"} & answers[0].json.keys()
    [event] = told(gateway_db, MemberInvited)
    assert event.invitation_id == answers[0].json["id"]


@pytest.mark.usefixtures("with_mail")
def test_where_mail_is_sent_an_administrator_does_not_get_the_link_of_the_first_owner(client, admin, gateway_db):
    headers = {**admin, "Idempotency-Key": "one"}
    body = {"name": "A studio", "owner_email": "ada@example.com"}

    answers = [client.post("/v1/admin/organizations", json=body, headers=headers) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json["invitation"] == answers[1].json["invitation"]
    assert not {"token", "url"} & answers[0].json["invitation"].keys()
    assert "signup?token=" not in answers[0].text
    [event] = told(gateway_db, MemberInvited)
    assert (event.invitation_id, event.email) == (answers[0].json["invitation"]["id"], "ada@example.com")
