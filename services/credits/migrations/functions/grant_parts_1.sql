-- What a line takes from which grant, between two of its units: of 10 held, (0, 4) were captured, (4, 10) come back.
CREATE FUNCTION grant_parts(grant_ids text[], grant_amounts bigint[], low bigint, high bigint)
RETURNS TABLE (grant_id text, amount bigint)
LANGUAGE sql IMMUTABLE AS $$
    SELECT grant_id, (least(upper, high) - greatest(upper - amount, low))::bigint
    FROM (
        SELECT grant_id, amount, sum(amount) OVER (ORDER BY place) AS upper
        FROM unnest(grant_ids, grant_amounts) WITH ORDINALITY AS part (grant_id, amount, place)
    ) part
    WHERE upper > low AND upper - amount < high
$$;
