-- Take an amount out of a wallet, once per adjustment id, from the grants in the order of spending. No row back: the id
-- is known, or there is no such wallet. `refused`: it has less. What has expired is not counted and not taken, swept or
-- not, so that the outcome never depends on the sweep.
CREATE FUNCTION withdraw(
    given_id text, given_org text, given_unit text, given_amount bigint, why text, who text, given_moment timestamptz
) RETURNS TABLE (available bigint, version bigint, refused boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    wallet accounts;
    moment timestamptz;
    usable bigint;
    due bigint := given_amount;
    part bigint;
    purse record;
BEGIN
    SELECT * INTO wallet FROM accounts
    WHERE org_id = given_org AND unit = given_unit AND kind = 'wallet' FOR NO KEY UPDATE;
    IF NOT FOUND OR EXISTS (SELECT FROM adjustments WHERE id = given_id) THEN
        RETURN;
    END IF;
    moment := coalesce(given_moment, clock_timestamp());
    IF given_unit = 'plan_generations' THEN
        PERFORM issue_allowance(given_org, 0, moment);  -- what is to be taken back may not have been opened yet
        SELECT * INTO wallet FROM accounts WHERE id = wallet.id;
    END IF;
    SELECT coalesce(sum(remaining), 0) INTO usable FROM grants
    WHERE org_id = given_org AND unit = given_unit AND remaining > 0 AND (expires_at IS NULL OR expires_at > moment);
    IF usable < given_amount THEN
        RETURN QUERY SELECT usable, wallet.version, true;
        RETURN;
    END IF;
    INSERT INTO adjustments (id, org_id, unit, amount, reason, actor, created_at)
    VALUES (given_id, given_org, given_unit, -given_amount, why, who, moment)
    ON CONFLICT (id) DO NOTHING;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOR purse IN
        SELECT id, remaining FROM grants
        WHERE org_id = given_org AND unit = given_unit AND remaining > 0 AND (expires_at IS NULL OR expires_at > moment)
        ORDER BY expires_at NULLS LAST, priority, created_at, id
    LOOP
        part := least(due, purse.remaining);
        EXIT WHEN part = 0;
        due := due - part;
        UPDATE grants SET remaining = remaining - part, taken_back = taken_back + part WHERE id = purse.id;
        UPDATE accounts SET available = available - part, version = version + 1
        WHERE id = wallet.id RETURNING * INTO wallet;
        INSERT INTO entries (transfer_id, account_id, org_id, unit, kind, amount, available_after, version, grant_id,
            reason, actor, created_at)
        SELECT given_id || '/adjustment/' || purse.id, leg.account_id, leg.org_id, given_unit, 'adjustment',
            leg.amount, leg.available_after, leg.version, purse.id, why, who, moment
        FROM accounts issuance, LATERAL (VALUES
            (wallet.id, wallet.org_id, -part, wallet.available, wallet.version),
            (issuance.id, NULL, part, NULL, NULL)
        ) AS leg (account_id, org_id, amount, available_after, version)
        WHERE issuance.org_id IS NULL AND issuance.unit = given_unit AND issuance.kind = 'issuance'
        ORDER BY leg.amount;
    END LOOP;
    RETURN QUERY SELECT wallet.available, wallet.version, false;
END
$$;
