"""A short turn of the hammer at the ledger, and what it says of one that does not add up."""

from collections import Counter

from tools.commands.hammer import report
from tools.hammer import DONE, Result, deadlocks_in, hammer

MONEY = ("hold", "hold what can be held", "results", "failures", "ends of jobs", "grant")
SOUND = {"seconds": 2.0, "entries": 40, "violations": [], "failures": [], "deadlocks": []}
LOG = """\
2031-05-01 12:00:00.000 UTC [7] ERROR:  deadlock detected
2031-05-01 12:00:00.000 UTC [7] DETAIL:  Process 7 waits for ShareLock on transaction 5; blocked by process 8.
\tProcess 8 waits for ShareLock on transaction 6; blocked by process 7.
\tProcess 7: SELECT * FROM give($1)
\tProcess 8: SELECT * FROM settle($1)
2031-05-01 12:00:00.000 UTC [7] HINT:  See server log for query details.
2031-05-01 12:00:01.000 UTC [9] ERROR:  canceling statement due to lock timeout
"""


def result(**found):
    outcomes = Counter({("hold", DONE): 12, ("hold", "quota_exceeded"): 3})
    return Result(outcomes=outcomes, **{**SOUND, **found})


def test_clients_at_the_same_accounts_leave_a_ledger_that_adds_up():
    told = []

    found = hammer(clients=6, seconds=4, seed=7, tell=told.append)

    assert (found.failures, found.deadlocks, found.violations) == ([], [], [])
    assert found.sound
    assert [name for name in MONEY if not found.outcomes[name, DONE]] == []
    assert found.entries > 0
    assert told


def test_the_report_counts_what_was_done_and_refused():
    lines = list(report(result()))

    assert any(line.split() == ["hold", "12", "quota_exceeded", "3"] for line in lines)
    assert "40 entries in the ledger, 20 a second" in lines
    assert lines[-2:] == ["The audit finds nothing.", "The ledger adds up."]


def test_the_report_names_the_first_broken_row():
    violation = {"invariant": "line_was_held", "subject": "job_1/gen_1", "expected": 10, "found": 9}

    lines = list(report(result(violations=[violation, {**violation, "subject": "job_2/gen_1"}])))

    assert any(
        line.endswith("The first broken row: line_was_held: job_1/gen_1: expected 10, found 9") for line in lines
    )
    assert lines[-1] == "The ledger does NOT add up."


def test_whatever_was_not_expected_makes_the_ledger_unsound():
    assert not result(failures=["hold: KeyError: 'id'"]).sound
    assert not result(deadlocks=["Process 7 waits"]).sound


def test_deadlocks_are_told_with_the_statements_that_waited_for_each_other():
    (deadlock,) = deadlocks_in(LOG)

    assert "Process 7: SELECT * FROM give($1)" in deadlock
    assert "Process 8: SELECT * FROM settle($1)" in deadlock
    assert "HINT" not in deadlock
