-- What an entry says, as 32 bytes: the hash of one JSON text of all its columns, in the order of the table, whatever the
-- session's settings are. NULL and '' differ; a time is in microseconds since 1970 (UTC). Sealed digests must come out
-- the same for ever: a new column of entries goes into a new function, for the entries from then on.
CREATE FUNCTION entry_digest(e entries) RETURNS bytea
LANGUAGE sql STABLE AS $$
    SELECT sha256(convert_to(jsonb_build_array(e.id, e.transfer_id, e.account_id, e.org_id, e.unit, e.kind, e.amount,
        e.available_after, e.version, e.job_id, e.line_id, e.sku, e.product, e.grant_id, e.reason, e.actor,
        (extract(epoch FROM e.created_at) * 1000000)::bigint)::text, 'UTF8'))
$$;
