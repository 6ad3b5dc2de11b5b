-- End held lines: capture what is due, give the rest back. One row per line asked for, settled now or not.
-- Locks, always in this order: lines by job and line id, then accounts by id; a wallet only where something comes back.
-- Every table is read by key; see reserve. What comes back is no longer counted against the cap of the day it was held.
CREATE FUNCTION settle(
    job_ids text[],               -- one element per line (each line at most once in a call)
    line_ids text[],
    org_ids text[],               -- whose it must be
    amounts bigint[],             -- what to capture, at most what is held; 0 gives all back
    reasons text[],               -- why the rest comes back
    given_moment timestamptz      -- null: the time it is once everything is locked
) RETURNS TABLE (
    job_id text,
    line_id text,
    org_id text,
    reservation_id text,
    state text,                   -- settled | settled_before | unknown
    unit text,
    captured bigint,              -- now, or before
    refunded bigint,
    reason text,
    available bigint,             -- of the wallet, after this line's refund; null without one
    version bigint
)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    due record;
    line lines;
    ended lines[];
    touched bigint[];
    total record;
    moment timestamptz;
BEGIN
    FOR due IN
        SELECT * FROM unnest(job_ids, line_ids, org_ids, amounts, reasons)
            AS due (job_id, line_id, org_id, amount, reason)
        ORDER BY job_id, line_id
    LOOP
        UPDATE lines SET captured_amount = least(due.amount, amount), settled_at = coalesce(given_moment, now()),
            status = CASE WHEN due.amount > 0 THEN 'captured' ELSE 'refunded' END,
            reason = CASE WHEN due.amount < amount THEN due.reason END
        WHERE job_id = due.job_id AND line_id = due.line_id AND status = 'held'
        RETURNING * INTO line;
        IF FOUND THEN
            ended := ended || line;
        ELSE
            SELECT * INTO line FROM lines WHERE job_id = due.job_id AND line_id = due.line_id;
            RETURN QUERY SELECT due.job_id, due.line_id, due.org_id, NULL::text,
                CASE WHEN line.line_id IS NULL THEN 'unknown' ELSE 'settled_before' END,
                line.unit, line.captured_amount, line.amount - line.captured_amount, line.reason,
                NULL::bigint, NULL::bigint;
        END IF;
        IF line.org_id <> due.org_id THEN
            RAISE EXCEPTION 'line % of % is of %, not of %', due.line_id, due.job_id, line.org_id, due.org_id;
        END IF;
    END LOOP;

    SELECT array_agg(id) INTO touched
    FROM (
        SELECT (SELECT id FROM accounts WHERE org_id = e.org_id AND unit = e.unit AND kind = 'wallet') AS id
        FROM unnest(ended) e WHERE captured_amount < amount GROUP BY org_id, unit
        UNION ALL
        SELECT (SELECT id FROM accounts WHERE org_id = e.org_id AND unit = e.unit AND kind = 'held')
        FROM unnest(ended) e WHERE captured_amount > 0 OR cost_microusd > 0 GROUP BY org_id, unit
    ) needed;
    PERFORM FROM accounts WHERE id = ANY (touched) ORDER BY id FOR NO KEY UPDATE;
    moment := coalesce(given_moment, clock_timestamp());
    PERFORM put_back(array_agg(e), array_agg(e.captured_amount), array_agg(e.amount), 'returned', 'generation',
        moment)
    FROM unnest(ended) e WHERE captured_amount < amount
    HAVING count(*) > 0;

    RETURN QUERY
    WITH move AS (
        SELECT ended.*, wallet.id AS wallet_id, holder.id AS holder_id, revenue.id AS revenue_id,
            amount - captured_amount AS refunded,
            (wallet.available + sum(amount - captured_amount) OVER in_order)::bigint AS available_after,
            wallet.version + count(nullif(amount, captured_amount)) OVER in_order AS wallet_version
        FROM unnest(ended) AS ended
        CROSS JOIN LATERAL (
            SELECT * FROM accounts WHERE org_id = ended.org_id AND unit = ended.unit AND kind = 'wallet' OFFSET 0
        ) wallet
        CROSS JOIN LATERAL (
            SELECT id FROM accounts WHERE org_id = ended.org_id AND unit = ended.unit AND kind = 'held' OFFSET 0
        ) holder
        CROSS JOIN LATERAL (
            SELECT id FROM accounts WHERE org_id IS NULL AND unit = ended.unit AND kind = 'revenue' OFFSET 0
        ) revenue
        WINDOW in_order AS (PARTITION BY wallet.id ORDER BY job_id, line_id)
    ), written AS (
        INSERT INTO entries (transfer_id, account_id, org_id, unit, kind, amount, available_after, version,
            job_id, line_id, sku, product, reason, actor, created_at)
        SELECT job_id || '/' || line_id || '/' || leg.kind, leg.account_id, leg.org_id, unit, leg.kind, leg.amount,
            leg.available_after, leg.version, job_id, line_id, sku, product, leg.reason, 'generation',
            moment
        FROM move, LATERAL (VALUES
            ('capture', holder_id, move.org_id, -captured_amount, NULL, NULL, NULL),
            ('capture', revenue_id, NULL, captured_amount, NULL, NULL, NULL),
            ('refund', holder_id, move.org_id, -refunded, NULL, NULL, move.reason),
            ('refund', wallet_id, move.org_id, refunded, available_after, wallet_version, move.reason)
        ) AS leg (kind, account_id, org_id, amount, available_after, version, reason)
        WHERE leg.amount <> 0
        ORDER BY job_id, line_id, leg.kind, leg.amount
    )
    SELECT job_id, line_id, org_id, (SELECT id FROM reservations WHERE job_id = move.job_id), 'settled', unit,
        captured_amount, refunded, reason, CASE WHEN refunded > 0 THEN available_after END,
        CASE WHEN refunded > 0 THEN wallet_version END
    FROM move
    ORDER BY job_id, line_id;

    FOR total IN
        SELECT org_id, unit, sum(captured_amount) AS captured, sum(amount - captured_amount) AS refunded,
            count(nullif(amount, captured_amount)) AS refunds, sum(cost_microusd) AS cost
        FROM unnest(ended) GROUP BY org_id, unit
    LOOP
        UPDATE accounts SET available = available + total.refunded, held_total = held_total - total.refunded,
            version = version + total.refunds
        WHERE org_id = total.org_id AND unit = total.unit AND kind = 'wallet' AND total.refunds > 0;
        UPDATE accounts SET captured_total = captured_total + total.captured,
            released_cost_total = released_cost_total + total.cost
        WHERE org_id = total.org_id AND unit = total.unit AND kind = 'held' AND total.captured + total.cost > 0;
    END LOOP;
    UPDATE cap_usage u SET amount = u.amount - back.amount
    FROM (
        SELECT org_id, cap_id, (created_at AT TIME ZONE 'UTC')::date AS day, sum(amount - captured_amount) AS amount
        FROM unnest(ended) WHERE cap_id IS NOT NULL AND captured_amount < amount GROUP BY 1, 2, 3
    ) back
    WHERE u.org_id = back.org_id AND u.cap_id = back.cap_id AND u.day = back.day;
END
$$;
