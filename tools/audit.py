"""Does what the services say of each other hold? Each check compares two of them, or rows with stored bytes.

Nothing is changed. What is younger than the grace period may still be on its way and is not looked at.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.credits import audit as credits_audit
from services.credits.handlers import OVERDUE_AFTER
from shared import broker
from shared.config import SERVICES
from shared.storage import ObjectMissing, ObjectStore
from shared.topology import UNROUTED, dead_letters_queue
from tools import databases, objects
from tools.environment import setting
from tools.failures import CommandFailed

# A job may be this late: the sweeper that ends it comes by every few seconds.
LATE_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One thing that is not as it must be: of ``subject`` (an id, a key, a queue), what was expected and found."""

    check: str
    subject: str
    expected: str
    found: str


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What is looked at: nothing younger than ``grace_seconds``; with ``deep`` every stored byte is read again."""

    grace_seconds: float = 60.0
    deep: bool = False


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a check has measured, by name: no violation, but worth to be shown and written down."""

    measured: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one check came to."""

    violations: list[Violation]
    measured: dict[str, Any]


Check = Callable[[Scope], Iterator[Violation | Figures]]


def run(scope: Scope) -> dict[str, Found]:
    """Run every check; return what each found, by its name."""
    return {name: _result(list(check(scope))) for name, check in CHECKS.items()}


def ledger(_scope: Scope) -> Iterator[Violation | Figures]:
    """Recompute every balance, line, grant and link of the hash chain of credits from its entries."""
    with databases.reading("credits") as session:
        found = credits_audit.run(session, grace=OVERDUE_AFTER)
    yield Figures(measured={"accounts": found["accounts"], "entries": found["entries"], **found["chain"]})
    for each in found["violations"]:
        yield Violation(
            check=f"ledger {each['invariant']}",
            subject=str(each["subject"]),
            expected=_text(each["expected"]),
            found=_text(each["found"]),
        )


def jobs_past_deadline(scope: Scope) -> Iterator[Violation]:
    """Every job has ended by its deadline, unless it is paused."""
    late = databases.rows(
        "generation",
        "SELECT id, status, deadline_at FROM jobs WHERE finished_at IS NULL AND status <> 'paused'"
        " AND deadline_at < now() - make_interval(secs => :late) ORDER BY id",
        late=max(scope.grace_seconds, LATE_SECONDS),
    )
    for job_id, status, deadline_at in late:
        yield Violation(
            check="jobs_past_deadline", subject=job_id, expected=f"ended by {deadline_at:%F %T}", found=status
        )


def open_lines(scope: Scope) -> Iterator[Violation]:
    """No credits stay held for a job that has ended, or that generation has never seen."""
    statement = (
        "SELECT line_id, job_id FROM (SELECT line_id AS id, line_id, job_id, created_at FROM lines"
        " WHERE status = 'held') AS held WHERE id > :after"
        " AND created_at < now() - make_interval(secs => :grace) ORDER BY id LIMIT :page"
    )
    for page in databases.pages("credits", statement, grace=scope.grace_seconds):
        jobs = _jobs([job_id for _, job_id in page], grace_seconds=scope.grace_seconds)
        for line_id, job_id in page:
            status = jobs.get(job_id, "unknown to generation")
            if status is not None:
                yield Violation(
                    check="open_lines", subject=line_id, expected=f"settled with {job_id}", found=f"held, job {status}"
                )


def settlements(scope: Scope) -> Iterator[Violation]:
    """Every generation for which something was held was charged what its result cost, and nothing if it has none."""
    statement = (
        "SELECT id, job_id, CASE status WHEN 'succeeded' THEN coalesce(charged, amount) ELSE 0 END FROM generations"
        " WHERE id > :after AND status IN ('succeeded', 'failed') AND amount > 0"
        " AND finished_at < now() - make_interval(secs => :grace) ORDER BY id LIMIT :page"
    )
    for page in databases.pages("generation", statement, grace=scope.grace_seconds):
        lines = databases.rows(
            "credits",
            "SELECT line_id, status, captured_amount FROM lines WHERE job_id = ANY(:jobs) AND line_id = ANY(:ids)",
            **_keys(page),
        )
        paid = {line_id: (status, captured) for line_id, status, captured in lines}
        for generation_id, _, charged in page:
            wanted = ("captured", charged) if charged else ("refunded", 0)
            if (found := paid.get(generation_id)) != wanted:
                yield Violation(
                    check="settlements", subject=generation_id, expected=_text(wanted), found=_text(found or "no line")
                )


def failures(scope: Scope) -> Iterator[Violation]:
    """Every generation that failed, in a job that has ended, changed no wallet: its entries, if any, sum to zero."""
    statement = (
        "SELECT id, job_id FROM generations WHERE id > :after AND status = 'failed' AND (SELECT finished_at FROM jobs"
        " WHERE id = job_id) < now() - make_interval(secs => :grace) ORDER BY id LIMIT :page"
    )
    for page in databases.pages("generation", statement, grace=scope.grace_seconds):
        unequal = databases.rows(
            "credits",
            "SELECT line_id, sum(amount) FROM entries WHERE job_id = ANY(:jobs) AND line_id = ANY(:ids)"
            " AND org_id IS NOT NULL AND version IS NOT NULL GROUP BY line_id HAVING sum(amount) <> 0 ORDER BY line_id",
            **_keys(page),
        )
        for generation_id, net in unequal:
            yield Violation(check="failures", subject=generation_id, expected="net 0", found=f"net {net}")


def results(_scope: Scope) -> Iterator[Violation]:
    """Every generation that succeeded has something to show."""
    statement = (
        "SELECT id FROM generations AS made WHERE id > :after AND status = 'succeeded' AND result IS NULL"
        " AND NOT EXISTS (SELECT FROM images WHERE generation_id = made.id) ORDER BY id LIMIT :page"
    )
    for page in databases.pages("generation", statement):
        for (generation_id,) in page:
            yield Violation(check="results", subject=generation_id, expected="an image or a result", found="neither")


def images(scope: Scope) -> Iterator[Violation]:
    """Every image has its object and its thumbnail, of the recorded size, and with ``deep`` of the recorded bytes."""
    statement = (
        "SELECT id, key, bytes, sha256, crc32, thumbnail_key FROM images"
        " WHERE id > :after AND purged_at IS NULL ORDER BY id LIMIT :page"
    )
    with objects.opened() as store:
        for page in databases.pages("generation", statement):
            for image_id, key, size, sha256, crc32, thumbnail_key in page:
                yield from _stored(store, "images", image_id, (key, size, sha256, crc32), deep=scope.deep)
                if store.stat(thumbnail_key) is None:
                    yield Violation(check="images", subject=image_id, expected=thumbnail_key, found="no object")


def assets(scope: Scope) -> Iterator[Violation]:
    """Every asset that was not deleted has its object, and its thumbnail if any; of one that was, both are gone."""
    statement = (
        "SELECT id, key, bytes, sha256, crc32, thumbnail_key, deleted_at IS NOT NULL, deletion_reason IS NULL"
        " FROM assets WHERE id > :after ORDER BY id LIMIT :page"
    )
    with objects.opened() as store:
        for page in databases.pages("catalog", statement):
            for asset_id, key, size, sha256, crc32, thumbnail_key, deleted, present in page:
                if present:
                    yield from _stored(store, "assets", asset_id, (key, size, sha256, crc32), deep=scope.deep)
                    if thumbnail_key and store.stat(thumbnail_key) is None:
                        yield Violation(check="assets", subject=asset_id, expected=thumbnail_key, found="no object")
                elif deleted:
                    left = [each for each in (key, thumbnail_key) if each and store.stat(each) is not None]
                    for each in left:
                        yield Violation(check="assets", subject=asset_id, expected="bytes deleted", found=each)


def views(_scope: Scope) -> Iterator[Violation]:
    """Every view of a product has exactly one current revision."""
    statement = (
        "SELECT product_id || ' ' || view_type, count(*) FILTER (WHERE is_current) FROM product_views"
        " GROUP BY product_id, view_type HAVING count(*) FILTER (WHERE is_current) <> 1 ORDER BY 1"
    )
    for subject, found in databases.rows("catalog", statement):
        yield Violation(check="views", subject=subject, expected="1 current revision", found=f"{found} current")


def orphans(_scope: Scope) -> Iterator[Violation]:
    """No object is older than a day without a row that names it."""
    with objects.opened() as store:
        for found in objects.orphans(store, objects.Survey()):
            yield Violation(
                check="orphans",
                subject=found.key,
                expected="a row that names it",
                found=f"none since {found.stored_at:%F %T}",
            )


def outboxes(scope: Scope) -> Iterator[Violation]:
    """No committed event waits to be published."""
    for service in SERVICES:
        ((waiting, oldest),) = databases.rows(
            service,
            "SELECT count(*), min(created_at) FROM outbox WHERE created_at < now() - make_interval(secs => :grace)",
            grace=scope.grace_seconds,
        )
        if waiting:
            yield Violation(
                check="outboxes", subject=service, expected="empty", found=f"{waiting} events since {oldest:%F %T}"
            )


def dead_letters(_scope: Scope) -> Iterator[Violation]:
    """No message was set aside, and none was published without a queue to go to."""
    for queue, count in _lengths([*map(dead_letters_queue, SERVICES), UNROUTED]):
        if count:
            yield Violation(check="dead_letters", subject=queue, expected="empty", found=f"{count} messages")


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        ledger,
        jobs_past_deadline,
        open_lines,
        settlements,
        failures,
        results,
        images,
        assets,
        views,
        orphans,
        outboxes,
        dead_letters,
    )
}


def _result(told: Sequence[Violation | Figures]) -> Found:
    measured = [each.measured for each in told if isinstance(each, Figures)]
    return Found(
        violations=[each for each in told if isinstance(each, Violation)],
        measured={name: value for each in measured for name, value in each.items()},
    )


def _keys(page: Sequence[Any]) -> dict[str, list[str]]:
    """Return what finds the lines of a page of generations, ``(id, job_id, …)`` each: the index begins with the job."""
    return {"ids": [row[0] for row in page], "jobs": list({row[1] for row in page})}


def _jobs(job_ids: Sequence[str], *, grace_seconds: float) -> dict[str, str | None]:
    """Return of each known job how it ended, or None while it may still settle its lines."""
    known = databases.rows(
        "generation",
        "SELECT id, status, coalesce(finished_at < now() - make_interval(secs => :grace), false)"
        " FROM jobs WHERE id = ANY(:ids)",
        ids=list(set(job_ids)),
        grace=grace_seconds,
    )
    return {job_id: status if ended else None for job_id, status, ended in known}


def _stored(
    store: ObjectStore, check: str, subject: str, recorded: tuple[str, int, str, int], *, deep: bool
) -> Iterator[Violation]:
    """Compare an object with what was recorded of it: ``(key, bytes, sha256, crc32)``."""
    key, size, sha256, crc32 = recorded
    found: tuple[Any, ...] | None
    if deep:
        expected: tuple[Any, ...] = (size, sha256, crc32)
        try:
            measured = store.measure(key)
            found = (measured.bytes, measured.sha256, measured.crc32)
        except ObjectMissing:
            found = None
    else:
        expected = (size,)
        seen = store.stat(key)
        found = (seen.bytes,) if seen else None
    if found != expected:
        yield Violation(
            check=check, subject=subject, expected=f"{key} {_text(expected)}", found=_text(found or "no object")
        )


def _lengths(queues: Sequence[str]) -> list[tuple[str, int]]:
    try:
        with broker.connected(setting("AMQP_URL"), name="audit") as connection:
            channel = connection.channel()
            return [(queue, channel.queue_declare(queue, passive=True).message_count) for queue in queues]
    except broker.BROKER_ERRORS as error:
        raise CommandFailed(
            f"RabbitMQ does not tell how full its queues are ({type(error).__name__}: {error}); is it up, and the"
            " topology declared? bin/darkroom topology"
        ) from error


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
