-- The end of a transaction of the writer in one journey: how far numbers and counts have come, changed tasks, events.
-- It does nothing and gives nothing unless the transaction $1 was the last to write: then what the writer knew still
-- held. $2 is whether the commit is flushed, NULL where the transaction has been told already. Arrays are columns, as in the statements that the writer sends by themselves.
CREATE FUNCTION settle(
    BIGINT, BOOLEAN, BIGINT, BIGINT, BIGINT[],
    BIGINT[], BIGINT[], BIGINT[], TEXT[], BIGINT[], BIGINT[], BIGINT[], BIGINT[], BIGINT[], BOOLEAN[], BIGINT[], BIGINT[],
    BIGINT[], BOOLEAN[], BIGINT[], BIGINT[], BIGINT[], BIGINT[], BOOLEAN[], BIGINT[], BOOLEAN[], TEXT[], TEXT[],
    BIGINT[], BYTEA[], BYTEA[], TEXT[], TEXT[], BIGINT[],
    BIGINT[], BIGINT[], BIGINT[], TEXT[], BIGINT[], BIGINT[], BIGINT[], BIGINT[], BIGINT[], BIGINT[], BIGINT[], BIGINT[],
    TEXT[]
) RETURNS TABLE (turn BIGINT, ms BIGINT) LANGUAGE plpgsql AS $settle$
#variable_conflict use_column
DECLARE
    last BIGINT;
BEGIN
    IF $2 IS NOT NULL THEN
        PERFORM set_config('synchronous_commit', CASE WHEN $2 THEN 'on' ELSE 'off' END, true);
    END IF;
    SELECT s.xmin::text::bigint INTO last FROM state s WHERE s.id = 1 FOR UPDATE;
    IF last IS DISTINCT FROM $1 THEN
        RETURN;
    END IF;
    UPDATE state s SET last_seq = $3, last_ord = $4, preparing = s.preparing + $5[1], ready = s.ready + $5[2],
        running = s.running + $5[3], blocked = s.blocked + $5[4], completed = s.completed + $5[5],
        failed = s.failed + $5[6], cancelled = s.cancelled + $5[7]
        WHERE s.id = 1 RETURNING s.xmin::text::bigint INTO last;
    IF cardinality($6) > 0 THEN
        UPDATE task t SET status = u.status, ready_seq = u.ready_seq, handler = u.handler,
         lease_epoch = u.lease_epoch, lease_until = u.lease_until, attempt = u.attempt, crash_count = u.crash_count,
         run_after = u.run_after, cancel_requested = u.cancel_requested, open_children = u.open_children,
         waiting_on = u.waiting_on, gather = u.gather, gather_failed = u.gather_failed, messages = u.messages,
         version = u.version, updated_at = u.updated_at, finished_at = u.finished_at, gated = u.gated,
         holds = u.holds, purging = u.purging, result = coalesce(u.result, t.result),
         error = coalesce(u.error, t.error)
         FROM unnest($6::int8[], $7::int8[], $8::int8[], $9::text[], $10::int8[], $11::int8[], $12::int8[], $13::int8[],
         $14::int8[], $15::bool[], $16::int8[], $17::int8[], $18::int8[], $19::bool[], $20::int8[], $21::int8[],
         $22::int8[], $23::int8[], $24::bool[], $25::int8[], $26::bool[], $27::text[], $28::text[]) AS u (ord, status, ready_seq, handler,
         lease_epoch, lease_until, attempt, crash_count, run_after, cancel_requested, open_children, waiting_on,
         gather, gather_failed, messages, version, updated_at, finished_at, gated, holds, purging, result, error)
         WHERE t.ord = u.ord;
    END IF;
    -- Most tasks have none of what is set to nothing here, so that less has to be sent.
    IF cardinality($35) > 0 THEN
        UPDATE task t SET status = u.status, ready_seq = u.ready_seq, handler = u.handler,
         lease_epoch = u.lease_epoch, lease_until = u.lease_until, attempt = u.attempt, crash_count = u.crash_count,
         run_after = u.run_after, cancel_requested = false, open_children = 0, waiting_on = 0, gather = NULL,
         gather_failed = false, messages = 0, version = u.version, updated_at = u.updated_at,
         finished_at = u.finished_at, gated = false, holds = 0, purging = false, result = coalesce(u.result, t.result)
         FROM unnest($35::int8[], $36::int8[], $37::int8[], $38::text[], $39::int8[], $40::int8[], $41::int8[],
         $42::int8[], $43::int8[], $44::int8[], $45::int8[], $46::int8[], $47::text[]) AS u (ord, status, ready_seq,
         handler, lease_epoch, lease_until, attempt, crash_count, run_after, version, updated_at, finished_at, result)
         WHERE t.ord = u.ord;
    END IF;
    IF cardinality($29) > 0 THEN
        INSERT INTO event (seq, task, root, kind, body, at) SELECT * FROM
         unnest($29::int8[], $30::bytea[], $31::bytea[], $32::text[], $33::text[], $34::int8[]);
    END IF;
    RETURN QUERY SELECT last, (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
END
$settle$;
