-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION dtm" to load this file. \quit

--
-- State. Only dtm writes these tables; people read the views.
--
-- The hot path inserts: a transaction, its branches, an op when it has ended or
-- failed for the first time. It updates a transaction's row once, at its end.
-- The values of mode, status and op are those of src/trans.h.
--

CREATE TABLE dtm.trans (
	id					bigint GENERATED ALWAYS AS IDENTITY (CACHE 32) PRIMARY KEY,
	gid					text COLLATE "C" NOT NULL UNIQUE,
	mode				"char" NOT NULL,	-- s saga, t tcc, x xa, m msg, w workflow
	status				"char" NOT NULL,	-- p prepared, s submitted, a aborting, S succeed, F failed
	owner				oid NOT NULL,		-- the role that began it, and as which SQL branches run
	concurrent			boolean NOT NULL DEFAULT false,
	forced				boolean NOT NULL DEFAULT false,	-- ended by force_stop
	due					timestamptz,		-- when the worker must look at it; NULL: never again
	created_at			timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	submitted_at		timestamptz,
	finished_at			timestamptz,
	hurried_at			timestamptz,		-- retry_now: waits that began before this are over
	timeout_to_fail		interval,
	deadline			timestamptz,		-- the instant that timeout_to_fail means; NULL: none
	retry_interval		interval,			-- NULL: dtm.retry_interval at the time of the call
	retry_limit			integer,
	request_timeout		interval,			-- NULL: dtm.request_timeout
	branch_headers		jsonb,
	reason				text,				-- why it was rolled back
	digest				bytea				-- of what a one-call start was given: is a repeat the same?
) WITH (fillfactor = 80);

-- Only what is unfinished is in here, and a row enters at its beginning.
CREATE INDEX trans_due ON dtm.trans (due, id) WHERE due IS NOT NULL;

-- Written once, never changed.
CREATE TABLE dtm.branch (
	id					bigint NOT NULL,	-- of its transaction
	branch				integer NOT NULL,	-- 0, 1, ...: order of registration
	branch_id			text COLLATE "C" NOT NULL,	-- '01', '02', ...
	forward				text NOT NULL,		-- address of action, confirm, commit
	backward			text NOT NULL,		-- address of compensate, cancel, rollback
	predecessors		integer[],			-- concurrent saga: the branches it waits for
	request_timeout		interval,
	retry_limit			integer,
	branch_headers		jsonb,
	payload				bytea,
	PRIMARY KEY (id, branch)
);

-- One row for each op that has ended, or has failed at least once. An op
-- without a row is prepared and has not answered yet.
CREATE TABLE dtm.op (
	id					bigint NOT NULL,
	branch				integer NOT NULL,
	phase				smallint NOT NULL,	-- 0 forward, 1 backward
	status				"char" NOT NULL,	-- p prepared, S succeed, F failed
	stuck				boolean NOT NULL DEFAULT false,
	attempts			integer NOT NULL,	-- calls that ended
	failed_attempts		integer NOT NULL,	-- of them, those that count against retry_limit
	streak				integer NOT NULL,	-- failed in a row
	next_attempt		timestamptz,
	last_attempt		timestamptz,
	last_error			text,
	PRIMARY KEY (id, branch, phase)
) WITH (fillfactor = 85);
