"""A job in somebody's hands: cancelled, made again, hurried, and looked into, by its owner and by an administrator."""

import pytest
import requests

from darkroom_client import Conflict, Darkroom, NotFound
from shared.ids import new_id
from tests.e2e.operations import asked
from tests.e2e.steps import POLL_SECONDS, NewClient, NewDarkroom, get, paid
from tests.faults.client import Client, small_photo

pytestmark = pytest.mark.stack

ROOM = {"style": "modern", "room_type": "bedroom"}


def inputs_of(darkroom: Darkroom, *, variants: int) -> dict[str, object]:
    return {"upload_id": darkroom.uploads.create(small_photo()).id, **ROOM, "variants": variants}


def test_a_cancelled_job_is_given_back_and_what_failed_of_it_is_made_again(new_darkroom: NewDarkroom) -> None:
    darkroom = new_darkroom(200)
    job = darkroom.jobs.create("staging", inputs_of(darkroom, variants=8))

    cancelled = darkroom.jobs.cancel(job.id)
    ended = darkroom.jobs.wait(cancelled, poll_seconds=POLL_SECONDS)
    given_back = paid(darkroom).available
    failed = ended.counts.failed
    again = darkroom.jobs.retry(job.id, settings={"style": "scandinavian"}, idempotency_key="again")
    same = darkroom.jobs.retry(job.id, settings={"style": "scandinavian"}, idempotency_key="again")
    made = darkroom.jobs.wait(again, poll_seconds=POLL_SECONDS)

    assert ended.status in {"cancelled", "partially_succeeded"}
    assert failed > 0
    assert {failure.reason for failure in ended.failures} <= {
        "cancelled_before_start",
        "cancelled_running",
        "cancelled",
    }
    assert ended.charged == 10 * ended.counts.succeeded
    assert given_back == 200 - ended.charged
    assert (again.id, again.retry_of, again.retry_count) == (same.id, job.id, 1)
    assert (made.status, made.counts.total, made.charged) == ("succeeded", failed, 10 * failed)
    assert {generation.style for generation in made.generations} == {"scandinavian"}
    assert paid(darkroom).available == 200 - ended.charged - made.charged
    assert darkroom.jobs.cancel(made.id).status == "succeeded"


def test_what_cannot_be_made_again_is_told(new_darkroom: NewDarkroom) -> None:
    darkroom, stranger = new_darkroom(20), new_darkroom(0)
    job = darkroom.jobs.create("staging", inputs_of(darkroom, variants=1))
    darkroom.jobs.wait(job, poll_seconds=POLL_SECONDS)

    with pytest.raises(Conflict, match="failed"):
        darkroom.jobs.retry(job.id)
    for ask in (stranger.jobs.retry, stranger.jobs.cancel, stranger.jobs.sync, stranger.jobs.timeline):
        with pytest.raises(NotFound):
            ask(job.id)
    assert paid(darkroom).available == 10


def test_a_job_can_be_hurried_and_looked_into(new_darkroom: NewDarkroom, admin: Client) -> None:
    darkroom = new_darkroom(20)
    job = darkroom.jobs.create("staging", inputs_of(darkroom, variants=2))

    hurried = darkroom.jobs.sync(job.id)
    darkroom.jobs.wait(job, poll_seconds=POLL_SECONDS)

    attempts = list(darkroom.jobs.attempts(job.id, page_size=1))
    steps = [step.what for step in darkroom.jobs.timeline(job.id)]
    logged = get(admin, f"/v1/admin/operations?job_id={job.id}")["data"]
    assert hurried.id == job.id
    assert [attempt.status for attempt in attempts] == ["succeeded"] * 2
    assert list(darkroom.jobs.attempts(job.id, live=True)) == []
    assert (steps[0], steps[-1], steps.count("generation_succeeded")) == ("job_accepted", "job_succeeded", 2)
    assert {entry["operation_id"] for entry in logged} == {attempt.operation_id for attempt in attempts}
    assert all(entry["input"]["prompt"] and entry["request_digest"] for entry in logged)
    assert "local" in {model.provider for model in darkroom.models.list()} | {one.provider for one in attempts}


def test_an_administrator_sees_the_providers_and_gives_shares(new_client: NewClient, admin: Client) -> None:
    client = new_client(0)

    share = asked(admin, "PUT", f"/v1/admin/organizations/{client.org_id}/share", {"weight": 2})
    nobodys = asked(admin, "PUT", f"/v1/admin/organizations/{new_id('org')}/share", {"weight": 2})
    providers = {one["name"]: one for one in get(admin, "/v1/admin/providers")["data"]}

    assert (share.status_code, share.json()["weight"]) == (200, 2)
    assert nobodys.status_code == 404
    assert providers["local"]["concurrency"] > 0


def test_a_webhook_that_nobody_signed_is_refused(admin: Client) -> None:
    address = f"{admin.gateway_url}/v1/webhooks-in"

    unsigned = requests.post(f"{address}/fal?op={new_id('op')}&sig={'0' * 64}", data=b"{}", timeout=10)
    without = requests.post(f"{address}/fal", data=b"{}", timeout=10)
    unknown = requests.post(f"{address}/nobody?op={new_id('op')}&sig={'0' * 64}", data=b"{}", timeout=10)

    assert (unsigned.status_code, without.status_code, unknown.status_code) == (401, 401, 404)
