"""The audit finds what is not as it must be, names it, and finds nothing else."""

import json
import os

import pytest

from services.credits.seals import seal_entries
from tools import audit
from tools.__main__ import main
from tools.audit import CHECKS, Scope, Violation

DEEP = Scope(grace_seconds=0, deep=True)


def found(name, scope=DEEP):
    return [(each.check.partition(" ")[0], each.subject) for each in CHECKS[name](scope) if isinstance(each, Violation)]


@pytest.fixture
def healthy(system):
    """A system with one job of each end, and one at work."""
    succeeded = system.job()
    system.job(status="failed", generation="failed")
    system.job(status="running", generation="running", age="0 minutes")
    system.succeeded = succeeded
    return system


@pytest.mark.usefixtures("all_databases")
def test_a_healthy_system_has_nothing_to_find(healthy):
    healthy.asset()
    names = [name for name in CHECKS if name != "dead_letters"]

    assert {name: found(name) for name in names} == {name: [] for name in names}


def test_a_job_that_did_not_end_by_its_deadline_is_found(healthy):
    job = healthy.job(status="running", generation="running", age="10 minutes")

    assert found("jobs_past_deadline") == [("jobs_past_deadline", job.job_id)]


def test_a_paused_job_may_be_past_its_deadline(healthy):
    healthy.job(status="paused", generation="queued", age="10 minutes")

    assert found("jobs_past_deadline") == []


def test_credits_held_for_a_job_that_has_ended_are_found(healthy):
    job = healthy.job(settled=False)

    assert found("open_lines") == [("open_lines", job.generation_id)]
    assert found("settlements") == [("settlements", job.generation_id)]


def test_credits_held_for_a_job_nobody_knows_are_found(healthy):
    job = healthy.job(status="running", generation="running")
    healthy.change("generation", "DELETE FROM generations WHERE job_id = :id", id=job.job_id)
    healthy.change("generation", "DELETE FROM jobs WHERE id = :id", id=job.job_id)

    assert found("open_lines") == [("open_lines", job.generation_id)]


def test_a_capture_that_may_still_be_on_its_way_is_no_violation(healthy):
    healthy.job(settled=False, age="5 seconds")

    assert found("open_lines", Scope(grace_seconds=60)) == []
    assert found("settlements", Scope(grace_seconds=60)) == []


def test_a_failure_that_was_paid_for_is_found(healthy):
    generation_id = healthy.succeeded.generation_id
    healthy.change(
        "generation",
        "UPDATE generations SET status = 'failed', failure_reason = 'provider_error' WHERE id = :id",
        id=generation_id,
    )

    assert found("settlements") == [("settlements", generation_id)]
    assert found("failures") == [("failures", generation_id)]


def test_a_failure_is_looked_at_once_its_job_has_ended(healthy):
    job = healthy.job(status="running", generation="failed", settled=False)
    assert found("failures") == []

    healthy.change(
        "generation",
        "UPDATE jobs SET status = 'failed', finished_at = now(), open_generations = 0 WHERE id = :id",
        id=job.job_id,
    )

    assert found("failures") == [("failures", job.generation_id)]


def test_a_failure_for_which_nothing_was_ever_held_is_no_violation(healthy):
    job = healthy.job(status="failed", generation="failed")
    healthy.change("generation", "UPDATE generations SET amount = NULL WHERE id = :id", id=job.generation_id)

    assert found("failures") == found("settlements") == []


@pytest.mark.parametrize(("charged", "line"), [(3, ("captured", 3)), (0, ("refunded", 0))])
def test_a_result_costs_what_was_charged_for_it(healthy, charged, line):
    job = healthy.job(settled=False)
    healthy.settle(job, amount=charged)
    assert found("settlements") == [("settlements", job.generation_id)]

    statement = "UPDATE generations SET charged = :charged WHERE id = :id"
    healthy.change("generation", statement, charged=charged, id=job.generation_id)

    assert found("settlements") == []
    assert healthy.line(job) == line


def test_lines_of_a_paused_job_may_be_open(healthy):
    healthy.job(status="paused", generation="running", age="10 minutes")

    assert found("open_lines") == []


def test_money_that_came_from_nowhere_is_found(healthy):
    healthy.change("credits", "UPDATE accounts SET available = available + 1 WHERE kind = 'wallet'")

    assert found("ledger")
    assert {check for check, _ in found("ledger")} == {"ledger"}


def test_a_generation_that_succeeded_with_nothing_to_show_is_found(healthy):
    healthy.change("generation", "DELETE FROM images WHERE generation_id = :id", id=healthy.succeeded.generation_id)

    assert found("results") == [("results", healthy.succeeded.generation_id)]


def image_of(healthy):
    with healthy.databases["generation"].transaction() as session:
        return session.execute(
            audit.databases.sa.text("SELECT id, key, thumbnail_key FROM images WHERE generation_id = :id"),
            {"id": healthy.succeeded.generation_id},
        ).one()


@pytest.mark.parametrize("lost", ["key", "thumbnail_key"])
def test_an_image_without_its_object_is_found(healthy, lost):
    image = image_of(healthy)
    healthy.store.delete(getattr(image, lost))

    assert found("images", Scope(grace_seconds=0)) == [("images", image.id)]


def test_an_image_whose_bytes_were_changed_is_found_by_the_deep_audit(healthy, tmp_path):
    image = image_of(healthy)
    file = tmp_path / "objects" / image.key
    file.write_bytes(file.read_bytes()[::-1])

    assert found("images", Scope(grace_seconds=0)) == []
    assert found("images", DEEP) == [("images", image.id)]


def test_an_asset_without_its_object_is_found(system):
    upload = system.asset()
    system.store.delete(upload.key)

    assert found("assets") == [("assets", upload.asset_id)]


def test_a_deleted_asset_whose_bytes_are_still_there_is_found(system):
    upload = system.asset()
    system.change(
        "catalog",
        "UPDATE assets SET deletion_reason = 'requested', deleted_at = now() WHERE id = :id",
        id=upload.asset_id,
    )

    assert found("assets") == [("assets", upload.asset_id)]


def test_an_asset_that_is_shown_has_its_thumbnail(system):
    upload = system.asset()
    system.shown(upload)
    before = found("assets")

    system.store.delete(upload.key.replace(".jpg", ".thumb.jpg"))

    assert before == []
    assert found("assets") == [("assets", upload.asset_id)]


def test_a_thumbnail_that_outlives_its_asset_is_found(system):
    upload = system.asset()
    system.shown(upload)
    system.store.delete(upload.key)
    system.change(
        "catalog",
        "UPDATE assets SET deletion_reason = 'retention', deleted_at = now() WHERE id = :id",
        id=upload.asset_id,
    )

    assert found("assets") == [("assets", upload.asset_id)]


def test_a_view_without_a_current_revision_is_found(system):
    product_id = system.shown(system.asset())
    before = found("views")

    system.change("catalog", "UPDATE product_views SET is_current = false WHERE product_id = :id", id=product_id)

    assert before == []
    assert found("views") == [("views", f"{product_id} front")]


def test_an_object_nobody_names_is_found_once_it_is_a_day_old(healthy, tmp_path):
    healthy.asset()
    young, old = f"images/org_first/img_x/{1}.jpg", f"images/org_first/img_x/{2}.jpg"
    for key in (young, old):
        healthy.store.put(key=key, chunks=b"lost", content_type="image/jpeg")
    _make_older(tmp_path / "objects" / old, hours=25)

    assert found("orphans") == [("orphans", old)]


@pytest.mark.usefixtures("all_databases")
def test_an_event_that_is_not_published_is_found(system):
    system.change("credits", "INSERT INTO outbox (event_id, type, body) VALUES ('evt_1', 'X', '{}')")

    assert found("outboxes") == [("outboxes", "credits")]


@pytest.mark.broker
@pytest.mark.usefixtures("all_databases", "topology")
def test_the_command_tells_what_it_found_and_exits_with_1(healthy, capsys):
    job = healthy.job(settled=False)

    status = main(["audit", "--grace", "0"])

    report = capsys.readouterr().out
    assert status == 1
    assert f"       {job.generation_id}: expected settled with {job.job_id}, found held, job succeeded" in report
    assert report.endswith("2 violations.\n")


@pytest.mark.broker
@pytest.mark.usefixtures("all_databases", "topology")
def test_the_command_names_the_broken_row_of_the_ledger_and_the_head_of_its_chain(healthy, capsys):
    seal_entries(healthy.databases["credits"])
    wallet = "org_id = 'org_first' AND kind = 'wallet' AND unit = 'credits'"
    healthy.change("credits", f"UPDATE accounts SET version = version + 1 WHERE {wallet}")

    status = main(["audit", "--json"])
    report = json.loads(capsys.readouterr().out)
    main(["audit"])

    lines = capsys.readouterr().out.splitlines()
    measured = report["measured"]["ledger"]
    assert status == 1
    assert (measured["sealed"], measured["unsealed"]) == (measured["entries"], 0)
    assert lines[0].startswith("1    ledger")
    assert f"head {measured['head']}, unsealed 0" in lines[1]
    assert lines[2].startswith("       version_counts_the_entries: org_first/credits: expected ")


@pytest.mark.broker
@pytest.mark.usefixtures("all_databases")
def test_a_message_that_was_set_aside_is_found(topology, capsys):
    topology.put("credits.dead-letters")

    status = main(["audit", "--json"])

    report = json.loads(capsys.readouterr().out)
    assert status == 1
    assert report["violations"] == [
        {
            "check": "dead_letters",
            "subject": "credits.dead-letters",
            "expected": "empty",
            "found": "1 messages",
        }
    ]


@pytest.mark.broker
@pytest.mark.usefixtures("healthy", "all_databases", "topology")
def test_nothing_found_is_exit_status_0(capsys):
    status = main(["audit", "--deep"])

    assert status == 0
    assert capsys.readouterr().out.endswith("All is as it must be.\n")


def _make_older(file, *, hours):
    moment = file.stat().st_mtime - hours * 3600
    os.utime(file, (moment, moment))
