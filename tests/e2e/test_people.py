"""The story of a person on the real stack: invited, signed up, logged in, at work, and out again."""

from concurrent.futures import ThreadPoolExecutor

import requests

from tests.e2e.steps import NewClient, finished, get, post, raw_get, settled
from tests.faults.client import Client

PASSWORD = "correct horse battery"


def test_a_person_is_invited_signs_up_works_and_is_removed(new_client: NewClient) -> None:
    owner = new_client(100)
    nobody = Client(gateway_url=owner.gateway_url, api_key="")
    address = f"grace@{owner.org_id.replace('_', '-')}.example.com"
    invited = post(owner, "/v1/invitations", {"email": address, "role": "editor"}).json()

    shown = post(nobody, "/v1/invitations/lookup", {"token": invited["token"]})
    about = {"token": invited["token"], "name": "Grace", "password": PASSWORD, "terms_accepted": True}
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

    assert (shown.status_code, signed_up.status_code, logged_in.status_code) == (200, 201, 200)
    assert job["status"] == "succeeded"
    assert (settled(owner)["available"], get(owner, "/v1/dashboard")["credits"]["available"]) == (90, 90)
    assert removed.status_code == 204
    assert raw_get(grace, "/v1/me").status_code == 401


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
