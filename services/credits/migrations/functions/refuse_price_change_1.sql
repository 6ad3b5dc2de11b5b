-- A price that was in force is history: whoever changes a price adds a row that begins later, or ends one.
CREATE FUNCTION refuse_price_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE'
        OR TG_OP = 'INSERT' AND NEW.valid_from < now()
        OR TG_OP = 'UPDATE' AND ((NEW.id, NEW.sku, NEW.product, NEW.unit, NEW.amount, NEW.valid_from)
                IS DISTINCT FROM (OLD.id, OLD.sku, OLD.product, OLD.unit, OLD.amount, OLD.valid_from)
            OR coalesce(OLD.valid_to, 'infinity') < now() OR NEW.valid_to < now())
    THEN
        RAISE EXCEPTION 'prices that were in force do not change: % is refused', TG_OP
            USING ERRCODE = 'restrict_violation', HINT = 'Add a price that begins now or later.';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END
$$;
CREATE TRIGGER price_book_no_change BEFORE INSERT OR UPDATE OR DELETE ON price_book
    FOR EACH ROW EXECUTE FUNCTION refuse_price_change();
