-- Give an amount to a wallet, once per grant id. No row back: the id is known, or there is no such wallet.
-- Locks the wallet first: what is in its grants changes only under that lock.
CREATE FUNCTION give(
    given_id text, given_org text, given_unit text, given_amount bigint, given_kind text, given_priority integer,
    expiry timestamptz, why text, who text, entry_kind text
) RETURNS TABLE (available bigint, version bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    wallet accounts;
    moment timestamptz;
BEGIN
    SELECT * INTO wallet FROM accounts
    WHERE org_id = given_org AND unit = given_unit AND kind = 'wallet' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    moment := clock_timestamp();
    INSERT INTO grants (id, org_id, unit, amount, remaining, kind, priority, expires_at, reason, actor, created_at)
    VALUES (given_id, given_org, given_unit, given_amount, given_amount, given_kind, given_priority, expiry, why, who,
        moment)
    ON CONFLICT (id) DO NOTHING;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE accounts SET available = available + given_amount, version = version + 1
    WHERE id = wallet.id RETURNING * INTO wallet;
    INSERT INTO entries (transfer_id, account_id, org_id, unit, kind, amount, available_after, version, grant_id,
        reason, actor, created_at)
    SELECT given_id || '/' || entry_kind, leg.account_id, leg.org_id, given_unit, entry_kind, leg.amount,
        leg.available_after, leg.version, given_id, why, who, moment
    FROM accounts issuance, LATERAL (VALUES
        (issuance.id, NULL, -given_amount, NULL, NULL),
        (wallet.id, wallet.org_id, given_amount, wallet.available, wallet.version)
    ) AS leg (account_id, org_id, amount, available_after, version)
    WHERE issuance.org_id IS NULL AND issuance.unit = given_unit AND issuance.kind = 'issuance'
    ORDER BY leg.amount;
    RETURN QUERY SELECT wallet.available, wallet.version;
END
$$;
