"""Every way a picture can come in, over the real stack."""

import hashlib

import pytest
import requests

from tests.e2e.steps import NewClient, get, post, raw_get
from tests.fakes import FakeSite, an_answer
from tests.faults.client import Client
from tests.pictures import a_black_png, a_picture

pytestmark = pytest.mark.stack


def sent(client: Client, picture: bytes, **announced: object) -> dict:
    """Announce a picture and send it to the store; return the link."""
    body = {"purpose": "room", "content_type": "image/jpeg", "bytes": len(picture), **announced}
    link = post(client, "/v1/uploads/presign", body).json()
    answer = requests.put(link["url"], data=picture, headers=link["headers"], timeout=10)
    assert answer.status_code == 200, answer.text
    return link


def test_a_picture_sent_to_the_store_directly_is_an_upload_like_any_other(new_client: NewClient) -> None:
    client = new_client(100)
    picture = a_picture()
    link = sent(client, picture, sha256=hashlib.sha256(picture).hexdigest())

    first, again = (post(client, f"/v1/uploads/{link['upload_id']}/complete", {}) for _ in range(2))

    assert (first.status_code, first.json()["id"]) == (201, link["upload_id"])
    assert again.json() == first.json()
    assert get(client, f"/v1/uploads/{link['upload_id']}") == first.json()
    client.stage_many(link["upload_id"], count=1).join()
    assert len(client.accepted) == 1


def test_a_link_takes_nothing_but_what_was_announced(new_client: NewClient) -> None:
    client = new_client(100)
    picture = a_picture()
    body = {"purpose": "room", "content_type": "image/jpeg", "bytes": len(picture)}
    link = post(client, "/v1/uploads/presign", body).json()

    def put(url: str = link["url"], data: bytes = picture, kind: str = "image/jpeg") -> int:
        return requests.put(url, data=data, headers={"Content-Type": kind}, timeout=10).status_code

    assert put(data=picture + b"x") == 413
    assert put(kind="text/html") == 415
    assert put(url=link["url"].replace(".sent.jpg", ".jpg")) == 403
    assert post(client, f"/v1/uploads/{link['upload_id']}/complete", {}).status_code == 409


def test_a_bomb_sent_to_the_store_is_refused_and_gone(new_client: NewClient) -> None:
    client = new_client(100)
    link = sent(client, a_black_png(19_000))

    answers = [post(client, f"/v1/uploads/{link['upload_id']}/complete", {}) for _ in range(2)]

    assert [answer.json()["code"] for answer in answers] == ["image_too_many_pixels", "upload_not_sent"]


def test_a_picture_is_fetched_from_its_address(new_client: NewClient, outside_site: FakeSite) -> None:
    client = new_client(100)
    outside_site.answers["/room.jpg"] = an_answer(a_picture(colour="green"))
    outside_site.answers["/moved"] = an_answer(status="302 Found", Location="/room.jpg")

    answer = post(client, "/v1/uploads/from-url", {"url": f"http://{outside_site.place}/moved", "purpose": "product"})

    assert answer.status_code == 201, answer.text
    assert (answer.json()["purpose"], answer.json()["width"]) == ("product", 640)


def test_no_address_leads_into_the_stack(new_client: NewClient, outside_site: FakeSite) -> None:
    client = new_client(100)
    inside = client.gateway_url.removeprefix("http://")
    outside_site.answers["/inside"] = an_answer(status="302 Found", Location=f"http://{inside}/healthz")
    urls = [
        f"http://{inside}/healthz",
        f"http://localhost:{inside.rpartition(':')[2]}/healthz",
        f"http://{outside_site.place}/inside",
        "http://169.254.169.254/latest/meta-data/",
        "http://2130706433/",
    ]

    codes = [post(client, "/v1/uploads/from-url", {"url": url, "purpose": "room"}).json()["code"] for url in urls]

    assert codes == ["url_refused"] * len(urls)


def test_the_same_picture_again_is_the_same_upload_while_it_is_kept(new_client: NewClient) -> None:
    client = new_client(100)
    first, again = client.upload(), client.upload()
    requests.delete(
        f"{client.gateway_url}/v1/uploads/{first}", headers={"Authorization": f"Bearer {client.api_key}"}, timeout=10
    )

    afterwards = client.upload()

    assert again == first
    assert afterwards != first
    assert (raw_get(client, f"/v1/uploads/{first}").status_code, get(client, f"/v1/uploads/{afterwards}")["id"]) == (
        404,
        afterwards,
    )
