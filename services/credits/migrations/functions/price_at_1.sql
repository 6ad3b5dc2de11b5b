-- The price of a SKU at a moment: the row that began last, unless it has ended. No row: the SKU is unknown.
CREATE FUNCTION price_at(wanted text, moment timestamptz) RETURNS SETOF price_book
LANGUAGE sql STABLE AS $$
    SELECT *
    FROM (SELECT * FROM price_book WHERE sku = wanted AND valid_from <= moment ORDER BY valid_from DESC LIMIT 1) latest
    WHERE valid_to IS NULL OR valid_to > moment
$$;
