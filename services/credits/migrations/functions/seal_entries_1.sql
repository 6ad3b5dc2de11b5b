-- Append entries that have no seal yet to the hash chain, at most so many; one row where anything was written. One
-- sealer works at a time (advisory lock), and no movement of money ever waits for it.
-- Ids are given out before they are committed: an entry may appear after higher ones were sealed, and some never do. So
-- every run looks again at all ids above `settled_entry_id`, below which nothing can appear any more: that is the highest
-- id that was sealed longer ago than any transaction lives. Where that moves on, a seal may be without entries.
CREATE FUNCTION seal_entries(most integer, longest_transaction interval) RETURNS TABLE (
    number bigint, entries bigint, last_position bigint, hash bytea, more boolean
)
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    head seals;
    started timestamptz;
    highest bigint;
    settled bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(7301003) THEN
        RETURN;
    END IF;
    SELECT * INTO head FROM seals ORDER BY number DESC LIMIT 1;
    started := clock_timestamp();

    WITH sealed AS (
        INSERT INTO entry_seals (position, entry_id, hash)
        SELECT coalesce(head.last_position, 0) + row_number() OVER in_order, id,
            chain_hash(digest, head.hash) OVER in_order
        FROM (
            SELECT e.id, entry_digest(e) AS digest FROM entries e
            WHERE e.id > coalesce(head.settled_entry_id, 0) AND NOT EXISTS (
                SELECT FROM entry_seals WHERE entry_id = e.id AND entry_id > coalesce(head.settled_entry_id, 0)
            )
            ORDER BY e.id LIMIT most
        ) unsealed
        WINDOW in_order AS (ORDER BY id ROWS UNBOUNDED PRECEDING)
        RETURNING position, entry_id, hash
    )
    SELECT count(*), max(entry_id), coalesce(max(position), head.last_position),
        coalesce((array_agg(hash ORDER BY position DESC))[1], head.hash)
    INTO entries, highest, last_position, hash FROM sealed;
    more := entries = most;

    settled := coalesce((
        SELECT up_to_entry_id FROM seals
        WHERE sealed_at < started - longest_transaction ORDER BY number DESC LIMIT 1
    ), 0);
    IF more THEN  -- there may be others, above what this run has reached
        settled := least(settled, highest);
    END IF;
    settled := greatest(settled, head.settled_entry_id);
    IF entries = 0 AND settled = coalesce(head.settled_entry_id, 0) THEN
        RETURN;
    END IF;
    number := coalesce(head.number, 0) + 1;
    INSERT INTO seals (number, sealed_at, last_position, up_to_entry_id, settled_entry_id, hash)
    VALUES (number, clock_timestamp(), last_position, greatest(head.up_to_entry_id, highest), settled, hash);
    RETURN NEXT;
END
$$;
