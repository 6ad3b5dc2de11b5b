-- Give back what was captured of a job's lines, or of one of them; one row per line: returned now, before, or held.
-- Locks the lines by id, then the wallets by id.
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
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    line lines;
    wallet accounts;
    moved bigint;
    moment timestamptz;
BEGIN
    PERFORM FROM lines WHERE job_id = given_job AND line_id = coalesce(given_line, line_id)
    ORDER BY line_id FOR NO KEY UPDATE;
    PERFORM FROM accounts
    WHERE kind = 'wallet' AND org_id = (SELECT org_id FROM reservations WHERE job_id = given_job)
    ORDER BY id FOR NO KEY UPDATE;
    moment := coalesce(given_moment, clock_timestamp());
    SELECT id, workflow INTO reservation_id, workflow FROM reservations WHERE job_id = given_job;
    FOR line IN
        SELECT * FROM lines WHERE job_id = given_job AND line_id = coalesce(given_line, line_id) ORDER BY line_id
    LOOP
        line_id := line.line_id;
        org_id := line.org_id;
        unit := line.unit;
        amount := line.returned_amount;
        available := NULL;
        version := NULL;
        state := CASE WHEN line.status = 'held' THEN 'held' WHEN line.captured_amount = 0 THEN 'nothing_captured'
            WHEN line.returned_amount > 0 THEN 'returned_before' ELSE 'returned' END;
        IF state = 'returned' THEN
            moved := line.captured_amount;
            UPDATE lines SET returned_amount = moved, return_reason = why, returned_by = who, returned_at = moment
            WHERE job_id = given_job AND line_id = line.line_id;
            PERFORM put_back(ARRAY[line], ARRAY[0::bigint], ARRAY[moved], 'charge-returned', who, moment);
            UPDATE accounts a SET available = a.available + moved, version = a.version + 1
            WHERE a.org_id = line.org_id AND a.unit = line.unit AND a.kind = 'wallet' RETURNING * INTO wallet;
            INSERT INTO entries (transfer_id, account_id, org_id, unit, kind, amount, available_after, version,
                job_id, line_id, sku, product, reason, actor, created_at)
            SELECT given_job || '/' || line.line_id || '/return', leg.account_id, leg.org_id, line.unit, 'return',
                leg.amount, leg.available_after, leg.version, given_job, line.line_id, line.sku, line.product, why,
                who, moment
            FROM accounts revenue, LATERAL (VALUES
                (revenue.id, NULL, -moved, NULL, NULL),
                (wallet.id, wallet.org_id, moved, wallet.available, wallet.version)
            ) AS leg (account_id, org_id, amount, available_after, version)
            WHERE revenue.org_id IS NULL AND revenue.unit = line.unit AND revenue.kind = 'revenue'
            ORDER BY leg.amount;
            amount := moved;
            available := wallet.available;
            version := wallet.version;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
