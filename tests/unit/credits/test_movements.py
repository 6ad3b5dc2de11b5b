"""What needs no database: how requests are batched, and which events tell of a movement."""

from datetime import UTC, datetime

from services.credits import announcements
from services.credits.movements import Hold, Request, Reserved, Settled, Wallet, rounds
from shared.events import CreditCaptured, HeldLine, RefundIssued


def asked(job_id: str) -> Request:
    return Request(org_id="org_a", job_id=job_id, deadline_at=datetime(2031, 5, 1, tzinfo=UTC), lines={})


def ended(**changes: object) -> Settled:
    line = {
        "reservation_id": "rsv_1",
        "job_id": "job_1",
        "line_id": "gen_1",
        "org_id": "org_a",
        "unit": "credits",
        "captured": 0,
        "refunded": 0,
        "reason": None,
        "available": None,
        "version": None,
    }
    return Settled(**{**line, **changes})  # type: ignore[arg-type]  # a test's row of plain values


def test_requests_for_different_jobs_go_in_one_round() -> None:
    assert rounds([asked("a"), asked("b"), asked("c")]) == [[0, 1, 2]]


def test_requests_for_the_same_job_go_one_after_the_other() -> None:
    assert rounds([asked("a"), asked("b"), asked("a"), asked("a"), asked("b")]) == [[0, 1], [2, 4], [3]]


def test_no_requests_need_no_round() -> None:
    assert rounds([]) == []


def test_a_capture_in_full_is_told_by_one_event() -> None:
    events = announcements.of_settlement(ended(captured=10))

    assert [(type(event), event.amount) for event in events] == [(CreditCaptured, 10)]


def test_a_capture_in_part_is_told_by_two_events() -> None:
    events = announcements.of_settlement(ended(captured=4, refunded=6, reason="cache_hit", available=96, version=3))

    assert events == [
        CreditCaptured(
            reservation_id="rsv_1", job_id="job_1", org_id="org_a", line_id="gen_1", amount=4, unit="credits"
        ),
        RefundIssued(
            reservation_id="rsv_1",
            job_id="job_1",
            org_id="org_a",
            line_id="gen_1",
            amount=6,
            unit="credits",
            reason="cache_hit",
            available=96,
            version=3,
        ),
    ]


def test_a_hold_is_told_with_only_the_lines_it_added() -> None:
    lines = [HeldLine(line_id=line_id, sku="staging.variant", unit="credits", amount=10) for line_id in ("a", "b")]
    reserved = Reserved(
        reservation_id="rsv_1",
        lines=lines,
        holds=[Hold(unit="credits", amount=10, available=80, version=3, line_ids=["b"])],
        wallet=Wallet(available=80, held=20, version=3),
    )

    (event,) = announcements.of_hold(asked("job_1"), reserved)

    assert (event.amount, event.lines, event.available, event.version) == (10, lines[1:], 80, 3)


def test_a_repeated_hold_is_not_told() -> None:
    wallet = Wallet(available=80, held=20, version=3)

    assert announcements.of_hold(asked("job_1"), Reserved(reservation_id="r", lines=[], holds=[], wallet=wallet)) == []
