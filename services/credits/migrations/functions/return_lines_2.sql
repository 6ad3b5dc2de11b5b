-- Give back what was captured of a job's lines, or of one of them; one row per line: returned now, before, or held.
-- Locks the lines by id, then the wallets by id. It is no longer counted against the cap of the day it was held.
CREATE FUNCTION return_lines(given_job text, given_line text, why text, who text, given_moment timestamptz) RETURNS TABLE (
    line_id text,
    org_id text,
    reservation_id text,
    workflow text,
    state text,                   -- returned | returned_before | nothing_captured | held
    unit text,
    amount bigint,
    available bigint,             -- of the wallet after it
    version bigint
)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    given lines[];
    moment timestamptz;
BEGIN
    PERFORM FROM lines WHERE job_id = given_job AND line_id = coalesce(given_line, line_id)
    ORDER BY line_id FOR NO KEY UPDATE;
    PERFORM FROM accounts
    WHERE kind = 'wallet' AND org_id = (SELECT org_id FROM reservations WHERE job_id = given_job)
    ORDER BY id FOR NO KEY UPDATE;
    moment := coalesce(given_moment, clock_timestamp());
    SELECT array_agg(l ORDER BY line_id) INTO given FROM lines l
    WHERE job_id = given_job AND line_id = coalesce(given_line, line_id) AND captured_amount > 0 AND returned_amount = 0;
    UPDATE lines SET returned_amount = captured_amount, return_reason = why, returned_by = who, returned_at = moment
    WHERE job_id = given_job AND line_id = ANY (ARRAY(SELECT line_id FROM unnest(given)));
    PERFORM put_back(given, array_agg(0::bigint), array_agg(captured_amount), 'charge-returned', who, moment)
    FROM unnest(given) HAVING count(*) > 0;
    UPDATE cap_usage u SET amount = u.amount - back.amount
    FROM (
        SELECT org_id, cap_id, (created_at AT TIME ZONE 'UTC')::date AS day, sum(captured_amount) AS amount
        FROM unnest(given) WHERE cap_id IS NOT NULL GROUP BY 1, 2, 3
    ) back
    WHERE u.org_id = back.org_id AND u.cap_id = back.cap_id AND u.day = back.day;

    RETURN QUERY
    WITH move AS (
        SELECT line.*, wallet.id AS wallet_id, revenue.id AS revenue_id,
            (wallet.available + sum(captured_amount) OVER in_order)::bigint AS available_after,
            wallet.version + row_number() OVER in_order AS wallet_version
        FROM unnest(given) AS line
        CROSS JOIN LATERAL (
            SELECT * FROM accounts WHERE org_id = line.org_id AND unit = line.unit AND kind = 'wallet' OFFSET 0
        ) wallet
        CROSS JOIN LATERAL (
            SELECT id FROM accounts WHERE org_id IS NULL AND unit = line.unit AND kind = 'revenue' OFFSET 0
        ) revenue
        WINDOW in_order AS (PARTITION BY wallet.id ORDER BY line_id)
    ), written AS (
        INSERT INTO entries (transfer_id, account_id, org_id, unit, kind, amount, available_after, version,
            job_id, line_id, sku, product, reason, actor, created_at)
        SELECT job_id || '/' || line_id || '/return', leg.account_id, leg.org_id, unit, 'return', leg.amount,
            leg.available_after, leg.version, job_id, line_id, sku, product, why, who, moment
        FROM move, LATERAL (VALUES
            (revenue_id, NULL, -captured_amount, NULL, NULL),
            (wallet_id, move.org_id, captured_amount, available_after, wallet_version)
        ) AS leg (account_id, org_id, amount, available_after, version)
        ORDER BY line_id, leg.amount
    ), credited AS (
        UPDATE accounts a SET available = a.available + total.amount, version = a.version + total.changes
        FROM (
            SELECT wallet_id, sum(captured_amount) AS amount, count(*) AS changes FROM move GROUP BY wallet_id
        ) total
        WHERE a.id = total.wallet_id
    )
    SELECT move.line_id, move.org_id, r.id, r.workflow, 'returned', move.unit, captured_amount, available_after,
        wallet_version
    FROM move CROSS JOIN LATERAL (SELECT id, workflow FROM reservations WHERE job_id = given_job OFFSET 0) r
    ORDER BY move.line_id;

    RETURN QUERY
    SELECT l.line_id, l.org_id, r.id, r.workflow, CASE WHEN l.status = 'held' THEN 'held'
            WHEN l.captured_amount = 0 THEN 'nothing_captured' ELSE 'returned_before' END,
        l.unit, l.returned_amount, NULL::bigint, NULL::bigint
    FROM lines l CROSS JOIN LATERAL (SELECT id, workflow FROM reservations WHERE job_id = given_job OFFSET 0) r
    WHERE l.job_id = given_job AND l.line_id = coalesce(given_line, l.line_id)
        AND l.line_id <> ALL (ARRAY(SELECT line_id FROM unnest(given)))
    ORDER BY l.line_id;
END
$$;
