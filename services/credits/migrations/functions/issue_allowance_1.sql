-- Open the allowance of plan generations an organization has in the month of `moment`, or, where its plan has no limit,
-- issue what a hold lacks. Where more came back than the plan has, since a larger plan had taken it, the excess goes.
-- Of a limited plan it decides alone how much: whoever may hold may call it, for himself or as the system. The wallet is
-- locked by the caller.
CREATE FUNCTION issue_allowance(given_org text, lacking bigint, moment timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    month timestamptz := date_trunc('month', moment, 'UTC');
    name text := allowance_id(given_org, moment);
    monthly bigint;
    excess bigint;
    issued bigint;
    wallet accounts;
BEGIN
    IF current_setting('role') = 'darkroom_tenant'
        AND current_setting('darkroom.org_id', true) IS DISTINCT FROM given_org THEN
        RAISE EXCEPTION 'no organization opens the allowance of another';
    END IF;
    SELECT monthly_generations INTO monthly
    FROM organization_plans JOIN plans ON plans.name = organization_plans.plan WHERE org_id = given_org;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT remaining - greatest(0, monthly - (amount - withdrawn - expired - remaining)) INTO excess
    FROM grants WHERE id = name;
    issued := CASE WHEN monthly IS NULL THEN greatest(0, lacking) WHEN FOUND THEN -greatest(0, excess) ELSE monthly END;
    IF issued = 0 THEN
        RETURN;
    ELSIF issued < 0 THEN
        UPDATE grants SET remaining = remaining + issued, withdrawn = withdrawn - issued WHERE id = name;
    ELSE
        INSERT INTO grants AS g (id, org_id, unit, amount, remaining, kind, priority, reason, actor, starts_at,
            expires_at, created_at)
        VALUES (name, given_org, 'plan_generations', issued, issued, 'monthly', 10, 'monthly allowance', 'plan', month,
            date_trunc('month', month + interval '32 days', 'UTC'), moment)
        ON CONFLICT (id) DO UPDATE SET amount = g.amount + issued, remaining = g.remaining + issued;
    END IF;
    UPDATE accounts SET available = available + issued, version = version + 1
    WHERE org_id = given_org AND unit = 'plan_generations' AND kind = 'wallet'
    RETURNING * INTO wallet;
    INSERT INTO entries (transfer_id, account_id, org_id, unit, kind, amount, available_after, version, grant_id,
        reason, actor, created_at)
    SELECT name || '/allowance/' || wallet.version, leg.account_id, leg.org_id, 'plan_generations', 'allowance',
        leg.amount, leg.available_after, leg.version, name, 'monthly allowance', 'plan', moment
    FROM accounts issuance, LATERAL (VALUES
        (issuance.id, NULL, -issued, NULL, NULL),
        (wallet.id, wallet.org_id, issued, wallet.available, wallet.version)
    ) AS leg (account_id, org_id, amount, available_after, version)
    WHERE issuance.org_id IS NULL AND issuance.unit = 'plan_generations' AND issuance.kind = 'issuance'
    ORDER BY leg.amount;
END
$$;
