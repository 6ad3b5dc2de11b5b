-- A line that is to be held, with its price: what the parts of `reserve` hand to each other.
CREATE TYPE asked_line AS (
    request integer, place integer, line_id text, sku text, product text, price_version integer, unit text,
    amount bigint, cost bigint, wallet integer
);

-- A time as events and answers have it, whatever the session's settings.
CREATE FUNCTION rfc3339(moment timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
$$;
