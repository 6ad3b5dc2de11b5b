-- The hash chain: each link is the hash of the link before it and of its own entry's digest; the first follows 32 zeros.
CREATE FUNCTION chain_link(link_before bytea, digest bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(coalesce(link_before, decode(repeat('00', 32), 'hex')) || digest)
$$;
CREATE FUNCTION chain_step(link_before bytea, digest bytea, head bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE AS $$
    SELECT chain_link(coalesce(link_before, head), digest)
$$;
-- Over a window in the order of the chain: the link of each row; `head` is the last link of the chain so far.
CREATE AGGREGATE chain_hash(digest bytea, head bytea) (SFUNC = chain_step, STYPE = bytea);
