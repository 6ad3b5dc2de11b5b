-- Put units of lines back into the grants they came from. Credits of a grant that has expired meanwhile become a grant
-- of their own, good for 30 days: nobody loses credits because a failure took its time. A plan generation goes back
-- to its month, and expires with it. The wallets are locked by the caller, who says what such a grant is `called`: of one
-- line the part that was not needed may come back late, and much later the charge.
CREATE FUNCTION put_back(
    given lines[], lows bigint[], highs bigint[], called text, who text, moment timestamptz
) RETURNS void
LANGUAGE sql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
    WITH back AS (
        SELECT line.job_id, line.line_id, line.org_id, line.unit, part.grant_id, part.amount,
            line.unit = 'credits' AND coalesce(g.expires_at <= moment, false) AS late
        FROM unnest(given) WITH ORDINALITY AS line
        CROSS JOIN LATERAL grant_parts(line.grant_ids, line.grant_amounts, lows[line.ordinality],
            highs[line.ordinality]) AS part
        CROSS JOIN LATERAL (SELECT expires_at FROM grants WHERE id = part.grant_id OFFSET 0) g
    ), returned AS (
        UPDATE grants g SET remaining = g.remaining + total.amount
        FROM (SELECT grant_id, sum(amount) AS amount FROM back WHERE NOT late GROUP BY grant_id) total
        WHERE g.id = total.grant_id
    )
    INSERT INTO grants (id, org_id, unit, amount, remaining, kind, priority, reason, actor, expires_at, origin_id,
        created_at)
    SELECT job_id || '/' || line_id || '/' || called, org_id, unit, sum(amount), sum(amount), 'compensation', 30,
        'given back after its grant had expired', who, moment + interval '30 days', min(grant_id), moment
    FROM back WHERE late
    GROUP BY job_id, line_id, org_id, unit
$$;
