"""What must hold in the ledger: one query per invariant, which returns (subject, expected, found) of each violation.

The queries share the facts below, and together make up one statement (see `audit`). Changes nothing, knows no code.
"""

# Named parts of rows, or rows brought together, that several checks look at.
FACTS = {
    "wallet": "SELECT *, org_id || '/' || unit AS name FROM accounts WHERE kind = 'wallet'",
    "holder": "SELECT *, org_id || '/' || unit AS name FROM accounts WHERE kind = 'held'",
    "moved": "SELECT account_id, sum(amount) AS total, count(*) AS changes FROM entries GROUP BY account_id",
    "history": """
        SELECT transfer_id, amount, available_after, version,
            lag(available_after, 1, 0::bigint) OVER in_order AS available_before,
            lag(version, 1, 0::bigint) OVER in_order AS version_before
        FROM entries WHERE version IS NOT NULL
        WINDOW in_order AS (PARTITION BY account_id ORDER BY version)
    """,
    "open_lines": """
        SELECT org_id, unit, sum(amount) AS amount, sum(cost_microusd) AS cost
        FROM lines WHERE status = 'held' GROUP BY org_id, unit
    """,
    # A line beside what its entries say of it; `net` is what it has changed the wallet by.
    "line": """
        SELECT job_id, l.status, job_id || '/' || line_id AS name, coalesce(l.amount, 0) AS amount,
            coalesce(l.captured_amount, 0) AS captured_amount, coalesce(l.returned_amount, 0) AS returned_amount,
            CASE WHEN l.status <> 'held' THEN l.amount - l.captured_amount ELSE 0 END AS refunded_amount,
            coalesce(e.held, 0) AS held, coalesce(e.captured, 0) AS captured, coalesce(e.refunded, 0) AS refunded,
            coalesce(e.returned, 0) AS returned, coalesce(e.net, 0) AS net
        FROM lines l
        FULL JOIN (
            SELECT job_id, line_id, sum(amount) FILTER (WHERE kind = 'hold' AND amount > 0) AS held,
                sum(amount) FILTER (WHERE kind = 'capture' AND amount > 0) AS captured,
                sum(amount) FILTER (WHERE kind = 'refund' AND amount > 0) AS refunded,
                sum(amount) FILTER (WHERE kind = 'return' AND amount > 0) AS returned,
                sum(amount) FILTER (WHERE version IS NOT NULL) AS net
            FROM entries WHERE line_id IS NOT NULL GROUP BY job_id, line_id
        ) e USING (job_id, line_id)
    """,
    # What each line takes from which grant now: all while it is held, then what was captured and not given back.
    "taking": """
        SELECT *, CASE status WHEN 'held' THEN amount ELSE captured_amount - returned_amount END AS takes FROM lines
    """,
    "part": """
        SELECT job_id, line_id, org_id, unit, part.* FROM taking,
            LATERAL unnest(grant_ids, grant_amounts) AS part (grant_id, amount) WHERE takes = taking.amount
        UNION ALL
        SELECT job_id, line_id, org_id, unit, part.* FROM taking,
            LATERAL grant_parts(grant_ids, grant_amounts, 0, takes) AS part WHERE takes > 0 AND takes < taking.amount
    """,
    # What came back when its grant had expired, and became a grant of its own (put_back says when).
    "late_part": """
        SELECT own.id AS own_id, part.grant_id, part.amount
        FROM (VALUES ('refund', 'returned'), ('return', 'charge-returned')) AS way (kind, called)
        CROSS JOIN lines l
        JOIN grants own ON own.id = l.job_id || '/' || l.line_id || '/' || way.called AND own.origin_id IS NOT NULL
        JOIN entries e ON e.job_id = l.job_id AND e.line_id = l.line_id AND e.kind = way.kind AND e.version IS NOT NULL
        CROSS JOIN LATERAL grant_parts(l.grant_ids, l.grant_amounts,
            CASE way.kind WHEN 'refund' THEN l.captured_amount ELSE 0 END,
            CASE way.kind WHEN 'refund' THEN l.amount ELSE l.returned_amount END) AS part
        JOIN grants g ON g.id = part.grant_id AND g.expires_at <= e.created_at
    """,
    "grant_entries": """
        SELECT grant_id, sum(amount) FILTER (WHERE amount > 0 AND kind IN ('grant', 'allowance', 'adjustment')) AS paid,
            -sum(amount) FILTER (WHERE kind = 'expiry') AS expired,
            -sum(amount) FILTER (WHERE amount < 0 AND kind = 'allowance') AS withdrawn,
            -sum(amount) FILTER (WHERE amount < 0 AND kind = 'adjustment') AS taken_back
        FROM entries WHERE grant_id IS NOT NULL AND version IS NOT NULL GROUP BY grant_id
    """,
    # A grant beside what lines and entries say of it.
    "purse": """
        SELECT coalesce(g.id, e.grant_id) AS id, coalesce(g.amount, 0) AS amount, coalesce(g.remaining, 0) AS remaining,
            coalesce(g.expired, 0) AS expired, coalesce(g.withdrawn, 0) AS withdrawn,
            coalesce(g.taken_back, 0) AS taken_back, coalesce(e.taken_back, 0) AS entries_taken_back,
            coalesce(took.amount, 0) AS taken, coalesce(left_for.amount, 0) AS moved_on,
            coalesce(e.paid, 0) + coalesce(came.amount, 0) AS paid, coalesce(e.expired, 0) AS entries_expired,
            coalesce(e.withdrawn, 0) AS entries_withdrawn
        FROM grants g
        FULL JOIN grant_entries e ON e.grant_id = g.id
        LEFT JOIN (SELECT grant_id, sum(amount) AS amount FROM part GROUP BY grant_id) took ON took.grant_id = g.id
        LEFT JOIN (SELECT grant_id, sum(amount) AS amount FROM late_part GROUP BY grant_id) left_for
            ON left_for.grant_id = g.id
        LEFT JOIN (SELECT own_id, sum(amount) AS amount FROM late_part GROUP BY own_id) came ON came.own_id = g.id
    """,
    # The chain of hashes: each link with the one before it and, where it still exists, its entry.
    "link": """
        SELECT s.position, s.hash, s.entry_id, e.id, e.transfer_id || ', entry ' || s.entry_id AS name,
            lag(s.position, 1, 0::bigint) OVER in_order AS position_before,
            chain_link(lag(s.hash) OVER in_order, CASE WHEN e.id IS NOT NULL THEN entry_digest(e) END) AS due
        FROM entry_seals s LEFT JOIN entries e ON e.id = s.entry_id
        WINDOW in_order AS (ORDER BY s.position)
    """,
    "unsealed": """
        SELECT id, transfer_id || ', entry ' || id AS name, created_at FROM entries e
        WHERE NOT EXISTS (SELECT FROM entry_seals WHERE entry_id = e.id)
    """,
    "head": "SELECT * FROM seals ORDER BY number DESC LIMIT 1",
}

CHECKS = {
    # Nothing appears and nothing vanishes: each transfer takes from one account what it gives to another.
    "units_sum_to_zero": """
        SELECT unit, 0, sum(amount) FROM entries GROUP BY unit HAVING sum(amount) <> 0
    """,
    "transfer_balances": """
        SELECT transfer_id, 0, sum(amount) FROM entries GROUP BY transfer_id, unit HAVING sum(amount) <> 0
    """,
    "transfer_has_two_legs": """
        SELECT transfer_id, 2, count(*) FROM entries GROUP BY transfer_id HAVING count(*) <> 2
    """,
    "entry_belongs_to_its_account": """
        SELECT e.transfer_id, e.account_id, coalesce(a.id, 0)
        FROM entries e
        LEFT JOIN accounts a ON a.id = e.account_id AND a.unit = e.unit AND a.org_id IS NOT DISTINCT FROM e.org_id
        WHERE a.id IS NULL
    """,
    "entry_goes_the_way_of_its_kind": """
        SELECT e.transfer_id, 1, 0 FROM entries e JOIN accounts a ON a.id = e.account_id
        WHERE (e.kind, a.kind, sign(e.amount)) NOT IN (
                ('hold', 'wallet', -1), ('hold', 'held', 1), ('capture', 'held', -1), ('capture', 'revenue', 1),
                ('refund', 'held', -1), ('refund', 'wallet', 1), ('return', 'revenue', -1), ('return', 'wallet', 1),
                ('grant', 'issuance', -1), ('grant', 'wallet', 1), ('expiry', 'wallet', -1), ('expiry', 'expiry', 1)
            ) AND NOT (e.kind IN ('allowance', 'adjustment') AND a.kind IN ('issuance', 'wallet'))
            OR (a.kind = 'wallet') <> (e.version IS NOT NULL)
    """,
    # A wallet is what its entries say, at every version it ever had.
    "wallet_equals_its_entries": """
        SELECT w.name, coalesce(e.total, 0), w.available
        FROM wallet w LEFT JOIN moved e ON e.account_id = w.id WHERE w.available <> coalesce(e.total, 0)
    """,
    "version_counts_the_entries": """
        SELECT w.name, coalesce(e.changes, 0), w.version
        FROM wallet w LEFT JOIN moved e ON e.account_id = w.id WHERE w.version <> coalesce(e.changes, 0)
    """,
    "available_follows_from_the_entry_before": """
        SELECT transfer_id, available_before + amount, available_after
        FROM history WHERE available_after <> available_before + amount
    """,
    "versions_have_no_gap": """
        SELECT transfer_id, version_before + 1, version FROM history WHERE version <> version_before + 1
    """,
    "never_below_zero": """
        SELECT name, 0, available FROM wallet WHERE available < 0
        UNION ALL SELECT transfer_id, 0, available_after FROM history WHERE available_after < 0
    """,
    # What is held belongs to open lines, to the last credit.
    "held_account_equals_open_lines": """
        SELECT h.name, coalesce(o.amount, 0), coalesce(e.total, 0)
        FROM holder h LEFT JOIN moved e ON e.account_id = h.id LEFT JOIN open_lines o USING (org_id, unit)
        WHERE coalesce(e.total, 0) <> coalesce(o.amount, 0)
    """,
    "held_equals_open_lines": """
        SELECT h.name, coalesce(o.amount, 0), w.held_total - h.captured_total
        FROM holder h JOIN wallet w USING (org_id, unit) LEFT JOIN open_lines o USING (org_id, unit)
        WHERE w.held_total - h.captured_total <> coalesce(o.amount, 0)
    """,
    "expected_cost_equals_open_lines": """
        SELECT h.name, coalesce(o.cost, 0), w.expected_cost_total - h.released_cost_total
        FROM holder h JOIN wallet w USING (org_id, unit) LEFT JOIN open_lines o USING (org_id, unit)
        WHERE w.expected_cost_total - h.released_cost_total <> coalesce(o.cost, 0)
    """,
    # Each line ends once: captured and refunded make up what was held, in the line as in the entries.
    "line_was_held": """
        SELECT name, amount, held FROM line WHERE held <> amount
    """,
    "line_was_captured": """
        SELECT name, captured_amount, captured FROM line WHERE captured <> captured_amount
    """,
    "line_was_refunded": """
        SELECT name, refunded_amount, refunded FROM line WHERE refunded <> refunded_amount
    """,
    "line_was_returned": """
        SELECT name, returned_amount, returned FROM line WHERE returned <> returned_amount
    """,
    "failed_generation_nets_zero": """
        SELECT name, 0, net FROM line WHERE status = 'refunded' AND net <> 0
    """,
    "line_has_the_organization_of_its_job": """
        SELECT l.job_id || '/' || l.line_id, 1, 0
        FROM lines l LEFT JOIN reservations r USING (job_id) WHERE l.org_id IS DISTINCT FROM r.org_id
    """,
    "line_ends_with_its_job": """
        SELECT l.name, 0, floor(extract(epoch FROM now() - r.deadline_at))
        FROM line l LEFT JOIN reservations r USING (job_id)
        WHERE l.status = 'held' AND coalesce(r.deadline_at, '-infinity') < now() - CAST(:grace AS interval)
    """,
    "job_holds_no_more_than_its_quote": """
        SELECT r.job_id, coalesce(q.amount, 0), l.amount
        FROM reservations r
        JOIN (SELECT job_id, sum(amount) AS amount FROM lines GROUP BY job_id) l USING (job_id)
        LEFT JOIN quotes q ON q.id = r.quote_id AND q.org_id = r.org_id AND q.job_id = r.job_id
        WHERE r.quote_id IS NOT NULL AND l.amount > coalesce(q.amount, 0)
    """,
    # A grant is what was paid for it, and goes where its lines and entries say.
    "grant_was_paid_once": """
        SELECT id, amount, paid FROM purse WHERE amount <> paid
    """,
    "grant_expired_by_its_entries": """
        SELECT id, entries_expired, expired FROM purse WHERE expired <> entries_expired
    """,
    "grant_was_withdrawn_by_its_entries": """
        SELECT id, entries_withdrawn, withdrawn FROM purse WHERE withdrawn <> entries_withdrawn
    """,
    "grant_was_taken_back_by_its_entries": """
        SELECT id, entries_taken_back, taken_back FROM purse WHERE taken_back <> entries_taken_back
    """,
    "grant_has_what_nobody_took": """
        SELECT id, amount - taken - moved_on - expired - withdrawn - taken_back, remaining
        FROM purse WHERE remaining <> amount - taken - moved_on - expired - withdrawn - taken_back
    """,
    "grants_make_up_the_wallet": """
        SELECT coalesce(w.name, g.org_id || '/' || g.unit), coalesce(g.remaining, 0), coalesce(w.available, 0)
        FROM wallet w
        FULL JOIN (SELECT org_id, unit, sum(remaining) AS remaining FROM grants GROUP BY org_id, unit) g
            USING (org_id, unit)
        WHERE coalesce(g.remaining, 0) <> coalesce(w.available, 0)
    """,
    "line_takes_from_grants_what_it_costs": """
        SELECT t.job_id || '/' || t.line_id, t.takes, coalesce(p.amount, 0)
        FROM taking t
        LEFT JOIN (SELECT job_id, line_id, sum(amount) AS amount FROM part GROUP BY job_id, line_id) p
            USING (job_id, line_id)
        WHERE coalesce(p.amount, 0) <> t.takes
    """,
    "line_takes_from_its_own_grants": """
        SELECT DISTINCT p.job_id || '/' || p.line_id, 1, 0
        FROM part p LEFT JOIN grants g ON g.id = p.grant_id AND g.org_id = p.org_id AND g.unit = p.unit
        WHERE g.id IS NULL
    """,
    # After a change of plan within the month more may rightly be used than the new plan has.
    "allowance_is_used_within_the_plan": """
        SELECT g.id, p.monthly_generations, g.amount - g.withdrawn - g.expired - g.remaining
        FROM grants g
        JOIN organization_plans o ON o.org_id = g.org_id AND o.since < g.starts_at
        JOIN plans p ON p.name = o.plan
        WHERE g.unit = 'plan_generations' AND g.starts_at <= now() AND g.expires_at > now()
            AND g.amount - g.withdrawn - g.expired - g.remaining > p.monthly_generations
    """,
    "adjustment_equals_its_entries": """
        SELECT coalesce(a.id, e.id), coalesce(a.amount, 0), coalesce(e.amount, 0)
        FROM adjustments a
        FULL JOIN (
            SELECT split_part(transfer_id, '/adjustment', 1) AS id, sum(amount) AS amount
            FROM entries WHERE kind = 'adjustment' AND version IS NOT NULL GROUP BY 1
        ) e USING (id)
        WHERE coalesce(a.amount, 0) <> coalesce(e.amount, 0)
    """,
    "usage_equals_what_was_charged": """
        SELECT coalesce(u.org_id, l.org_id) || '/' || coalesce(u.unit, l.unit), coalesce(l.amount, 0),
            coalesce(u.amount, 0)
        FROM (
            SELECT org_id, unit, sum(amount) AS amount
            FROM daily_usage, LATERAL (VALUES ('credits', credits), ('plan_generations', plan_generations))
                AS spent (unit, amount)
            GROUP BY org_id, unit
        ) u
        FULL JOIN (
            SELECT org_id, unit, sum(captured_amount - returned_amount) AS amount FROM lines GROUP BY org_id, unit
        ) l USING (org_id, unit)
        WHERE coalesce(u.amount, 0) <> coalesce(l.amount, 0)
    """,
    # What counts against the cap of a key is what its lines hold, or were charged, by the day they were held.
    "cap_usage_equals_its_lines": """
        SELECT org_id || '/' || cap_id || '/' || day, coalesce(l.amount, 0), coalesce(u.amount, 0)
        FROM cap_usage u
        FULL JOIN (
            SELECT org_id, cap_id, (created_at AT TIME ZONE 'UTC')::date AS day, sum(takes) AS amount
            FROM taking WHERE cap_id IS NOT NULL GROUP BY 1, 2, 3
        ) l USING (org_id, cap_id, day)
        WHERE coalesce(u.amount, 0) <> coalesce(l.amount, 0)
    """,
    # Sealed entries are as they were when they were sealed, all of them, in their order.
    "sealed_entry_is_there": """
        SELECT 'entry ' || entry_id, 1, 0 FROM link WHERE id IS NULL
    """,
    "sealed_entry_is_unchanged": """
        SELECT name, 1, 0 FROM link WHERE id IS NOT NULL AND hash <> due
    """,
    "chain_has_no_gap": """
        SELECT 'entry ' || entry_id, position_before + 1, position FROM link WHERE position <> position_before + 1
    """,
    "chain_ends_with_its_last_seal": """
        SELECT 'chain', coalesce((SELECT last_position FROM head), 0), coalesce(max(position), 0)
        FROM entry_seals HAVING coalesce(max(position), 0) <> coalesce((SELECT last_position FROM head), 0)
    """,
    "seal_is_in_the_chain": """
        SELECT 'seal ' || s.number, 1, 0
        FROM seals s LEFT JOIN entry_seals e ON e.position = s.last_position WHERE s.hash IS DISTINCT FROM e.hash
    """,
    "seals_have_no_gap": """
        SELECT 'seal ' || number, number_before + 1, number
        FROM (SELECT number, lag(number, 1, 0::bigint) OVER (ORDER BY number) AS number_before FROM seals) s
        WHERE number <> number_before + 1
    """,
    # Where nothing moves, nothing need be sealed either: a system that was switched off is no violation.
    "entry_is_sealed": """
        SELECT u.name, 1, 0 FROM unsealed u
        WHERE u.id <= (SELECT settled_entry_id FROM head)
            OR u.created_at < least(now(), greatest(
                (SELECT sealed_at FROM head), (SELECT max(created_at) FROM entries)
            )) - interval '15 minutes'
    """,
}
