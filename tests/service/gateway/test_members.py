"""Members: who is listed, how roles change, and that nobody leaves an organization without an owner."""

import threading

import pytest
import sqlalchemy as sa

from services.gateway.models import Member
from shared.events import MemberChanged, MemberInvited, MemberRemoved, public
from tests.service.gateway.people import change, invite, join, log_in, sign_up, told


def change_role(client, headers, user_id, role):
    return client.patch(f"/v1/members/{user_id}", json={"role": role}, headers=headers)


def remove(client, headers, user_id):
    return client.delete(f"/v1/members/{user_id}", headers=headers)


def owner_of(client, headers):
    return client.get("/v1/members", headers=headers).json["data"][0]["id"]


def test_members_and_invited_people_are_listed(client, studio, an_organization):
    _, headers = studio
    join(client, headers)
    invite(client, headers, "mary@example.com", role="viewer")
    join(client, an_organization()[1], "else@example.com")

    listed = client.get("/v1/members", headers=headers).json["data"]

    assert [(one["email"], one["role"], one["status"]) for one in listed] == [
        (None, "owner", "active"),
        ("grace@example.com", "editor", "active"),
        ("mary@example.com", "viewer", "invited"),
    ]
    assert "password" not in str(listed)


def test_members_come_in_pages(client, studio):
    _, headers = studio
    for name in ("ada", "mary"):
        invite(client, headers, f"{name}@example.com")

    first = client.get("/v1/members?limit=2", headers=headers).json
    second = client.get(f"/v1/members?limit=2&after={first['next_cursor']}", headers=headers).json

    assert [one["email"] for one in first["data"] + second["data"]] == [None, "ada@example.com", "mary@example.com"]
    assert second["has_more"] is False


def test_another_role_counts_at_the_next_request(client, studio, gateway_db):
    org_id, headers = studio
    user_id, grace = join(client, headers, role="viewer")
    assert client.post("/v1/quotes", json={}, headers=grace).status_code == 403

    answer = change_role(client, headers, user_id, "editor")

    assert (answer.status_code, answer.json["role"], answer.json["version"]) == (200, "editor", 3)
    assert client.post("/v1/quotes", json={}, headers=grace).status_code == 400
    [event] = told(gateway_db, MemberChanged)
    assert (event.org_id, event.user_id, event.previous_role, event.role) == (org_id, user_id, "viewer", "editor")
    assert event.changed_by == owner_of(client, headers)


def test_the_same_role_again_is_no_change(client, studio, gateway_db):
    user_id, _ = join(client, studio[1])

    assert change_role(client, studio[1], user_id, "editor").json["version"] == 2
    assert told(gateway_db, MemberChanged) == []


def test_a_demoted_owners_key_loses_what_the_role_had(client, studio):
    _, key = studio
    _, mary = join(client, key, "mary@example.com", role="owner")

    change_role(client, mary, owner_of(client, mary), "viewer")

    assert client.get("/v1/credits", headers=key).status_code == 200
    assert client.put("/v1/plan", json={"plan": "pro"}, headers=key).status_code == 403


def test_a_removed_member_is_out_at_once(client, studio, gateway_db):
    org_id, headers = studio
    user_id, grace = join(client, headers)

    answer = remove(client, headers, user_id)

    assert answer.status_code == 204
    assert client.get("/v1/me", headers=grace).status_code == 401
    assert log_in(client).status_code == 401
    assert [one["email"] for one in client.get("/v1/members", headers=headers).json["data"]] == [None]
    [event] = told(gateway_db, MemberRemoved)
    assert (event.org_id, event.user_id, event.role) == (org_id, user_id, "editor")
    assert remove(client, headers, user_id).status_code == 404


def test_a_removed_members_keys_are_revoked(client, studio):
    _, key = studio
    _, mary = join(client, key, "mary@example.com", role="owner")

    remove(client, mary, owner_of(client, mary))

    assert client.get("/v1/credits", headers=key).status_code == 401


def test_somebody_who_was_removed_may_join_again_here_or_elsewhere(client, an_organization):
    _, ours = an_organization()
    _, theirs = an_organization()
    user_id, _ = join(client, ours)
    remove(client, ours, user_id)

    again, _ = join(client, ours)
    remove(client, ours, again)
    elsewhere, _ = join(client, theirs)

    assert len({user_id, again, elsewhere}) == 3


def test_an_invited_person_who_is_removed_cannot_sign_up(client, studio):
    made = invite(client, studio[1])
    remove(client, studio[1], made["user_id"])

    assert sign_up(client, made).status_code == 410


@pytest.mark.parametrize("leave", [lambda c, h, u: change_role(c, h, u, "editor"), remove])
def test_the_only_owner_stays_one(client, studio, leave):
    _, headers = studio
    join(client, headers, role="editor")
    invite(client, headers, "invited@example.com", role="owner")

    answer = leave(client, headers, owner_of(client, headers))

    assert (answer.status_code, answer.json["code"]) == (409, "last_owner")
    assert client.get("/v1/invitations", headers=headers).status_code == 200


def test_two_owners_who_remove_each_other_leave_one(client, studio, gateway_db):
    _, key = studio
    first = owner_of(client, key)
    second, mary = join(client, key, "mary@example.com", role="owner")
    codes = []
    pairs = ((key, second), (mary, first))

    threads = [
        threading.Thread(target=lambda h, u: codes.append(remove(client, h, u).status_code), args=pair)
        for pair in pairs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with gateway_db.transaction() as session:
        owners = session.scalar(sa.select(sa.func.count()).where(Member.role == "owner", Member.status != "removed"))
    assert owners == 1
    assert sorted(codes) in ([204, 409], [204, 401])


def test_another_organizations_members_are_not_there(client, an_organization):
    _, ours = an_organization()
    _, theirs = an_organization()
    user_id, _ = join(client, ours)

    assert change_role(client, theirs, user_id, "viewer").status_code == 404
    assert remove(client, theirs, user_id).status_code == 404
    assert remove(client, theirs, "nobody").status_code == 404


def test_an_editor_manages_nobody(client, studio):
    user_id, grace = join(client, studio[1])

    assert client.get("/v1/members", headers=grace).status_code == 200
    assert change_role(client, grace, user_id, "owner").status_code == 403
    assert client.post("/v1/invitations", json={"email": "a@example.com"}, headers=grace).status_code == 403


def test_a_member_without_a_name_is_called_by_address(client, studio, gateway_db):
    _, grace = join(client, studio[1], role="owner")
    change(gateway_db, Member, name=None)

    made = invite(client, grace, "mary@example.com")

    event = told(gateway_db, MemberInvited)[-1]
    assert made["inviter_name"] == event.inviter == "grace@example.com"
    assert event.inviter_name == "A studio"
    assert "grace@example.com" not in str(public(event))
