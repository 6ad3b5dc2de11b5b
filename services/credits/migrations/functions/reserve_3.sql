-- Hold credits for the lines of many jobs, one row back each, in the order given. Each request is held entirely or not
-- at all; a partial one as far as the means go, line by line in its order, but a new job not without a single line.
-- Locks, always in this order: the jobs' reservations by job id, quotes by id, the wallets by id, then only rows that
-- change under a wallet's lock alone, or that it inserts itself.
-- Every table is read by key, in subqueries that cannot become joins: a plan made while the tables were small, or for
-- organizations with few lines, must not fit a large one badly.
CREATE FUNCTION reserve(
    reservation_ids text[],       -- one element per request: the id to give a new reservation,
    job_ids text[],               -- the job (each at most once in a call),
    org_ids text[],               -- whose it is,
    deadlines timestamptz[],      -- when it will have ended,
    accepted timestamptz[],       -- when it was accepted: a quote must have been good then,
    partials boolean[],           -- whether some of the lines are better than none,
    waits boolean[],              -- whether it keeps its quote also when nothing can be held yet,
    quote_ids text[],             -- the quote it names, or null,
    fingerprints text[],          -- the hash of workflow and inputs, as the quote's,
    workflows text[],             -- and for the history: the product line,
    session_ids text[],
    actors text[],                -- who asked
    cap_ids text[],               -- the daily cap its credits count against, or null,
    daily_caps bigint[],          -- and how many that allows this request's key
    requests integer[],           -- one element per line: the position of its request, from 1,
    line_ids text[],              -- its id (each at most once in a request),
    skus text[],                  -- what it is for,
    costs bigint[],               -- and what that will cost us at providers, in microusd
    given_moment timestamptz      -- null: the time it is once the wallets are locked
) RETURNS TABLE (
    request integer,
    outcome text,                 -- held | job_closed | unknown_sku | insufficient_credits | quota_exceeded |
                                  -- daily_cap_reached | key_cap_reached | quote_not_found | quote_used |
                                  -- quote_expired | quote_mismatch
    reservation_id text,          -- null when the job holds nothing
    lines jsonb,                  -- of a held request: [{line_id, sku, unit, amount}], in the order asked
    holds jsonb,                  -- what this call added, per unit: [{unit, amount, available, version, line_ids}]
    refusal jsonb,                -- the figures of a refusal, or why a partial request lacks lines (`code`)
    thresholds jsonb,             -- what the request used up: [{percent, used, limit, period_start, resets_at}]
    available bigint,             -- the credits wallet after the call
    held bigint,
    version bigint
)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz;
    today date;                   -- UTC, as all days here
    month timestamptz;
    next_month timestamptz;
    created text[];               -- jobs whose reservation this call made
    quoted text[] := '{}';        -- quotes this call took
    ceilings bigint[];            -- of requests with a quote: how much of it is left
    orgs text[];
    budgets bigint[];             -- of `orgs`: what may still be spent at providers today; null without limit
    wallets bigint[];             -- of `orgs`, of either unit, by id; the following go along with it:
    owners text[];
    units text[];
    caps bigint[];                -- plan generations a month; null without limit, and for credits
    usable bigint[];              -- what grants hold that have not expired, less what requests so far take
    used bigint[];                -- of this month's allowance
    notified integer[];           -- the highest threshold of it that was told
    taken bigint[];
    changes bigint[];             -- in how many lines
    cost_taken bigint[];
    cap_owners text[];            -- caps of keys that requests count against; the following go along with it:
    cap_names text[];
    cap_used bigint[];            -- what their lines of today hold, or were charged
    cap_taken bigint[];
    fresh asked_line[];           -- what is not held yet, with its price
    outcomes text[] := array_fill('job_closed'::text, ARRAY[cardinality(job_ids)]);
    refusals jsonb[];
    reached jsonb[];
    upto integer[];               -- of a partial request that lacks lines: the place of the last one held
    added jsonb;                  -- {job_id: its `holds`}
    asked record;
    quote quotes;
    missing record;
    need record;
    refused jsonb;
BEGIN
    -- The job's row comes first: on it a call meets its own repeat and the job's end, whichever of them is earlier.
    WITH made AS (
        INSERT INTO reservations (job_id, id, org_id, deadline_at, workflow, session_id, actor)
        SELECT * FROM unnest(job_ids, reservation_ids, org_ids, deadlines, workflows, session_ids, actors) AS r (job_id)
        ORDER BY job_id
        ON CONFLICT (job_id) DO NOTHING
        RETURNING job_id
    )
    SELECT coalesce(array_agg(job_id), '{}') INTO created FROM made;
    PERFORM FROM reservations WHERE job_id = ANY (job_ids) ORDER BY job_id FOR NO KEY UPDATE;
    IF cardinality(array_remove(quote_ids, NULL)) > 0 THEN
        PERFORM FROM quotes WHERE id = ANY (quote_ids) ORDER BY id FOR NO KEY UPDATE;
    END IF;
    PERFORM FROM accounts WHERE org_id = ANY (org_ids) AND kind = 'wallet' ORDER BY id FOR NO KEY UPDATE;
    moment := coalesce(given_moment, clock_timestamp());
    today := (moment AT TIME ZONE 'UTC')::date;
    month := date_trunc('month', moment, 'UTC');
    next_month := date_trunc('month', month + interval '32 days', 'UTC');

    -- Which requests may go on: the job is open, and the quote it names is its own.
    FOR asked IN
        SELECT q.request, q.org_id, q.quote_id, q.job_id, r.quote_id AS known_quote
        FROM unnest(job_ids, org_ids, quote_ids) WITH ORDINALITY AS q (job_id, org_id, quote_id, request)
        CROSS JOIN LATERAL (
            SELECT quote_id FROM reservations
            WHERE job_id = q.job_id AND org_id = q.org_id AND closed_at IS NULL OFFSET 0
        ) r
        ORDER BY q.request
    LOOP
        outcomes[asked.request] := 'held';
        CONTINUE WHEN coalesce(asked.quote_id, asked.known_quote) IS NULL;
        SELECT * INTO quote FROM quotes WHERE id = coalesce(asked.known_quote, asked.quote_id) AND org_id = asked.org_id;
        IF asked.known_quote IS NULL THEN
            outcomes[asked.request] := CASE
                WHEN quote.id IS NULL THEN 'quote_not_found'
                WHEN quote.job_id <> asked.job_id OR quote.id = ANY (quoted) THEN 'quote_used'
                WHEN asked.job_id <> ALL (created) OR quote.fingerprint IS DISTINCT FROM fingerprints[asked.request]
                    THEN 'quote_mismatch'
                WHEN quote.expires_at < coalesce(accepted[asked.request], moment) THEN 'quote_expired'
                ELSE 'held' END;
            CONTINUE WHEN outcomes[asked.request] <> 'held';
            quoted := quoted || quote.id;
            UPDATE reservations SET quote_id = quote.id, priced_at = quote.created_at WHERE job_id = asked.job_id;
        ELSIF asked.quote_id <> asked.known_quote THEN
            outcomes[asked.request] := 'quote_mismatch';
        END IF;
        ceilings[asked.request] := quote.amount
            - (SELECT coalesce(sum(amount), 0) FROM lines WHERE job_id = asked.job_id);
    END LOOP;

    SELECT array_agg(id), array_agg(org_id), array_agg(unit), array_agg(monthly), array_agg(0::bigint),
        array_agg(0::bigint), array_agg(0::bigint)
    INTO wallets, owners, units, caps, taken, changes, cost_taken
    FROM (
        SELECT a.id, a.org_id, a.unit, CASE a.unit WHEN 'plan_generations' THEN (
                SELECT monthly_generations FROM plans
                WHERE name = (SELECT plan FROM organization_plans WHERE org_id = a.org_id)
            ) END AS monthly
        FROM accounts a WHERE a.org_id = ANY (org_ids) AND a.kind = 'wallet' ORDER BY a.id
    ) wallet;

    -- What each open request still needs, at the prices of the moment that counts for its job.
    -- Free lines leave no trace: those of a job that was held before are repeats, and what they cost us has been allowed.
    WITH price AS MATERIALIZED (
        SELECT q.request, q.sku, p.id, p.product, p.unit, p.amount, array_position(wallets, (
                SELECT id FROM accounts WHERE org_id = org_ids[q.request] AND unit = p.unit AND kind = 'wallet'
            )) AS wallet
        FROM (SELECT DISTINCT request, sku FROM unnest(requests, skus) AS l (request, sku)) q
        LEFT JOIN LATERAL (
            SELECT priced_at FROM reservations WHERE job_id = job_ids[q.request] OFFSET 0
        ) r ON true
        LEFT JOIN price_at(q.sku, r.priced_at) p ON true
        WHERE outcomes[q.request] = 'held'
    )
    SELECT array_agg(ROW (p.request, l.place, l.line_id, p.sku, p.product, p.id, p.unit, p.amount,
        CASE WHEN p.amount > 0 OR job_ids[l.request] = ANY (created) THEN l.cost ELSE 0 END,
        p.wallet)::asked_line ORDER BY l.place)
    INTO fresh
    FROM unnest(requests, line_ids, skus, costs) WITH ORDINALITY AS l (request, line_id, sku, cost, place)
    JOIN price p ON p.request = l.request AND p.sku = l.sku
    WHERE job_ids[l.request] = ANY (created)
        OR (SELECT line_id FROM lines WHERE job_id = job_ids[l.request] AND line_id = l.line_id) IS NULL;

    -- The means: this month's allowance, opened where it has not been; what the grants hold; what today may cost.
    FOR asked IN SELECT DISTINCT wallet FROM unnest(fresh) WHERE unit = 'plan_generations' AND wallet IS NOT NULL LOOP
        IF caps[asked.wallet] IS NOT NULL THEN
            PERFORM issue_allowance(owners[asked.wallet], 0, moment);
        END IF;
    END LOOP;
    SELECT array_agg(total), array_agg(coalesce(spent, 0)), array_agg(coalesce(told, 0)) INTO usable, used, notified
    FROM (
        SELECT (
                SELECT coalesce(sum(remaining), 0) FROM grants
                WHERE org_id = w.owner AND unit = w.unit AND remaining > 0
                    AND (expires_at IS NULL OR expires_at > moment) AND (starts_at IS NULL OR starts_at <= moment)
            ) AS total, allowance.spent, allowance.told
        FROM unnest(owners, units) WITH ORDINALITY AS w (owner, unit, place)
        LEFT JOIN LATERAL (
            SELECT amount - withdrawn - expired - remaining AS spent, notified_percent AS told FROM grants
            WHERE id = allowance_id(w.owner, moment) OFFSET 0
        ) allowance ON w.unit = 'plan_generations'
        ORDER BY w.place
    ) means;
    SELECT array_agg(org_id), array_agg(cap - coalesce((
            SELECT sum(provider_cost_microusd) FROM daily_usage
            WHERE org_id = capped.org_id AND day = today
        ), 0) - coalesce((
            SELECT sum(expected_cost_total - released_cost_total) FROM accounts
            WHERE org_id = capped.org_id AND kind IN ('wallet', 'held')
        ), 0))
    INTO orgs, budgets
    FROM (
        SELECT DISTINCT ON (q.org_id) q.org_id, coalesce(p.daily_cost_cap_microusd, (
                SELECT daily_cost_cap_microusd FROM plans WHERE name = p.plan
            )) AS cap
        FROM unnest(org_ids) AS q (org_id)
        LEFT JOIN LATERAL (SELECT * FROM organization_plans WHERE org_id = q.org_id OFFSET 0) p ON true
    ) capped;

    -- A cap's usage changes under the wallet's lock alone, as grants do.
    SELECT array_agg(org_id), array_agg(cap_id), array_agg(coalesce((
            SELECT amount FROM cap_usage WHERE org_id = c.org_id AND cap_id = c.cap_id AND day = today
        ), 0)), array_agg(0::bigint)
    INTO cap_owners, cap_names, cap_used, cap_taken
    FROM (
        SELECT DISTINCT org_id, cap_id FROM unnest(org_ids, cap_ids) AS q (org_id, cap_id) WHERE cap_id IS NOT NULL
    ) c;

    -- One request after the other: each finds what those before it have left.
    FOR asked IN
        SELECT request, max(sku) FILTER (WHERE unit IS NULL) AS unknown, sum(amount) AS amount, sum(cost) AS cost,
            array_position(orgs, org_ids[request]) AS org, (
                SELECT place FROM unnest(cap_owners, cap_names) WITH ORDINALITY AS c (org_id, cap_id, place)
                WHERE org_id = org_ids[request] AND cap_id = cap_ids[request]
            ) AS cap
        FROM unnest(fresh) GROUP BY request ORDER BY request
    LOOP
        IF asked.unknown IS NOT NULL THEN
            outcomes[asked.request] := 'unknown_sku';
            refusals[asked.request] := jsonb_build_object('sku', asked.unknown);
            CONTINUE;
        ELSIF asked.amount > ceilings[asked.request] THEN
            outcomes[asked.request] := 'quote_mismatch';
            CONTINUE;
        END IF;

        SELECT * INTO missing  -- the first line, in the order given, that the means do not cover
        FROM (
            SELECT place, wallet, unit, row_number() OVER (ORDER BY place) AS number,
                cost > 0 AND sum(cost) OVER (ORDER BY place) > budgets[asked.org] AS by_cost,
                amount > 0 AND (wallet IS NULL OR unit = 'credits' OR caps[wallet] IS NOT NULL)
                    AND sum(amount) OVER (PARTITION BY wallet, unit ORDER BY place) > coalesce(usable[wallet], 0) AS by_means,
                asked.cap IS NOT NULL AND amount > 0 AND unit = 'credits'
                    AND sum(amount) OVER (PARTITION BY unit ORDER BY place)
                        > daily_caps[asked.request] - cap_used[asked.cap] AS by_cap,
                sum(amount) OVER (PARTITION BY unit) AS required
            FROM unnest(fresh) WHERE request = asked.request
        ) line
        WHERE by_cost OR by_means OR by_cap ORDER BY place LIMIT 1;
        IF FOUND THEN
            refused := CASE
                WHEN missing.by_means AND missing.unit = 'credits' THEN jsonb_build_object(
                    'code', 'insufficient_credits', 'unit', missing.unit, 'required', missing.required,
                    'available', coalesce(usable[missing.wallet], 0), 'max_affordable', missing.number - 1)
                WHEN missing.by_means THEN jsonb_build_object(
                    'code', 'quota_exceeded', 'unit', missing.unit, 'limit', coalesce(caps[missing.wallet], 0),
                    'used', coalesce(used[missing.wallet], 0), 'requested', missing.required,
                    'max_affordable', missing.number - 1, 'resets_at', rfc3339(next_month))
                WHEN missing.by_cap THEN jsonb_build_object(
                    'code', 'key_cap_reached', 'unit', missing.unit, 'limit', daily_caps[asked.request],
                    'used', cap_used[asked.cap], 'requested', missing.required, 'max_affordable', missing.number - 1,
                    'resets_at', rfc3339(date_trunc('day', moment, 'UTC') + interval '1 day'))
                ELSE jsonb_build_object(
                    'code', 'daily_cap_reached', 'max_affordable', missing.number - 1,
                    'resets_at', rfc3339(date_trunc('day', moment, 'UTC') + interval '1 day')) END;
            refusals[asked.request] := refused;
            IF NOT partials[asked.request] OR missing.number = 1 AND job_ids[asked.request] = ANY (created) THEN
                outcomes[asked.request] := refused ->> 'code';
                CONTINUE;
            END IF;
            upto[asked.request] := missing.place - 1;
        END IF;

        FOR need IN
            SELECT wallet, sum(amount) AS amount, count(*) AS lines, sum(cost) AS cost FROM unnest(fresh)
            WHERE request = asked.request AND amount > 0 AND place <= coalesce(upto[asked.request], place)
            GROUP BY wallet
        LOOP
            usable[need.wallet] := usable[need.wallet] - need.amount;
            taken[need.wallet] := taken[need.wallet] + need.amount;
            changes[need.wallet] := changes[need.wallet] + need.lines;
            cost_taken[need.wallet] := cost_taken[need.wallet] + need.cost;
            budgets[asked.org] := budgets[asked.org] - need.cost;
            IF units[need.wallet] = 'credits' AND asked.cap IS NOT NULL THEN
                cap_used[asked.cap] := cap_used[asked.cap] + need.amount;
                cap_taken[asked.cap] := cap_taken[asked.cap] + need.amount;
            END IF;
            CONTINUE WHEN units[need.wallet] = 'credits';
            used[need.wallet] := used[need.wallet] + need.amount;
            SELECT jsonb_agg(jsonb_build_object('percent', percent, 'used', used[need.wallet], 'limit',
                    caps[need.wallet], 'period_start', rfc3339(month), 'resets_at',
                    rfc3339(next_month)) ORDER BY percent) AS told,
                max(percent) AS highest
            INTO missing
            FROM (VALUES (80), (100)) AS threshold (percent)
            WHERE percent > notified[need.wallet] AND used[need.wallet] * 100 >= percent * caps[need.wallet];
            CONTINUE WHEN missing.highest IS NULL;
            reached[asked.request] := missing.told;
            notified[need.wallet] := missing.highest;
            UPDATE grants SET notified_percent = missing.highest
            WHERE id = allowance_id(owners[need.wallet], moment);
        END LOOP;
    END LOOP;
    FOR i IN 1 .. coalesce(cardinality(wallets), 0) LOOP
        IF usable[i] < 0 THEN  -- a plan without limit: it issues what is lacking
            PERFORM issue_allowance(owners[i], -usable[i], moment);
        END IF;
    END LOOP;

    WITH line AS (
        SELECT f.*, job_ids[f.request] AS job_id, org_ids[f.request] AS org_id,
            coalesce(actors[f.request], 'generation') AS actor, part.upper, part.number, part.grant_ids,
            part.grant_amounts
        FROM unnest(fresh) f
        JOIN spend_grants(ARRAY(
            SELECT f::asked_line FROM unnest(fresh) f
            WHERE outcomes[request] = 'held' AND amount > 0 AND place <= coalesce(upto[request], place)
        ), owners, units, taken, moment) part ON part.place = f.place
    ), written_lines AS (
        INSERT INTO lines (job_id, line_id, org_id, sku, product, price_version, unit, amount, cost_microusd, grant_ids,
            grant_amounts, cap_id, created_at)
        SELECT job_id, line_id, org_id, sku, product, price_version, unit, amount, cost, grant_ids, grant_amounts,
            CASE WHEN unit = 'credits' THEN cap_ids[request] END, moment
        FROM line
        ORDER BY job_id, line_id
    ), move AS (
        SELECT line.*, wallet.id AS wallet_id, holder.id AS holder_id, wallet.available - line.upper AS available_after,
            wallet.version + line.number AS wallet_version
        FROM line
        CROSS JOIN LATERAL (SELECT * FROM accounts WHERE id = wallets[line.wallet] OFFSET 0) wallet
        CROSS JOIN LATERAL (
            SELECT id FROM accounts WHERE org_id = line.org_id AND unit = line.unit AND kind = 'held' OFFSET 0
        ) holder
    ), written AS (
        INSERT INTO entries (transfer_id, account_id, org_id, unit, kind, amount, available_after, version,
            job_id, line_id, sku, product, actor, created_at)
        SELECT job_id || '/' || line_id || '/hold', leg.account_id, org_id, move.unit, 'hold', leg.amount,
            leg.available_after, leg.version, job_id, line_id, sku, product, actor, moment
        FROM move, LATERAL (VALUES
            (wallet_id, -amount, available_after, wallet_version),
            (holder_id, amount, NULL, NULL)
        ) AS leg (account_id, amount, available_after, version)
        ORDER BY place, leg.amount
    )
    SELECT jsonb_object_agg(job_id, holds) INTO added
    FROM (
        SELECT job_id, jsonb_agg(jsonb_build_object('unit', unit, 'amount', amount, 'available', available,
            'version', version, 'line_ids', line_ids) ORDER BY unit) AS holds
        FROM (
            SELECT job_id, unit, sum(amount) AS amount, min(available_after) AS available,
                max(wallet_version) AS version, jsonb_agg(line_id ORDER BY place) AS line_ids
            FROM move GROUP BY job_id, unit
        ) hold
        GROUP BY job_id
    ) job;

    FOR i IN 1 .. coalesce(cardinality(wallets), 0) LOOP
        UPDATE accounts SET available = available - taken[i], held_total = held_total + taken[i],
            version = version + changes[i], expected_cost_total = expected_cost_total + cost_taken[i]
        WHERE id = wallets[i] AND changes[i] > 0;
    END LOOP;
    IF cap_taken IS NOT NULL THEN
        INSERT INTO cap_usage AS known (org_id, cap_id, day, amount)
        SELECT org_id, cap_id, today, taken FROM unnest(cap_owners, cap_names, cap_taken) AS c (org_id, cap_id, taken)
        WHERE taken > 0
        ORDER BY org_id, cap_id
        ON CONFLICT (org_id, cap_id, day) DO UPDATE SET amount = known.amount + excluded.amount;
    END IF;
    UPDATE reservations r SET deadline_at = deadlines[array_position(job_ids, job_id)]
    WHERE job_id = ANY (job_ids) AND outcomes[array_position(job_ids, job_id)] = 'held'
        AND deadline_at < deadlines[array_position(job_ids, job_id)];
    DELETE FROM reservations r  -- refused, or free of charge: no trace
    WHERE job_id = ANY (created) AND (SELECT count(*) FROM lines WHERE job_id = r.job_id) = 0;
    IF cardinality(quoted) > 0 THEN
        UPDATE quotes q SET job_id = asked.job_id
        FROM unnest(quote_ids, job_ids, waits) WITH ORDINALITY AS asked (quote_id, job_id, waits, request)
        WHERE q.id = asked.quote_id AND q.id = ANY (quoted) AND (
            (SELECT quote_id FROM reservations WHERE job_id = asked.job_id) = q.id
            OR asked.waits AND outcomes[asked.request] IN (
                'insufficient_credits', 'quota_exceeded', 'daily_cap_reached', 'key_cap_reached'
            )
        );
    END IF;

    RETURN QUERY
    SELECT q.request::integer, q.outcome, r.id, (
            SELECT jsonb_agg(jsonb_build_object('line_id', line_id, 'sku', sku, 'unit', unit, 'amount', amount)
                ORDER BY place)
            FROM (
                SELECT place, line_id, sku, unit, amount
                FROM unnest(fresh) WHERE request = q.request AND place <= coalesce(upto[q.request], place)
                UNION ALL
                SELECT l.place, l.line_id, line.sku, line.unit, line.amount  -- held before
                FROM unnest(requests, line_ids) WITH ORDINALITY AS l (request, line_id, place)
                CROSS JOIN LATERAL (
                    SELECT * FROM lines WHERE job_id = q.job_id AND line_id = l.line_id OFFSET 0
                ) line
                WHERE l.request = q.request AND q.job_id <> ALL (created)
                    AND l.place <> ALL (ARRAY(SELECT place FROM unnest(fresh) WHERE request = q.request))
            ) answered
            WHERE q.outcome = 'held'
        ), added -> q.job_id, refusals[q.request], reached[q.request],
        wallet.available, wallet.held_total - holder.captured_total, wallet.version
    FROM unnest(job_ids, org_ids, outcomes) WITH ORDINALITY AS q (job_id, org_id, outcome, request)
    LEFT JOIN LATERAL (
        SELECT * FROM reservations WHERE job_id = q.job_id AND org_id = q.org_id OFFSET 0
    ) r ON true
    LEFT JOIN LATERAL (
        SELECT * FROM accounts WHERE org_id = q.org_id AND unit = 'credits' AND kind = 'wallet' OFFSET 0
    ) wallet ON true
    LEFT JOIN LATERAL (
        SELECT * FROM accounts WHERE org_id = q.org_id AND unit = 'credits' AND kind = 'held' OFFSET 0
    ) holder ON true
    ORDER BY q.request;
END
$$;
