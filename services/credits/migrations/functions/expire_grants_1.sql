-- Take what is left of grants that have expired out of their wallets; one row per grant. A claim: any number may run.
-- Locks wallets by id, then looks again.
CREATE FUNCTION expire_grants(most integer, moment timestamptz) RETURNS TABLE (
    grant_id text, org_id text, unit text, kind text, amount bigint, available bigint, version bigint
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    due record;
    wallet accounts;
BEGIN
    FOR due IN
        SELECT a.id AS wallet_id, g.id FROM (
            SELECT id, org_id, unit FROM grants WHERE remaining > 0 AND expires_at <= moment ORDER BY expires_at LIMIT most
        ) g
        JOIN accounts a ON a.org_id = g.org_id AND a.unit = g.unit AND a.kind = 'wallet'
        ORDER BY a.id, g.id
    LOOP
        PERFORM FROM accounts WHERE id = due.wallet_id FOR NO KEY UPDATE;
        SELECT id, org_id, unit, kind, remaining INTO grant_id, org_id, unit, kind, amount
        FROM grants WHERE id = due.id AND remaining > 0 AND expires_at <= moment;
        CONTINUE WHEN NOT FOUND;
        UPDATE grants SET expired = expired + remaining, remaining = 0 WHERE id = due.id;
        UPDATE accounts a SET available = a.available - amount, version = a.version + 1
        WHERE id = due.wallet_id RETURNING * INTO wallet;
        INSERT INTO entries (transfer_id, account_id, org_id, unit, kind, amount, available_after, version, grant_id,
            reason, actor, created_at)
        SELECT due.id || '/expiry/' || wallet.version, leg.account_id, leg.org_id, wallet.unit, 'expiry', leg.amount,
            leg.available_after, leg.version, due.id, 'expired', 'credits', moment
        FROM accounts expiry, LATERAL (VALUES
            (wallet.id, wallet.org_id, -amount, wallet.available, wallet.version),
            (expiry.id, NULL, amount, NULL, NULL)
        ) AS leg (account_id, org_id, amount, available_after, version)
        WHERE expiry.org_id IS NULL AND expiry.unit = wallet.unit AND expiry.kind = 'expiry'
        ORDER BY leg.amount;
        available := wallet.available;
        version := wallet.version;
        RETURN NEXT;
    END LOOP;
END
$$;
