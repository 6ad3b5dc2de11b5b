"""The story of what happens, told everywhere: on the stream, in the log, to a receiver, in the inbox and by mail."""

import json
import queue
import threading

from darkroom_client import Darkroom, LoggedEvent, verify_webhook
from tests.e2e.steps import NewClient, finished, get, joined, mail_to, post
from tests.fakes import FakeReceiver
from tests.polling import until

TOLD = {"JobAccepted", "GenerationStarted", "GenerationCompleted", "JobFinished"}


def listen(darkroom: Darkroom, heard: "queue.Queue[LoggedEvent]") -> None:
    for event in darkroom.events.stream(after="0"):
        heard.put(event)
        if event.type == "JobFinished":
            return


def test_a_job_is_told_on_the_stream_in_the_log_and_to_a_receiver_alike(
    new_client: NewClient, receiver: FakeReceiver
) -> None:
    client = new_client(100)
    endpoint = post(client, "/v1/webhook-endpoints", {"url": f"{receiver.url}/story", "types": ["JobFinished"]}).json()
    heard: queue.Queue[LoggedEvent] = queue.Queue()

    with Darkroom(client.api_key, base_url=client.gateway_url) as darkroom:
        threading.Thread(target=listen, args=(darkroom, heard), daemon=True).start()
        order = {"upload_id": client.upload(), "style": "modern", "room_type": "bedroom", "variants": 1}
        job = finished(client, post(client, "/v1/stagings", order).json()["id"])
        told: list[LoggedEvent] = []
        while not told or told[-1].type != "JobFinished":
            told.append(heard.get(timeout=20))
        logged = list(darkroom.events.list(after="0"))

    assert [int(event.id) for event in told] == list(range(1, len(told) + 1))
    assert {event.type for event in told if event.data.get("job_id") == job["id"]} >= TOLD
    assert [event.event for event in logged][: len(told)] == [event.event for event in told]
    posted = until(lambda: receiver.posted_to("/hook/story"), seconds=20, what="the webhook")[0]
    assert verify_webhook(endpoint["secret"], posted.headers, posted.body) == told[-1].event
    sent = until(
        lambda: [
            one
            for one in get(client, f"/v1/webhook-endpoints/{endpoint['id']}/deliveries")["data"]
            if one["status"] == "delivered"
        ]
    )
    assert [one["event_id"] for one in sent] == [json.loads(posted.body)["id"]]


def test_who_asked_for_a_job_finds_its_end_in_the_inbox_and_in_the_mail(new_client: NewClient) -> None:
    person = joined(new_client(100), "editor")

    order = {"upload_id": person.upload(), "style": "modern", "room_type": "bedroom", "variants": 1}
    job = finished(person, post(person, "/v1/stagings", order).json()["id"])

    messages = until(lambda: get(person, "/v1/notifications")["data"], seconds=20)
    assert [message["job_id"] for message in messages] == [job["id"]]
    assert "complete" in mail_to(person.email, about="complete")
    assert post(person, "/v1/notifications/read", {}).json() == {"read": 1, "unread": 0}
