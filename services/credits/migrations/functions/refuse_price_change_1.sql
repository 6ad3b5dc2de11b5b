-- A price that was in force is history: whoever changes a price adds a row that begins later, or ends one. Not before 10 s
-- have passed: a transaction that reads prices now must not find later that they were others at its time.
CREATE FUNCTION refuse_price_change() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    soon timestamptz := clock_timestamp() + interval '10 seconds';
BEGIN
    IF TG_OP = 'DELETE'
        OR TG_OP = 'INSERT' AND NEW.valid_from < soon
        OR TG_OP = 'UPDATE' AND ((NEW.id, NEW.sku, NEW.product, NEW.unit, NEW.amount, NEW.valid_from)
                IS DISTINCT FROM (OLD.id, OLD.sku, OLD.product, OLD.unit, OLD.amount, OLD.valid_from)
            OR coalesce(OLD.valid_to, 'infinity') < soon OR coalesce(NEW.valid_to, 'infinity') < soon)
    THEN
        RAISE EXCEPTION 'prices that were in force do not change: % is refused', TG_OP
            USING ERRCODE = 'restrict_violation', HINT = 'Add a price that begins 10 s from now or later, or end one then.';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER price_book_no_change BEFORE INSERT OR UPDATE OR DELETE ON price_book
    FOR EACH ROW EXECUTE FUNCTION refuse_price_change();
