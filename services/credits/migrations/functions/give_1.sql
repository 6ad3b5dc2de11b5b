-- Give an amount to a wallet, once per grant id. No row back: the id is known, or there is no such wallet.
CREATE FUNCTION give(
    given_id text, given_org text, given_unit text, given_amount bigint, given_kind text, why text, who text
) RETURNS TABLE (available bigint, version bigint)
LANGUAGE sql AS $$
    WITH given AS (
        INSERT INTO grants (id, org_id, unit, amount, kind, reason, actor)
        SELECT given_id, given_org, given_unit, given_amount, given_kind, why, who
        FROM accounts WHERE org_id = given_org AND unit = given_unit AND kind = 'wallet'
        ON CONFLICT (id) DO NOTHING
        RETURNING *
    ), wallet AS (
        UPDATE accounts a SET available = a.available + given.amount, version = a.version + 1
        FROM given
        WHERE a.org_id = given.org_id AND a.unit = given.unit AND a.kind = 'wallet'
        RETURNING a.id, a.org_id, a.available, a.version
    ), written AS (
        INSERT INTO entries (transfer_id, account_id, org_id, unit, kind, amount, available_after, version, grant_id,
            reason, actor)
        SELECT given.id || '/grant', leg.account_id, leg.org_id, given.unit, 'grant', leg.amount, leg.available_after,
            leg.version, given.id, given.reason, given.actor
        FROM given, wallet, accounts issuance, LATERAL (VALUES
            (issuance.id, NULL, -given.amount, NULL, NULL),
            (wallet.id, wallet.org_id, given.amount, wallet.available, wallet.version)
        ) AS leg (account_id, org_id, amount, available_after, version)
        WHERE issuance.org_id IS NULL AND issuance.unit = given.unit AND issuance.kind = 'issuance'
        ORDER BY leg.amount
    )
    SELECT available, version FROM wallet
$$;
