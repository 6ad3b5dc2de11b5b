-- Give an organization another plan, and this month's allowance the size of it: what was used stays used. One row with
-- the plan before; none, where the organization has no account.
CREATE FUNCTION change_plan(given_org text, wanted text, who text, given_moment timestamptz)
RETURNS TABLE (previous_plan text, monthly_generations integer)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    wallet accounts;
    allowance grants;
    difference bigint;
    moment timestamptz;
BEGIN
    SELECT * INTO wallet FROM accounts
    WHERE org_id = given_org AND unit = 'plan_generations' AND kind = 'wallet' FOR NO KEY UPDATE;
    moment := coalesce(given_moment, clock_timestamp());
    SELECT plan INTO previous_plan FROM organization_plans WHERE org_id = given_org FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT p.monthly_generations INTO STRICT monthly_generations FROM plans p WHERE name = wanted;
    IF previous_plan = wanted THEN
        RETURN NEXT;
        RETURN;
    END IF;
    UPDATE organization_plans SET plan = wanted, since = moment WHERE org_id = given_org;

    SELECT * INTO allowance FROM grants
    WHERE id = allowance_id(given_org, moment) AND expires_at > moment;
    IF FOUND AND monthly_generations IS NOT NULL THEN
        difference := greatest(0, monthly_generations - (allowance.amount - allowance.withdrawn - allowance.remaining))
            - allowance.remaining;
        IF difference <> 0 THEN
            UPDATE accounts SET available = available + difference, version = version + 1
            WHERE id = wallet.id RETURNING * INTO wallet;
            INSERT INTO entries (transfer_id, account_id, org_id, unit, kind, amount, available_after, version,
                grant_id, reason, actor, created_at)
            SELECT allowance.id || '/allowance/' || wallet.version, leg.account_id, leg.org_id, wallet.unit,
                'allowance', leg.amount, leg.available_after, leg.version, allowance.id, 'plan ' || wanted, who, moment
            FROM accounts issuance, LATERAL (VALUES
                (wallet.id, wallet.org_id, difference, wallet.available, wallet.version),
                (issuance.id, NULL, -difference, NULL, NULL)
            ) AS leg (account_id, org_id, amount, available_after, version)
            WHERE issuance.org_id IS NULL AND issuance.unit = wallet.unit AND issuance.kind = 'issuance'
            ORDER BY leg.amount;
        END IF;
        UPDATE grants SET remaining = remaining + difference, amount = amount + greatest(difference, 0),
            withdrawn = withdrawn + greatest(-difference, 0),
            notified_percent = (  -- a threshold that the new size puts out of reach again can be told again
                SELECT coalesce(max(percent), 0) FROM (VALUES (80), (100)) AS threshold (percent)
                WHERE percent <= notified_percent
                    AND (amount - withdrawn - remaining) * 100 >= percent * monthly_generations
            )
        WHERE id = allowance.id;
    END IF;
    RETURN NEXT;
END
$$;
