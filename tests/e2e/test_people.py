"""The story of a person on the real stack: invited, signed up, logged in, at work, and out again."""

from concurrent.futures import ThreadPoolExecutor

import requests

from tests.e2e.steps import PASSWORD, NewClient, finished, get, post, raw_get, settled, token_sent_to
from tests.faults.client import Client
from tests.oidc_issuer import LocalIssuer


def test_a_person_is_invited_signs_up_works_and_is_removed(new_client: NewClient) -> None:
    owner = new_client(100)
    nobody = Client(gateway_url=owner.gateway_url, api_key="")
    address = f"grace@{owner.org_id.replace('_', '-')}.example.com"
    invited = post(owner, "/v1/invitations", {"email": address, "role": "editor"}).json()

    token = token_sent_to(address)
    shown = post(nobody, "/v1/invitations/lookup", {"token": token})
    about = {"token": token, "name": "Grace", "password": PASSWORD, "terms_accepted": True}
    signed_up = post(nobody, "/v1/auth/signup", about)
    logged_in = post(nobody, "/v1/auth/login", {"email": address, "password": PASSWORD})
    grace = Client(gateway_url=owner.gateway_url, api_key=logged_in.json()["session_token"], org_id=owner.org_id)
    order = {"upload_id": grace.upload(), "style": "modern", "room_type": "living_room", "variants": 1}
    job = finished(grace, post(grace, "/v1/stagings", order).json()["id"])
    removed = requests.delete(
        f"{owner.gateway_url}/v1/members/{invited['user_id']}",
        headers={"Authorization": f"Bearer {owner.api_key}"},
        timeout=10,
    )

    assert "token" not in invited
    assert (shown.status_code, signed_up.status_code, logged_in.status_code) == (200, 201, 200)
    assert job["status"] == "succeeded"
    assert (settled(owner)["available"], get(owner, "/v1/dashboard")["credits"]["available"]) == (90, 90)
    assert removed.status_code == 204
    assert raw_get(grace, "/v1/me").status_code == 401


def test_a_person_from_an_identity_provider_is_invited_joins_works_and_is_removed(
    new_client: NewClient, issuer: LocalIssuer
) -> None:
    owner = new_client(100)
    address = f"ada@{owner.org_id.replace('_', '-')}.example.com"
    token = issuer.token(sub=owner.org_id, email=address)
    ada = Client(gateway_url=owner.gateway_url, api_key=token, org_id=owner.org_id)

    too_early = raw_get(ada, "/v1/me")
    invited = post(owner, "/v1/invitations", {"email": address, "role": "editor"}).json()
    with ThreadPoolExecutor(5) as pool:
        first = [each.result() for each in [pool.submit(raw_get, ada, "/v1/me") for _ in range(5)]]
    order = {"upload_id": ada.upload(), "style": "modern", "room_type": "living_room", "variants": 1}
    job = finished(ada, post(ada, "/v1/stagings", order).json()["id"])
    issuer.go_away()
    meanwhile = raw_get(ada, "/v1/me")
    issuer.come_back()
    forged = raw_get(Client(gateway_url=owner.gateway_url, api_key=token[:-9]), "/v1/me")
    removed = requests.delete(
        f"{owner.gateway_url}/v1/members/{invited['user_id']}",
        headers={"Authorization": f"Bearer {owner.api_key}"},
        timeout=10,
    )
    afterwards = raw_get(ada, "/v1/me")

    assert (too_early.status_code, too_early.json()["code"]) == (403, "not_invited")
    assert {(answer.status_code, answer.json()["id"]) for answer in first} == {(200, invited["user_id"])}
    assert job["status"] == "succeeded"
    assert settled(owner)["available"] == 90
    assert (meanwhile.status_code, forged.status_code, removed.status_code) == (200, 401, 204)
    assert (afterwards.status_code, afterwards.json()["code"]) == (403, "not_invited")


def test_many_who_log_in_at_once_do_not_stop_anybody_else(new_client: NewClient) -> None:
    owner = new_client(0)
    nobody = Client(gateway_url=owner.gateway_url, api_key="")

    with ThreadPoolExecutor(8) as pool:
        tries = [
            pool.submit(post, nobody, "/v1/auth/login", {"email": f"nobody{n}@example.com", "password": PASSWORD})
            for n in range(8)
        ]
        meanwhile = [raw_get(owner, "/v1/me") for _ in range(5)]
        statuses = {each.result().status_code for each in tries}

    assert statuses <= {401, 503}
    assert {answer.status_code for answer in meanwhile} == {200}
    assert max(answer.elapsed.total_seconds() for answer in meanwhile) < 2
