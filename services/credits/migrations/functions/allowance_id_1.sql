-- The id of the grant that is an organization's allowance in the month (UTC) of a moment.
CREATE FUNCTION allowance_id(org text, moment timestamptz) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT org || '/allowance/' || to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM')
$$;
