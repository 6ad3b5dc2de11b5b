"""The limit: a straight script that holds for many jobs in one statement with psycopg2, on one connection.

It is the only writer, so it knows the balance; no prices, no repeats, no closed jobs, no roles; an error ends it.
"""

from typing import Any

import psycopg2

from benchmarks import writers
from benchmarks.child import Conversation
from benchmarks.contenders.orm_holds import of_hold
from shared import events
from shared.ids import new_id

_HOLD = """
WITH wallet AS (
    UPDATE accounts SET available = available - %(total)s, held_total = held_total + %(total)s,
        version = version + %(count)s
    WHERE org_id = %(org_id)s AND kind = 'wallet' AND available >= %(total)s
    RETURNING id, available + %(total)s AS before, version - %(count)s AS version_before
), reservation AS (
    INSERT INTO reservations (job_id, id, org_id, deadline_at)
    SELECT job_id, id, %(org_id)s, %(deadline)s FROM unnest(%(job_ids)s, %(ids)s) AS r (job_id, id)
), line AS (
    INSERT INTO lines (job_id, line_id, org_id, sku, product, price_version, unit, amount)
    SELECT job_id, line_id, %(org_id)s, %(sku)s, 'staging', 1, 'credits', %(amount)s
    FROM unnest(%(jobs_of_lines)s, %(line_ids)s) AS l (job_id, line_id)
), entry AS (
    INSERT INTO entries (transfer_id, account_id, org_id, unit, kind, amount, available_after, version, job_id,
        line_id, sku, product, actor)
    SELECT job_id || '/' || line_id || '/hold', leg.account_id, %(org_id)s, 'credits', 'hold', leg.amount,
        leg.available_after, leg.version, job_id, line_id, %(sku)s, 'staging', 'generation'
    FROM unnest(%(jobs_of_lines)s, %(line_ids)s) WITH ORDINALITY AS l (job_id, line_id, place), wallet,
        accounts holder, LATERAL (VALUES
            (wallet.id, -%(amount)s, before - place * %(amount)s, version_before + place),
            (holder.id, %(amount)s, NULL, NULL)
        ) AS leg (account_id, amount, available_after, version)
    WHERE holder.org_id = %(org_id)s AND holder.kind = 'held'
), event AS (
    INSERT INTO outbox (event_id, type, body)
    SELECT event_id, 'CreditReserved', body FROM unnest(%(event_ids)s, %(bodies)s) AS e (event_id, body)
)
SELECT before, version_before FROM wallet
"""


def main() -> None:
    """Hold as often as ordered, ``at_once`` jobs a statement."""
    talk = Conversation()
    orders = talk.orders()
    connection = psycopg2.connect(orders["database_url"].replace("+psycopg2", ""))
    with connection.cursor() as cursor:
        for _ in range(writers.WARM_UP_HOLDS):
            hold(cursor, orders["warm_up_org_id"], [writers.new_lines(orders["lines"])])
            connection.commit()
        jobs = [writers.new_lines(orders["lines"]) for _ in range(orders["count"])]
        talk.say("ready")
        talk.wait()
        for first in range(0, len(jobs), orders["at_once"]):
            hold(cursor, orders["org_id"], jobs[first : first + orders["at_once"]])
            connection.commit()
    talk.say("done")
    talk.wait()


def hold(cursor: Any, org_id: str, jobs: list[list[str]]) -> None:
    """Hold the lines of some new jobs and announce each."""
    job_ids, ids = [new_id("job") for _ in jobs], [new_id("rsv") for _ in jobs]
    bodies = [
        events.encode(of_hold(reservation_id, job_id, org_id, lines, available=0, version=0)).decode()
        for reservation_id, job_id, lines in zip(ids, job_ids, jobs, strict=True)
    ]
    count = sum(len(lines) for lines in jobs)
    cursor.execute(
        _HOLD,
        {
            "org_id": org_id,
            "deadline": writers.DEADLINE,
            "sku": writers.SKU,
            "amount": writers.AMOUNT,
            "count": count,
            "total": count * writers.AMOUNT,
            "job_ids": job_ids,
            "ids": ids,
            "jobs_of_lines": [job_id for job_id, lines in zip(job_ids, jobs, strict=True) for _ in lines],
            "line_ids": [line_id for lines in jobs for line_id in lines],
            "event_ids": [new_id("evt") for _ in jobs],
            "bodies": bodies,
        },
    )
    if cursor.rowcount != 1:
        raise SystemExit("the wallet holds too little")


if __name__ == "__main__":
    main()
