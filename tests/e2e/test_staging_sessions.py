"""The staging workflow of the product document, with its prices and texts, over HTTP: a photo, then staged variants."""

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import PIL.Image
import pytest
import requests

from tests.e2e.steps import NewClient, finished, get, joined, post, raw_get, settled
from tests.e2e.test_test_keys import with_a_test_key
from tests.faults.client import Client
from tests.polling import until

pytestmark = pytest.mark.stack

MODERN = {"style": "modern", "room_type": "living_room"}


def begun(client: Client, room_state: str, **more: Any) -> str:
    """Begin a session on a new upload; return its address."""
    body = {"upload_id": client.upload(), "room_state": room_state, **more}
    answer = post(client, "/v1/staging-sessions", body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"/v1/staging-sessions/{answer.json()['id']}"
    return answer.headers["Location"]


def changed(client: Client, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
    return requests.request(
        method,
        client.gateway_url + path,
        json=body,
        headers={"Authorization": f"Bearer {client.api_key}", **headers},
        timeout=10,
    )


def emptied(client: Client, session: str, retry_number: int) -> dict[str, Any]:
    """Make an empty room; return its job once it has ended and is paid for."""
    answer = post(client, f"{session}/empty-rooms", {"retry_number": retry_number})
    assert answer.status_code == 202, answer.text
    job = finished(client, answer.json()["id"])
    settled(client)
    return job


def staged(client: Client, session: str, **more: Any) -> dict[str, Any]:
    answer = post(client, f"{session}/stagings", {**MODERN, **more})
    assert answer.status_code == 202, answer.text
    job = finished(client, answer.json()["id"])
    settled(client)
    return job


def actions(client: Client, session: str) -> list[str]:
    return [each["action"] for each in get(client, session)["next_actions"]]


def assert_marked(client: Client, image: dict[str, Any], *, line: list[str]) -> None:
    """Compare what an image's file, its provenance and a labelled copy say with what it was made of, in order."""
    found = get(client, f"/v1/images/{image['id']}/provenance")["line"]
    assert [one["id"] for one in found] == [image["id"], *line]
    words = marking(requests.get(image["url"], timeout=10).content)
    assert f'DigitalSourceType="{found[0]["digital_source_type"]}"' in words
    assert f'DerivedFrom stRef:documentID="darkroom:{line[0]}"' in words
    copy = raw_get(client, f"/v1/images/{image['id']}/content?label=virtually_staged")
    with PIL.Image.open(io.BytesIO(copy.content)) as file:
        assert (file.format, file.size) == ("JPEG", (image["width"], image["height"]))
    assert marking(copy.content) == words


def marking(data: bytes) -> str:
    """Return the XMP packet of an image file."""
    with PIL.Image.open(io.BytesIO(data)) as file:
        packet: bytes = file.info["xmp"]
    return packet.decode()


def test_generate_an_empty_room_retry_it_twice_for_nothing_lock_one_and_stage_it(new_client: NewClient) -> None:
    client = new_client(100)
    session = begun(client, "generate_empty", name="Elm Street 4")
    available = [client.wallet()["available"]]

    # Empty room generation: 10 credits, then 2 free retries, the third is paid for.
    rooms = []
    for retry_number in range(4):
        rooms.append(emptied(client, session, retry_number))
        available.append(client.wallet()["available"])
    stale = post(client, f"{session}/empty-rooms", {"retry_number": 2})

    assert available == [100, 90, 90, 90, 80]
    assert [job["charged"] for job in rooms] == [10, 0, 0, 10]
    assert (stale.status_code, stale.json()["code"], stale.json()["next_retry_number"]) == (409, "step_not_allowed", 4)
    images = [client.images(job)[0] for job in rooms]
    assert len({client.pixels(image) for image in images}) == 4  # each retry is a new variation
    assert all(client.is_whole(image) for image in images)

    # Select from any version, and lock it for staging.
    too_early = post(client, f"{session}/lock", {})
    for image in (images[3], images[1]):
        chosen = changed(client, "PUT", f"{session}/selection", {"image_id": image["id"]})
        assert (chosen.status_code, chosen.json()["selected_image_id"]) == (200, image["id"])
    not_locked = post(client, f"{session}/stagings", MODERN)
    locked = post(client, f"{session}/lock", {})
    after_lock = post(client, f"{session}/empty-rooms", {"retry_number": 4})

    assert (too_early.status_code, too_early.json()["allowed"]) == (409, ["generate_empty_room", "select_empty_room"])
    assert (not_locked.status_code, not_locked.json()["session_status"]) == (409, "selecting")
    assert (locked.json()["status"], actions(client, session)) == ("locked", ["stage"])
    assert (after_lock.status_code, after_lock.json()["allowed"]) == (409, ["stage"])
    assert client.wallet()["available"] == 80

    # 20 credits for 2 staged variants, and as many more as wanted.
    first = staged(client, session)
    second = staged(client, session, style="rustic", variants=1)

    assert (first["charged"], second["charged"], client.wallet()["available"]) == (20, 10, 50)
    assert len({generation["seed"] for generation in first["generations"]}) == 2
    assert {image["parent_id"] for image in client.images(first)} == {images[1]["id"]}
    assert (first["session_id"], first["id"]) == (session.rpartition("/")[2], first["id"])

    # Everything comes back with one request, as in another browser.
    restored = get(client, session)
    assert (restored["status"], restored["name"], restored["room_state"]) == (
        "completed",
        "Elm Street 4",
        "generate_empty",
    )
    assert [one["retry_number"] for one in restored["empty_rooms"]] == [0, 1, 2, 3]
    assert [one["charged"] for one in restored["empty_rooms"]] == [10, 0, 0, 10]
    assert sorted(one["number"] for one in restored["stagings"]) == [1, 2, 3]
    assert restored["selected_image_id"] == images[1]["id"]
    assert {image["id"] for one in restored["stagings"] for image in one["images"]} == {
        image["id"] for job in (first, second) for image in client.images(job)
    }
    assert requests.get(restored["original_url"], timeout=10).status_code == 200

    # Each variant comes from the empty room, that from the photo; its file says so, and a copy says it to the eye.
    assert_marked(client, client.images(first)[0], line=[images[1]["id"], restored["upload_id"]])
    assert [one["id"] for one in get(client, "/v1/staging-sessions")["data"]] == [restored["id"]]
    assert get(client, "/v1/dashboard")["sessions"][0]["status"] == "completed"


def test_a_room_that_is_already_empty_is_staged_directly(new_client: NewClient) -> None:
    client = new_client(20)
    session = begun(client, "already_empty")

    refused = post(client, f"{session}/empty-rooms", {"retry_number": 0})
    job = staged(client, session)
    short = post(client, f"{session}/stagings", MODERN)

    assert (refused.status_code, refused.json()["allowed"]) == (409, ["choose_room_state", "stage"])
    assert (job["status"], job["charged"], len(client.images(job))) == ("succeeded", 20, 2)
    assert (short.status_code, short.json()["code"]) == (402, "insufficient_credits")
    assert (get(client, session)["status"], client.wallet()["available"]) == ("completed", 0)


def test_what_cannot_be_paid_for_takes_no_step_and_what_is_free_needs_nothing(new_client: NewClient) -> None:
    client, poor = new_client(10), new_client(5)
    session, of_poor = begun(client, "generate_empty"), begun(poor, "generate_empty")

    refused = post(poor, f"{of_poor}/empty-rooms", {"retry_number": 0})
    paid = emptied(client, session, 0)
    free = [emptied(client, session, number) for number in (1, 2)]
    short = post(client, f"{session}/empty-rooms", {"retry_number": 3})

    assert (refused.status_code, refused.json()["required"], refused.json()["available"]) == (402, 10, 5)
    assert actions(poor, of_poor) == ["choose_room_state", "generate_empty_room"]
    assert ([paid["charged"], *(job["charged"] for job in free)], client.wallet()["available"]) == ([10, 0, 0], 0)
    assert (short.status_code, short.json()["required"], short.json()["available"]) == (402, 10, 0)
    shown = get(client, session)
    assert (shown["status"], len(shown["empty_rooms"]), shown["next_retry_number"]) == ("selecting", 3, 3)


def test_a_dry_run_and_a_quote_say_the_price_of_a_step_and_take_none(new_client: NewClient) -> None:
    client = new_client(100)
    session = begun(client, "generate_empty")

    first = post(client, f"{session}/empty-rooms", {"retry_number": 0, "dry_run": True}).json()
    emptied(client, session, 0)
    second = post(client, f"{session}/empty-rooms", {"retry_number": 1, "dry_run": True}).json()

    assert (first["amount"], second["amount"]) == (10, 0)
    assert get(client, session)["next_retry_number"] == 1


def test_ten_requests_for_the_same_retry_make_one(new_client: NewClient) -> None:
    client = new_client(100)
    session = begun(client, "generate_empty")
    emptied(client, session, 0)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: post(client, f"{session}/empty-rooms", {"retry_number": 1}), range(10)))

    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(202), statuses.count(409)) == (1, 9)
    (job_id,) = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    assert finished(client, job_id)["charged"] == 0
    assert client.wallet()["available"] == 90
    assert len(get(client, session)["empty_rooms"]) == 2


def test_a_session_is_its_organizations_and_only_an_owner_deletes_it(new_client: NewClient) -> None:
    client, stranger = new_client(50), new_client(50)
    session = begun(client, "already_empty")
    editor = joined(client, "editor")
    job_id = post(client, f"{session}/stagings", {**MODERN, "variants": 8, "on_insufficient": "partial"}).json()["id"]

    assert raw_get(stranger, session).status_code == 404
    assert post(stranger, f"{session}/stagings", MODERN).status_code == 404
    assert raw_get(with_a_test_key(client), session).status_code == 404
    assert raw_get(editor, session).status_code == 200
    assert changed(editor, "DELETE", session).status_code == 403
    assert changed(client, "DELETE", session).status_code == 204
    assert raw_get(client, session).status_code == 404
    job = finished(client, job_id)
    settled(client)
    assert client.wallet()["available"] == 50 - 10 * job["counts"]["succeeded"]


def test_a_session_whose_photo_is_deleted_takes_no_money_for_it(new_client: NewClient) -> None:
    client = new_client(20)
    session = begun(client, "already_empty")
    upload_id = get(client, session)["upload_id"]

    deleted = changed(client, "DELETE", f"/v1/uploads/{upload_id}")

    def refused(**more: Any) -> tuple[int, str] | None:
        answer = post(client, f"{session}/stagings", {**MODERN, **more})
        return None if answer.status_code == 200 else (answer.status_code, answer.json()["code"])

    rehearsed = until(lambda: refused(dry_run=True), seconds=30, what="the photo's end")
    assert deleted.status_code == 204
    assert (rehearsed, refused()) == ((410, "source_gone"), (410, "source_gone"))
    assert (client.wallet()["available"], get(client, session)["status"]) == (20, "draft")


def test_administrators_see_how_many_sessions_are_completed(new_client: NewClient, admin: Client) -> None:
    address = "/v1/admin/analytics/staging"
    before = get(admin, address)
    client = new_client(10)
    staged(client, begun(client, "already_empty"), variants=1)
    begun(client, "generate_empty")

    def counted() -> dict[str, Any] | None:
        found = get(admin, address)
        more = {name: found["sessions"][name] - before["sessions"][name] for name in ("begun", "completed")}
        return found if more["begun"] >= 2 and more["completed"] >= 1 else None

    after = until(counted, seconds=30, what="the statistics")
    assert after["stagings"]["in_sessions"] >= before["stagings"]["in_sessions"] + 1
    assert 0 < after["sessions"]["completion_rate"] <= 100


def test_what_two_see_one_changes(new_client: NewClient) -> None:
    client = new_client(0)
    session = begun(client, "generate_empty")
    tag = raw_get(client, session).headers["ETag"]

    mine = changed(client, "PATCH", session, {"name": "Mine"}, **{"If-Match": tag})
    theirs = changed(client, "PATCH", session, {"name": "Theirs"}, **{"If-Match": tag})

    assert (mine.status_code, theirs.status_code, theirs.json()["current"]["name"]) == (200, 412, "Mine")


def test_a_test_key_goes_the_whole_way_without_a_credit(new_client: NewClient) -> None:
    live = new_client(0)
    test = with_a_test_key(live)
    session = begun(test, "generate_empty")

    for number in range(4):
        job = emptied(test, session, number)
        assert (job["status"], job["charged"], job["livemode"]) == ("succeeded", 0, False)
    changed(test, "PUT", f"{session}/selection", {"image_id": test.images(job)[0]["id"]})
    post(test, f"{session}/lock", {})
    staged(test, session)

    assert get(test, session)["status"] == "completed"
    assert get(live, "/v1/staging-sessions")["data"] == []


def test_a_saved_style_is_staged_in_like_any_other(new_client: NewClient) -> None:
    client = new_client(10)
    style = post(
        client, "/v1/styles", {"name": "Ours", "base": "coastal", "words": "olive trees", "colours": ["#1d8c3a"]}
    ).json()
    session = begun(client, "already_empty", style=style["id"], room_type="kitchen")

    (proposed,) = [each for each in get(client, session)["next_actions"] if each["action"] == "stage"]
    job = staged(client, session, style=style["id"], variants=1)

    assert proposed["body"] == {"style": style["id"], "room_type": "kitchen", "variants": 2}
    assert (job["status"], client.images(job)[0]["style"]) == ("succeeded", style["id"])


@pytest.mark.parametrize("workflow", ["furniture_removal", "day_to_dusk", "enhancement"])
def test_an_edit_costs_ten_credits(new_client: NewClient, workflow: str) -> None:
    client = new_client(10)

    answer = post(client, "/v1/jobs", {"workflow": workflow, "inputs": {"upload_id": client.upload()}})
    job = finished(client, answer.json()["id"])

    (image,) = client.images(job)
    assert (job["status"], job["charged"], settled(client)["available"]) == ("succeeded", 10, 0)
    assert client.is_whole(image)
    assert image["provenance"]["prompt_version"] == f"{workflow.replace('_', '-')}-1"
