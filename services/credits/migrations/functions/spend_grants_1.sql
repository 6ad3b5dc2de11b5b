-- Take what lines need out of the grants of their wallets, in the order of spending, and say of each line what it takes from
-- which. Lines and grants both lie one after the other on a scale of units; where one of either ends, a part ends: parts
-- are found by sorting, not by comparing every line with every grant. The wallets are locked by the caller.
CREATE FUNCTION spend_grants(
    wanted asked_line[],          -- the lines, in the order of spending
    owners text[],                -- of each wallet that lines name: whose it is,
    units text[],                 -- in which unit,
    taken bigint[],               -- and how much the lines take in all
    moment timestamptz
) RETURNS TABLE (place integer, upper bigint, number bigint, grant_ids text[], grant_amounts bigint[])
LANGUAGE sql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_nestloop = off AS $$
    WITH purse AS (
        SELECT w.wallet, g.id, g.remaining, sum(g.remaining) OVER in_order AS upper, row_number() OVER in_order AS number
        FROM generate_subscripts(owners, 1) AS w (wallet)
        CROSS JOIN LATERAL (
            SELECT * FROM grants
            WHERE org_id = owners[w.wallet] AND unit = units[w.wallet] AND remaining > 0
                AND (expires_at IS NULL OR expires_at > moment) AND (starts_at IS NULL OR starts_at <= moment) OFFSET 0
        ) g
        WHERE taken[w.wallet] > 0
        WINDOW in_order AS (
            PARTITION BY w.wallet ORDER BY g.expires_at NULLS LAST, g.priority, g.created_at, g.id
        )
    ), spent AS (
        UPDATE grants g SET remaining = purse.upper - least(taken[purse.wallet], purse.upper)
        FROM purse WHERE g.id = purse.id AND purse.upper - purse.remaining < taken[purse.wallet]
    ), line AS (
        SELECT wallet, place, sum(amount) OVER in_order AS upper, row_number() OVER in_order AS number
        FROM unnest(wanted) WINDOW in_order AS (PARTITION BY wallet ORDER BY place)
    ), cut AS (
        SELECT wallet, point, min(place) AS place, min(number) AS number
        FROM (
            SELECT wallet, upper AS point, place, NULL AS number FROM line
            UNION ALL
            SELECT wallet, least(upper, taken[wallet]), NULL, number FROM purse WHERE upper - remaining < taken[wallet]
        ) ends
        GROUP BY wallet, point
    ), part AS (
        SELECT wallet, min(place) OVER onwards AS place, min(number) OVER onwards AS number,
            (point - lag(point, 1, 0::numeric) OVER (PARTITION BY wallet ORDER BY point))::bigint AS amount
        FROM cut WINDOW onwards AS (PARTITION BY wallet ORDER BY point DESC)
    )
    SELECT line.place, line.upper::bigint, line.number, array_agg(purse.id ORDER BY purse.number),
        array_agg(part.amount ORDER BY purse.number)
    FROM part
    JOIN purse ON purse.wallet = part.wallet AND purse.number = part.number
    JOIN line ON line.place = part.place
    GROUP BY line.place, line.upper, line.number
$$;
