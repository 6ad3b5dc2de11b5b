"""Changes of who belongs to an organization that meet: each is answered, and none waits for another in a circle."""

from tests.service.gateway.people import at_once, invite, join, sign_up

PAIRS = 8


def removing(user_id, headers):
    return lambda own: own.delete(f"/v1/members/{user_id}", headers=headers).status_code


def test_removing_a_member_and_taking_the_invitation_back(client, studio):
    _, headers = studio

    for number in range(PAIRS):
        made = invite(client, headers, f"d{number}@example.com")
        statuses = at_once(
            client,
            removing(made["user_id"], headers),
            lambda own, made=made: own.delete(f"/v1/invitations/{made['id']}", headers=headers).status_code,
        )
        assert statuses in ([204, 204], [404, 204])


def test_removing_an_owner_and_revoking_the_owners_key(client, studio):
    _, headers = studio

    for number in range(PAIRS):
        user_id, mary = join(client, headers, f"o{number}@example.com", role="owner")
        key = client.post("/v1/api-keys", json={"name": "CI"}, headers=mary).json
        statuses = at_once(
            client,
            removing(user_id, headers),
            lambda own, key=key: own.delete(f"/v1/api-keys/{key['id']}", headers=headers).status_code,
        )
        assert statuses == [204, 204]


def test_signing_up_and_being_removed_or_invited_anew(client, studio):
    _, headers = studio

    for number in range(PAIRS):
        made = invite(client, headers, f"s{number}@example.com")
        first, second, _ = at_once(
            client,
            lambda own, made=made: sign_up(own, made).status_code,
            removing(made["user_id"], headers),
            lambda own, made=made: (
                own.post("/v1/invitations", json={"email": made["email"], "role": "owner"}, headers=headers).status_code
            ),
        )
        assert first in {201, 410}
        assert second == 204


def test_inviting_an_owner_anew_while_another_is_removed(client, an_organization):
    _, headers = an_organization(owner_email="ada@example.com")
    _, mary = join(client, headers, "mary@example.com", role="owner")

    for number in range(PAIRS):
        user_id, _ = join(client, mary, f"o{number}@example.com", role="owner")
        role = ("viewer", "owner")[number % 2]
        statuses = at_once(
            client,
            removing(user_id, mary),
            lambda own, role=role: (
                own.post("/v1/invitations", json={"email": "ada@example.com", "role": role}, headers=mary).status_code
            ),
        )
        assert statuses == [204, 201]
