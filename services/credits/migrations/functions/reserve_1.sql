-- Hold credits for the lines of many jobs: each request entirely or not at all, in the order given, one row back each.
-- Locks, always in this order: the jobs' reservations by job id, the wallets by id, then only rows it inserts itself.
-- Every table is read by key, in subqueries that cannot become joins: a plan made while the tables were small, or for
-- organizations with few lines, must not fit a large one badly.
CREATE FUNCTION reserve(
    reservation_ids text[],       -- one element per request: the id to give a new reservation,
    job_ids text[],               -- the job (each at most once in a call),
    org_ids text[],               -- whose it is,
    deadlines timestamptz[],      -- when it will have ended
    requests integer[],           -- one element per line: the position of its request, from 1,
    line_ids text[],              -- its id (each at most once in a request)
    skus text[]                   -- and what it is for
) RETURNS TABLE (
    request integer,
    outcome text,                 -- held | job_closed | unknown_sku | insufficient
    reservation_id text,          -- null when the job holds nothing
    lines jsonb,                  -- of a held request: [{line_id, sku, unit, amount}], in the order asked
    holds jsonb,                  -- what this call added, per unit: [{unit, amount, available, version, line_ids}]
    refusal jsonb,                -- {sku} or {unit, required, available}
    available bigint,             -- the credits wallet after the call
    held bigint,
    version bigint
)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    created text[];               -- jobs whose reservation this call made
    wallets bigint[];
    balances bigint[];            -- of `wallets`, less what the requests so far take,
    changes bigint[];             -- and in how many entries
    outcomes text[] := array_fill('job_closed'::text, ARRAY[cardinality(job_ids)]);
    refusals jsonb[];
    added jsonb;                  -- {job_id: its `holds`}
    asked record;
BEGIN
    -- The job's row comes first: on it a call meets its own repeat and the job's end, whichever of them is earlier.
    WITH made AS (
        INSERT INTO reservations (job_id, id, org_id, deadline_at)
        SELECT * FROM unnest(job_ids, reservation_ids, org_ids, deadlines) AS r (job_id, id, org_id, deadline_at)
        ORDER BY job_id
        ON CONFLICT (job_id) DO NOTHING
        RETURNING job_id
    )
    SELECT array_agg(job_id) INTO created FROM made;
    PERFORM FROM reservations WHERE job_id = ANY (job_ids) ORDER BY job_id FOR NO KEY UPDATE;

    SELECT array_agg(id), array_agg(available), array_agg(0) INTO wallets, balances, changes
    FROM (
        SELECT id, available FROM accounts
        WHERE org_id = ANY (org_ids) AND kind = 'wallet'
            AND unit = ANY (ARRAY(SELECT unit FROM price_book WHERE sku = ANY (skus)))
        ORDER BY id FOR NO KEY UPDATE
    ) locked;

    -- What each open request still needs, priced as of the beginning of its reservation; then one after the other.
    FOR asked IN
        SELECT request, max(unknown) AS unknown, array_agg(unit) AS units, array_agg(amount) AS amounts,
            array_agg(priced) AS counts, array_agg(array_position(wallets, wallet)) AS places
        FROM (
            SELECT q.request, p.unit, coalesce(sum(p.amount), 0) AS amount,
                count(*) FILTER (WHERE p.amount > 0) AS priced, max(l.sku) FILTER (WHERE p.id IS NULL) AS unknown,
                (SELECT id FROM accounts WHERE org_id = q.org_id AND unit = p.unit AND kind = 'wallet') AS wallet
            FROM unnest(job_ids, org_ids) WITH ORDINALITY AS q (job_id, org_id, request)
            CROSS JOIN LATERAL (
                SELECT created_at FROM reservations
                WHERE job_id = q.job_id AND org_id = q.org_id AND closed_at IS NULL OFFSET 0
            ) r
            LEFT JOIN unnest(requests, line_ids, skus) AS l (request, line_id, sku)
                ON l.request = q.request
                AND (SELECT line_id FROM lines WHERE job_id = q.job_id AND line_id = l.line_id) IS NULL
            LEFT JOIN price_at(l.sku, r.created_at) p ON true
            GROUP BY q.request, q.org_id, p.unit
        ) need
        GROUP BY request
        ORDER BY request
    LOOP
        outcomes[asked.request] := 'held';
        IF asked.unknown IS NOT NULL THEN
            outcomes[asked.request] := 'unknown_sku';
            refusals[asked.request] := jsonb_build_object('sku', asked.unknown);
            CONTINUE;
        END IF;
        FOR i IN 1 .. cardinality(asked.units) LOOP
            IF asked.amounts[i] > coalesce(balances[asked.places[i]], 0) THEN
                outcomes[asked.request] := 'insufficient';
                refusals[asked.request] := jsonb_build_object('unit', asked.units[i],
                    'required', asked.amounts[i], 'available', coalesce(balances[asked.places[i]], 0));
            END IF;
        END LOOP;
        CONTINUE WHEN outcomes[asked.request] = 'insufficient';
        FOR i IN 1 .. cardinality(asked.units) LOOP
            IF asked.amounts[i] > 0 THEN
                balances[asked.places[i]] := balances[asked.places[i]] - asked.amounts[i];
                changes[asked.places[i]] := changes[asked.places[i]] + asked.counts[i];
            END IF;
        END LOOP;
    END LOOP;

    WITH fresh AS (
        INSERT INTO lines (job_id, line_id, org_id, sku, product, price_version, unit, amount)
        SELECT q.job_id, l.line_id, q.org_id, p.sku, p.product, p.id, p.unit, p.amount
        FROM unnest(job_ids, org_ids, outcomes) WITH ORDINALITY AS q (job_id, org_id, outcome, request)
        CROSS JOIN LATERAL (SELECT created_at FROM reservations WHERE job_id = q.job_id OFFSET 0) r
        JOIN unnest(requests, line_ids, skus) AS l (request, line_id, sku) ON l.request = q.request
        JOIN price_at(l.sku, r.created_at) p ON p.amount > 0
        WHERE q.outcome = 'held'
            AND (SELECT line_id FROM lines WHERE job_id = q.job_id AND line_id = l.line_id) IS NULL
        ORDER BY q.job_id, l.line_id
        RETURNING *
    ), move AS (
        SELECT fresh.*, wallet.id AS wallet_id, holder.id AS holder_id,
            wallet.available - sum(amount) OVER in_order AS available_after,
            wallet.version + row_number() OVER in_order AS wallet_version
        FROM fresh
        CROSS JOIN LATERAL (
            SELECT * FROM accounts WHERE org_id = fresh.org_id AND unit = fresh.unit AND kind = 'wallet' OFFSET 0
        ) wallet
        CROSS JOIN LATERAL (
            SELECT id FROM accounts WHERE org_id = fresh.org_id AND unit = fresh.unit AND kind = 'held' OFFSET 0
        ) holder
        WINDOW in_order AS (PARTITION BY wallet.id ORDER BY job_id, line_id)
    ), written AS (
        INSERT INTO entries (transfer_id, account_id, org_id, unit, kind, amount, available_after, version,
            job_id, line_id, sku, product, actor)
        SELECT job_id || '/' || line_id || '/hold', leg.account_id, org_id, move.unit, 'hold', leg.amount,
            leg.available_after, leg.version, job_id, line_id, sku, product, 'generation'
        FROM move, LATERAL (VALUES
            (wallet_id, -amount, available_after, wallet_version),
            (holder_id, amount, NULL, NULL)
        ) AS leg (account_id, amount, available_after, version)
        ORDER BY job_id, line_id, leg.amount
    )
    SELECT jsonb_object_agg(job_id, holds) INTO added
    FROM (
        SELECT job_id, jsonb_agg(jsonb_build_object('unit', unit, 'amount', amount, 'available', available,
            'version', version, 'line_ids', line_ids) ORDER BY unit) AS holds
        FROM (
            SELECT job_id, unit, sum(amount) AS amount, min(available_after) AS available,
                max(wallet_version) AS version, jsonb_agg(line_id ORDER BY line_id) AS line_ids
            FROM move GROUP BY job_id, unit
        ) hold
        GROUP BY job_id
    ) job;

    FOR i IN 1 .. coalesce(cardinality(wallets), 0) LOOP
        UPDATE accounts SET available = balances[i], held_total = held_total + available - balances[i],
            version = version + changes[i]
        WHERE id = wallets[i] AND changes[i] > 0;
    END LOOP;
    UPDATE reservations r SET deadline_at = deadlines[array_position(job_ids, job_id)]
    WHERE job_id = ANY (job_ids) AND outcomes[array_position(job_ids, job_id)] = 'held'
        AND deadline_at < deadlines[array_position(job_ids, job_id)];
    DELETE FROM reservations r  -- refused, or free of charge: no trace
    WHERE job_id = ANY (created) AND (SELECT count(*) FROM lines WHERE job_id = r.job_id) = 0;

    RETURN QUERY
    SELECT q.request::integer, q.outcome, r.id, (
            SELECT jsonb_agg(jsonb_build_object('line_id', l.line_id, 'sku', coalesce(line.sku, l.sku),
                'unit', coalesce(line.unit, p.unit), 'amount', coalesce(line.amount, p.amount)) ORDER BY l.place)
            FROM unnest(requests, line_ids, skus) WITH ORDINALITY AS l (request, line_id, sku, place)
            LEFT JOIN LATERAL (
                SELECT * FROM lines WHERE job_id = q.job_id AND line_id = l.line_id OFFSET 0
            ) line ON true
            LEFT JOIN price_at(l.sku, coalesce(r.created_at, now())) p ON line.line_id IS NULL
            WHERE l.request = q.request AND q.outcome = 'held'
        ), added -> q.job_id, refusals[q.request],
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
