-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION dtm" to load this file. \quit

--
-- The schema may have been there before. Whoever owns it, or may create things
-- in it, could put functions next to ours, or take ours away.
--
DO $do$
DECLARE
	other name;
BEGIN
	SELECT r.rolname INTO other
	FROM pg_catalog.pg_namespace AS n
	JOIN pg_catalog.pg_roles AS r ON r.oid OPERATOR(pg_catalog.=) n.nspowner
	WHERE n.nspname OPERATOR(pg_catalog.=) 'dtm' AND NOT r.rolsuper;
	IF FOUND THEN
		RAISE EXCEPTION 'schema dtm belongs to role "%"', other
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = 'The owner of a schema can drop what is in it.',
			HINT = 'ALTER SCHEMA dtm RENAME TO another name, then CREATE EXTENSION dtm again.';
	END IF;

	SELECT coalesce(r.rolname, 'public') INTO other
	FROM pg_catalog.pg_namespace AS n
	CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS a
	LEFT JOIN pg_catalog.pg_roles AS r ON r.oid OPERATOR(pg_catalog.=) a.grantee
	WHERE n.nspname OPERATOR(pg_catalog.=) 'dtm'
	AND a.privilege_type OPERATOR(pg_catalog.=) 'CREATE'
	AND NOT coalesce(r.rolsuper, false)
	-- Of a new schema, what default privileges have given is taken away below.
	AND pg_catalog.age(n.xmin) OPERATOR(pg_catalog.>)
		pg_catalog.age(pg_catalog.pg_current_xact_id()::pg_catalog.xid)
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'role "%" may create objects in schema dtm', other
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = 'It could put functions there that are called in place of those of dtm.',
			HINT = pg_catalog.format('REVOKE CREATE ON SCHEMA dtm FROM %I, and see that nothing is left in it.', other);
	END IF;

	SELECT r.rolname INTO other
	FROM (
		SELECT relowner FROM pg_catalog.pg_class
			WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.to_regnamespace('dtm')::pg_catalog.oid
		UNION ALL
		SELECT proowner FROM pg_catalog.pg_proc
			WHERE pronamespace OPERATOR(pg_catalog.=) pg_catalog.to_regnamespace('dtm')::pg_catalog.oid
		UNION ALL
		SELECT typowner FROM pg_catalog.pg_type
			WHERE typnamespace OPERATOR(pg_catalog.=) pg_catalog.to_regnamespace('dtm')::pg_catalog.oid
		UNION ALL
		SELECT oprowner FROM pg_catalog.pg_operator
			WHERE oprnamespace OPERATOR(pg_catalog.=) pg_catalog.to_regnamespace('dtm')::pg_catalog.oid
	) AS there (owner)
	JOIN pg_catalog.pg_roles AS r ON r.oid OPERATOR(pg_catalog.=) there.owner
	WHERE NOT r.rolsuper
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'schema dtm contains objects of role "%"', other
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = 'They could be called in place of those of dtm.',
			HINT = 'ALTER SCHEMA dtm RENAME TO another name, then CREATE EXTENSION dtm again.';
	END IF;
END
$do$;

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
	driven				boolean NOT NULL DEFAULT false,	-- tcc: dtm calls the tries, and submits
	due					timestamptz,		-- when the worker must look at it; NULL: never again; once it has ended: to run its ending
	created_at			timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	submitted_at		timestamptz,
	finished_at			timestamptz,
	hurried_at			timestamptz,		-- retry_now: waits that began before this are over
	timeout_to_fail		interval,
	deadline			timestamptz,		-- the instant that timeout_to_fail means; NULL: none
	not_before			timestamptz,		-- msg: the end of its delay; NULL: none
	query_prepared		text,				-- msg: who knows whether it shall be sent; workflow: who resumes it; NULL: nobody
	retry_interval		interval,			-- NULL: dtm.retry_interval at the time of the call
	retry_limit			integer,
	request_timeout		interval,			-- NULL: dtm.request_timeout
	branch_headers		jsonb,
	traceparent			text,				-- W3C Trace Context, sent with every call
	on_success			text,				-- a statement of its owner's, run when it succeeds ...
	on_failure			text,				-- ... or fails
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
	try					text NOT NULL DEFAULT '',	-- tcc: its address, if dtm calls it
	predecessors		integer[],			-- concurrent saga: the branches it waits for
	request_timeout		interval,
	retry_limit			integer,
	branch_headers		jsonb,
	keep_result			boolean NOT NULL DEFAULT false,
	uses				integer[],			-- the branches whose results its payload needs; NULL: none
	payload				bytea,
	PRIMARY KEY (id, branch)
);

-- One row for each op that has ended, or has failed at least once. An op
-- without a row is prepared and has not answered yet.
CREATE TABLE dtm.op (
	id					bigint NOT NULL,
	branch				integer NOT NULL,	-- -1: the back-check of a message, the resuming of a workflow; -2: on_success, on_failure
	phase				smallint NOT NULL,	-- 0 forward, 1 backward, 2 try; of a workflow: action, rollback, commit
	status				"char" NOT NULL,	-- p prepared, S succeed, F failed
	stuck				boolean NOT NULL DEFAULT false,
	attempts			integer NOT NULL,	-- calls that ended
	failed_attempts		integer NOT NULL,	-- of them, those that count against retry_limit
	streak				integer NOT NULL,	-- failed in a row
	next_attempt		timestamptz,
	last_attempt		timestamptz,
	last_error			text,
	result				bytea,				-- what it answered, if its branch keeps that
	PRIMARY KEY (id, branch, phase)
) WITH (fillfactor = 85);

-- What a workflow is besides: its steps are branches, and what came of them ops.
CREATE TABLE dtm.workflow (
	id					bigint PRIMARY KEY,	-- of its transaction
	name				text NOT NULL,		-- of the code to go on with
	data				bytea,				-- what it was begun with
	run					integer NOT NULL,	-- how often it was prepared: the last one counts
	result				bytea				-- what it has come to
) WITH (fillfactor = 85);

-- To whom topic://name is sent.
CREATE TABLE dtm.topic (
	topic				text COLLATE "C" NOT NULL,
	url					text COLLATE "C" NOT NULL,
	subscribed_at		timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	subscribed_by		text NOT NULL,
	PRIMARY KEY (topic, url)
);

-- Whom a role may have called. PUBLIC is stored as 0, shown as -.
CREATE TABLE dtm.allowed (
	role				regrole NOT NULL,
	prefix				text COLLATE "C" NOT NULL,
	PRIMARY KEY (role, prefix)
);

-- Values of headers that are named instead of told. Nobody reads them but the
-- worker: row security keeps out even pg_read_all_data.
CREATE TABLE dtm.secret (
	role				oid NOT NULL,
	name				text COLLATE "C" NOT NULL,
	value				text NOT NULL,
	set_at				timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	PRIMARY KEY (role, name)
);

-- Who has interfered with a transaction, or with dtm itself.
CREATE TABLE dtm.operation_log (
	id					bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at					timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	role				text NOT NULL,
	command				text NOT NULL,
	gid					text,
	reason				text
);

-- Whose transactions these tables hold; anywhere else they rest.
CREATE TABLE dtm.identity (
	only_row			boolean PRIMARY KEY DEFAULT true CHECK (only_row),
	system_identifier	bigint NOT NULL,
	database			oid NOT NULL,
	adopted_at			timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

INSERT INTO dtm.identity (system_identifier, database)
SELECT c.system_identifier, d.oid
FROM pg_catalog.pg_control_system() AS c, pg_catalog.pg_database AS d
WHERE d.datname = pg_catalog.current_database();

-- What is written here is done with the rights of others, so not even members
-- of pg_write_all_data may write it: without a policy there are no rows for
-- them. dtm itself, a superuser, passes by. Not so dtm.allowed and dtm.topic, which
-- must stay in the dumps of pg_read_all_data: a trigger guards them.
ALTER TABLE dtm.trans ENABLE ROW LEVEL SECURITY;
ALTER TABLE dtm.branch ENABLE ROW LEVEL SECURITY;
ALTER TABLE dtm.op ENABLE ROW LEVEL SECURITY;
ALTER TABLE dtm.workflow ENABLE ROW LEVEL SECURITY;
ALTER TABLE dtm.secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE dtm.operation_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE dtm.identity ENABLE ROW LEVEL SECURITY;
CREATE POLICY monitor ON dtm.operation_log FOR SELECT TO pg_monitor USING (true);

-- The table of dtm's SDKs: names and types are theirs. Participants write it
-- with their business, so an id must not need a right on a sequence. Where a
-- service has made it before, it stays its own, and is used as it is; but as
-- dtm writes to it with all rights, it must belong to somebody who has them.
DO $do$
DECLARE
	owner name;
	other text;
BEGIN
	SELECT r.rolname INTO owner
	FROM pg_catalog.pg_roles AS r
	WHERE NOT r.rolsuper
	AND (r.oid OPERATOR(pg_catalog.=) (SELECT nspowner FROM pg_catalog.pg_namespace
			WHERE nspname OPERATOR(pg_catalog.=) 'dtm_barrier')
		OR r.oid OPERATOR(pg_catalog.=) (SELECT relowner FROM pg_catalog.pg_class
			WHERE oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass('dtm_barrier.barrier')))
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'schema dtm_barrier, or its table barrier, belongs to role "%"', owner
			USING ERRCODE = 'insufficient_privilege',
			DETAIL = 'dtm writes to dtm_barrier.barrier as a superuser, so a trigger there would run as one.',
			HINT = 'ALTER SCHEMA dtm_barrier OWNER TO, and ALTER TABLE dtm_barrier.barrier OWNER TO, a superuser; then GRANT to the role what it needs.';
	END IF;

	IF pg_catalog.to_regnamespace('dtm_barrier') IS NULL THEN
		CREATE SCHEMA dtm_barrier;
		FOR other IN
			SELECT DISTINCT CASE a.grantee WHEN 0::pg_catalog.oid THEN 'PUBLIC'
				ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END
			FROM pg_catalog.pg_namespace AS n
			CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS a
			WHERE n.nspname OPERATOR(pg_catalog.=) 'dtm_barrier'
			AND a.grantee OPERATOR(pg_catalog.<>) n.nspowner
		LOOP
			EXECUTE pg_catalog.format('REVOKE ALL ON SCHEMA dtm_barrier FROM %s', other);
		END LOOP;
		COMMENT ON SCHEMA dtm_barrier IS 'barriers of participants, in the form of dtm''s SDKs';
	END IF;
	IF pg_catalog.to_regclass('dtm_barrier.barrier') IS NULL THEN
		CREATE TABLE dtm_barrier.barrier (
			id					bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
			trans_type			varchar(45) DEFAULT '',
			gid					varchar(128) DEFAULT '',
			branch_id			varchar(128) DEFAULT '',
			op					varchar(45) DEFAULT '',
			barrier_id			varchar(45) DEFAULT '',
			reason				varchar(45) DEFAULT '',
			create_time			timestamptz DEFAULT pg_catalog.clock_timestamp(),
			update_time			timestamptz DEFAULT pg_catalog.clock_timestamp(),
			CONSTRAINT uniq_barrier UNIQUE (gid, branch_id, op, barrier_id)
		);
		COMMENT ON TABLE dtm_barrier.barrier IS 'One row for each call of a branch that a participant has seen. Written by dtm.barrier() and by dtm''s SDKs; kept for dtm.barrier_retention.';
		-- Also what default privileges have given.
		FOR other IN
			SELECT DISTINCT CASE a.grantee WHEN 0::pg_catalog.oid THEN 'PUBLIC'
				ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END
			FROM pg_catalog.pg_class AS c
			CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS a
			WHERE c.oid OPERATOR(pg_catalog.=) ANY (ARRAY[
				'dtm_barrier.barrier'::pg_catalog.regclass::pg_catalog.oid,
				pg_catalog.pg_get_serial_sequence('dtm_barrier.barrier', 'id')::pg_catalog.regclass::pg_catalog.oid])
			AND a.grantee OPERATOR(pg_catalog.<>) c.relowner
		LOOP
			EXECUTE pg_catalog.format('REVOKE ALL ON dtm_barrier.barrier FROM %s', other);
			EXECUTE pg_catalog.format('REVOKE ALL ON SEQUENCE %s FROM %s',
				pg_catalog.pg_get_serial_sequence('dtm_barrier.barrier', 'id'), other);
		END LOOP;
	ELSE
		-- Rows without a time would never be old.
		ALTER TABLE dtm_barrier.barrier
			ALTER COLUMN create_time SET DEFAULT pg_catalog.clock_timestamp(),
			ALTER COLUMN update_time SET DEFAULT pg_catalog.clock_timestamp();
	END IF;
END
$do$;

COMMENT ON SCHEMA dtm IS 'distributed transactions';
COMMENT ON TABLE dtm.trans IS 'Internal: one row for each global transaction. Read the view dtm.transactions.';
COMMENT ON TABLE dtm.branch IS 'Internal: the branches of global transactions. Read the view dtm.branches.';
COMMENT ON TABLE dtm.op IS 'Internal: what became of each call. Read the view dtm.branches.';
COMMENT ON TABLE dtm.workflow IS 'Internal: what workflows were begun with, and what they have come to. Read dtm.query.';
COMMENT ON TABLE dtm.topic IS 'Internal: subscriptions. Read the view dtm.topics; part of dumps.';
COMMENT ON TABLE dtm.allowed IS 'Which roles may have which addresses called. Changed by dtm.allow and dtm.disallow; part of dumps.';
COMMENT ON TABLE dtm.secret IS 'Internal: the secrets of dtm.set_secret. Not part of dumps. Read the view dtm.secrets.';
COMMENT ON TABLE dtm.operation_log IS 'Who has aborted, hurried or stopped a global transaction, or changed rights, when and why.';
COMMENT ON TABLE dtm.identity IS 'Internal: the server and database whose transactions these tables hold. A copy is paused until dtm.adopt().';

--
-- Steps
--

CREATE TYPE dtm.step AS (
	action				text,
	compensate			text,
	payload				bytea,
	headers				jsonb,
	request_timeout		interval,
	retry_limit			integer,
	keep_result			boolean
);
COMMENT ON TYPE dtm.step IS 'One step of a saga or a message, made by the function dtm.step.';

CREATE FUNCTION dtm.step(action text, compensate text DEFAULT '', payload text DEFAULT NULL,
	body bytea DEFAULT NULL, headers jsonb DEFAULT NULL,
	request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL, keep_result boolean DEFAULT false)
RETURNS dtm.step
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'dtm_step';
COMMENT ON FUNCTION dtm.step(text, text, text, bytea, jsonb, interval, integer, boolean) IS
'A step of a saga, or of a message, which has no compensate. action, compensate: addresses: http://..., https://..., sql:schema.function, sql://server/schema.function for one on a foreign server, or '''' for nobody. payload: JSON, sent byte for byte with both. body: bytes of any other kind instead. headers: a JSON object of strings, sent with both. request_timeout: for one call, 1 ms or more (default: that of the saga). retry_limit: failed attempts of the action, the first included, before the saga is rolled back (default: that of the saga). keep_result: keep what the branch answers, up to dtm.max_result_size: it is shown by dtm.query, and an object {"$from": "01", "path": "$.a"} in a later step''s payload stands for what the path finds in the result of branch 01 (default: false).';

CREATE FUNCTION dtm.step(action text, compensate text, payload jsonb, headers jsonb DEFAULT NULL,
	request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL, keep_result boolean DEFAULT false)
RETURNS dtm.step
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'dtm_step';
COMMENT ON FUNCTION dtm.step(text, text, jsonb, jsonb, interval, integer, boolean) IS
'A step of a saga, with its payload as jsonb. See the first form of dtm.step.';

CREATE FUNCTION dtm.step(action text, payload jsonb, headers jsonb DEFAULT NULL,
	request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL, keep_result boolean DEFAULT false)
RETURNS dtm.step
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'dtm_step';
COMMENT ON FUNCTION dtm.step(text, jsonb, jsonb, interval, integer, boolean) IS
'A step of a saga that needs no compensation, with its payload as jsonb. See the first form of dtm.step.';

CREATE FUNCTION dtm.step(action text, compensate text, payload json, headers jsonb DEFAULT NULL,
	request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL, keep_result boolean DEFAULT false)
RETURNS dtm.step
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'dtm_step';
COMMENT ON FUNCTION dtm.step(text, text, json, jsonb, interval, integer, boolean) IS
'A step of a saga, with its payload as json. See the first form of dtm.step.';

CREATE FUNCTION dtm.step(action text, payload json, headers jsonb DEFAULT NULL,
	request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL, keep_result boolean DEFAULT false)
RETURNS dtm.step
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'dtm_step';
COMMENT ON FUNCTION dtm.step(text, json, jsonb, interval, integer, boolean) IS
'A step of a saga that needs no compensation, with its payload as json. See the first form of dtm.step.';

--
-- Sagas
--

CREATE FUNCTION dtm.saga(gid text, steps dtm.step[], timeout_to_fail interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL, request_timeout interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL, branch_headers jsonb DEFAULT NULL,
	concurrent boolean DEFAULT false, orders jsonb DEFAULT NULL,
	on_success text DEFAULT NULL, on_failure text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_saga';
COMMENT ON FUNCTION dtm.saga(text, dtm.step[], interval, interval, interval, integer, jsonb, boolean, jsonb, text, text) IS
'Start a saga: once the calling transaction has committed, each step''s action is called; if one refuses, the compensations of all that may have run, in reverse. Returns the gid. A repeat with the same content does nothing. timeout_to_fail: if it has not succeeded so long after it was submitted, it is rolled back (default: never). retry_interval: first delay after a failed attempt, doubled each time, and the fixed delay after ONGOING (default: dtm.retry_interval). request_timeout: for one call (default: dtm.request_timeout). retry_limit: failed attempts of one action, the first included, before all is rolled back (default: none). branch_headers: a JSON object of strings, sent with every call. concurrent: actions run at once instead of one after the other. orders: which steps wait for which, like {"3": [1, 2]}; implies concurrent. on_success, on_failure: one statement, SELECT, INSERT, UPDATE, DELETE, MERGE or CALL, without parameters, run as the caller in the same commit as the final status; if it fails, the status is final all the same, and the statement is tried again (default: none). Errors: 23505 the gid is in use by another; 22023 an argument is not usable; 42501 the role may not have an address called.';

CREATE FUNCTION dtm.saga(steps dtm.step[], timeout_to_fail interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL, request_timeout interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL, branch_headers jsonb DEFAULT NULL,
	concurrent boolean DEFAULT false, orders jsonb DEFAULT NULL,
	on_success text DEFAULT NULL, on_failure text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_saga_new';
COMMENT ON FUNCTION dtm.saga(dtm.step[], interval, interval, interval, integer, jsonb, boolean, jsonb, text, text) IS
'Start a saga with a new gid, which is returned. See the first form of dtm.saga.';

CREATE FUNCTION dtm.saga_begin(gid text, timeout_to_fail interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL, request_timeout interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL, branch_headers jsonb DEFAULT NULL,
	concurrent boolean DEFAULT false,
	on_success text DEFAULT NULL, on_failure text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_saga_begin';
COMMENT ON FUNCTION dtm.saga_begin(text, interval, interval, interval, integer, jsonb, boolean, text, text) IS
'Begin a saga, to be completed by dtm.saga_branch and dtm.submit. Returns the gid. Beginning it again before it is submitted does nothing. timeout_to_fail: if it has not succeeded so long after it was submitted, it is rolled back (default: never). retry_interval: first delay after a failed attempt, doubled each time, and the fixed delay after ONGOING (default: dtm.retry_interval). request_timeout: for one call (default: dtm.request_timeout). retry_limit: failed attempts of one action, the first included, before all is rolled back (default: none). branch_headers: a JSON object of strings, sent with every call. concurrent: actions run at once instead of one after the other. With timeout_to_fail, it fails too when it is not submitted in that time. on_success, on_failure: one statement, SELECT, INSERT, UPDATE, DELETE, MERGE or CALL, without parameters, run as the caller in the same commit as the final status; if it fails, the status is final all the same, and the statement is tried again (default: none). Errors: 23505 the gid is in use by another; DT412 it was submitted or aborted; 22023 an argument is not usable.';

CREATE FUNCTION dtm.saga_begin(timeout_to_fail interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL, request_timeout interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL, branch_headers jsonb DEFAULT NULL,
	concurrent boolean DEFAULT false,
	on_success text DEFAULT NULL, on_failure text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_saga_begin_new';
COMMENT ON FUNCTION dtm.saga_begin(interval, interval, interval, integer, jsonb, boolean, text, text) IS
'Begin a saga with a new gid, which is returned. See the first form of dtm.saga_begin.';

CREATE FUNCTION dtm.saga_branch(gid text, action text, compensate text DEFAULT '', payload text DEFAULT NULL,
	body bytea DEFAULT NULL, headers jsonb DEFAULT NULL,
	request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL, keep_result boolean DEFAULT false, after integer[] DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_saga_branch';
COMMENT ON FUNCTION dtm.saga_branch(text, text, text, text, bytea, jsonb, interval, integer, boolean, integer[]) IS
'Add a branch to a saga that is begun and not submitted. Returns its branch_id: 01, 02, ... The arguments are those of dtm.step. after: numbers of earlier branches that must have succeeded before this one is called; the saga must be concurrent. Errors: DT404 unknown gid; DT412 the saga is submitted or ended; 22023 an argument is not usable; 42501 the role may not have an address called.';

CREATE FUNCTION dtm.saga_branch(gid text, action text, compensate text, payload jsonb, headers jsonb DEFAULT NULL,
	request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL, keep_result boolean DEFAULT false, after integer[] DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_saga_branch';
COMMENT ON FUNCTION dtm.saga_branch(text, text, text, jsonb, jsonb, interval, integer, boolean, integer[]) IS
'Add a branch with its payload as jsonb. See the first form of dtm.saga_branch.';

CREATE FUNCTION dtm.saga_branch(gid text, action text, payload jsonb, headers jsonb DEFAULT NULL,
	request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL, keep_result boolean DEFAULT false, after integer[] DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_saga_branch';
COMMENT ON FUNCTION dtm.saga_branch(text, text, jsonb, jsonb, interval, integer, boolean, integer[]) IS
'Add a branch without compensation, with its payload as jsonb. See the first form of dtm.saga_branch.';

CREATE FUNCTION dtm.saga_branch(gid text, action text, compensate text, payload json, headers jsonb DEFAULT NULL,
	request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL, keep_result boolean DEFAULT false, after integer[] DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_saga_branch';
COMMENT ON FUNCTION dtm.saga_branch(text, text, text, json, jsonb, interval, integer, boolean, integer[]) IS
'Add a branch with its payload as json. See the first form of dtm.saga_branch.';

CREATE FUNCTION dtm.saga_branch(gid text, action text, payload json, headers jsonb DEFAULT NULL,
	request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL, keep_result boolean DEFAULT false, after integer[] DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_saga_branch';
COMMENT ON FUNCTION dtm.saga_branch(text, text, json, jsonb, interval, integer, boolean, integer[]) IS
'Add a branch without compensation, with its payload as json. See the first form of dtm.saga_branch.';

--
-- Try, confirm, cancel
--

CREATE TYPE dtm.tcc_step AS (
	try					text,
	confirm				text,
	cancel				text,
	payload				bytea,
	headers				jsonb,
	request_timeout		interval,
	retry_limit			integer,
	keep_result			boolean
);
COMMENT ON TYPE dtm.tcc_step IS 'One step of a tcc transaction, made by the function dtm.tcc_step.';

CREATE FUNCTION dtm.tcc_step(try text, confirm text, cancel text, payload text DEFAULT NULL,
	body bytea DEFAULT NULL, headers jsonb DEFAULT NULL,
	request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL, keep_result boolean DEFAULT false)
RETURNS dtm.tcc_step
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'dtm_tcc_step';
COMMENT ON FUNCTION dtm.tcc_step(text, text, text, text, bytea, jsonb, interval, integer, boolean) IS
'A step of a tcc transaction. try: reserve; may refuse. confirm, cancel: what makes the reservation final, or takes it back; must succeed in the end. All are addresses: http://..., https://..., sql:schema.function, sql://server/schema.function for one on a foreign server, or '''' for nobody. payload: JSON, sent byte for byte with all three. body: bytes of any other kind instead. headers: a JSON object of strings, sent with all three. request_timeout: for one call, 1 ms or more (default: that of the transaction). retry_limit: failed attempts of the try, the first included, before all is cancelled; of confirm or cancel, before it is shown in dtm.stuck (default: that of the transaction). keep_result: keep what the branch answers to each call, up to dtm.max_result_size: it is shown by dtm.query (default: false).';

CREATE FUNCTION dtm.tcc_step(try text, confirm text, cancel text, payload jsonb,
	headers jsonb DEFAULT NULL, request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL, keep_result boolean DEFAULT false)
RETURNS dtm.tcc_step
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'dtm_tcc_step';
COMMENT ON FUNCTION dtm.tcc_step(text, text, text, jsonb, jsonb, interval, integer, boolean) IS
'A step of a tcc transaction, with its payload as jsonb. See the first form of dtm.tcc_step.';

CREATE FUNCTION dtm.tcc_step(try text, confirm text, cancel text, payload json,
	headers jsonb DEFAULT NULL, request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL, keep_result boolean DEFAULT false)
RETURNS dtm.tcc_step
LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'dtm_tcc_step';
COMMENT ON FUNCTION dtm.tcc_step(text, text, text, json, jsonb, interval, integer, boolean) IS
'A step of a tcc transaction, with its payload as json. See the first form of dtm.tcc_step.';

CREATE FUNCTION dtm.tcc(gid text, steps dtm.tcc_step[], timeout_to_fail interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL, request_timeout interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL, branch_headers jsonb DEFAULT NULL,
	concurrent boolean DEFAULT false,
	on_success text DEFAULT NULL, on_failure text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_tcc';
COMMENT ON FUNCTION dtm.tcc(text, dtm.tcc_step[], interval, interval, interval, integer, jsonb, boolean, text, text) IS
'Start a tcc transaction: once the calling transaction has committed, the tries of all steps are called at once. If all succeed, it is submitted, and the confirms are called; if one refuses or time is over, it is aborting, and cancels are called for every try that may have happened. Returns the gid. A repeat with the same content does nothing. timeout_to_fail: counts from the beginning, and only until it is submitted; then all is cancelled (default: 33 s). concurrent: confirms or cancels are called at once, instead of one after the other in reverse order. retry_interval: first delay after a failed attempt, doubled each time, and the fixed delay after ONGOING (default: dtm.retry_interval). request_timeout: for one call (default: dtm.request_timeout). retry_limit: failed attempts of one try, the first included, before all is cancelled (default: none); of a confirm or cancel, before it is shown in dtm.stuck and still retried (default: dtm.stuck_after). branch_headers: a JSON object of strings, sent with every call. on_success, on_failure: one statement, SELECT, INSERT, UPDATE, DELETE, MERGE or CALL, without parameters, run as the caller in the same commit as the final status; if it fails, the status is final all the same, and the statement is tried again (default: none). Errors: 23505 the gid is in use by another; 22023 an argument is not usable; 42501 the role may not have an address called.';

CREATE FUNCTION dtm.tcc(steps dtm.tcc_step[], timeout_to_fail interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL, request_timeout interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL, branch_headers jsonb DEFAULT NULL,
	concurrent boolean DEFAULT false,
	on_success text DEFAULT NULL, on_failure text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_tcc_new';
COMMENT ON FUNCTION dtm.tcc(dtm.tcc_step[], interval, interval, interval, integer, jsonb, boolean, text, text) IS
'Start a tcc transaction with a new gid, which is returned. See the first form of dtm.tcc.';

CREATE FUNCTION dtm.tcc_begin(gid text, timeout_to_fail interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL, request_timeout interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL, branch_headers jsonb DEFAULT NULL,
	concurrent boolean DEFAULT false,
	on_success text DEFAULT NULL, on_failure text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_tcc_begin';
COMMENT ON FUNCTION dtm.tcc_begin(text, interval, interval, interval, integer, jsonb, boolean, text, text) IS
'Begin a tcc transaction whose tries the application calls itself: for each, dtm.tcc_branch, COMMIT, then the try; at last dtm.submit, or dtm.abort. Returns the gid. Beginning it again before it is submitted does nothing. timeout_to_fail: counts from the beginning, and only until it is submitted; then all is cancelled (default: 33 s). concurrent: confirms or cancels are called at once, instead of one after the other in reverse order. retry_interval: first delay after a failed attempt, doubled each time, and the fixed delay after ONGOING (default: dtm.retry_interval). request_timeout: for one call (default: dtm.request_timeout). retry_limit: failed attempts of one call, the first included, before it is shown in dtm.stuck; it is still retried (default: dtm.stuck_after). branch_headers: a JSON object of strings, sent with every call. on_success, on_failure: one statement, SELECT, INSERT, UPDATE, DELETE, MERGE or CALL, without parameters, run as the caller in the same commit as the final status; if it fails, the status is final all the same, and the statement is tried again (default: none). Errors: 23505 the gid is in use by another; DT412 it was submitted or aborted; 22023 an argument is not usable.';

CREATE FUNCTION dtm.tcc_begin(timeout_to_fail interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL, request_timeout interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL, branch_headers jsonb DEFAULT NULL,
	concurrent boolean DEFAULT false,
	on_success text DEFAULT NULL, on_failure text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_tcc_begin_new';
COMMENT ON FUNCTION dtm.tcc_begin(interval, interval, interval, integer, jsonb, boolean, text, text) IS
'Begin a tcc transaction with a new gid, which is returned. See the first form of dtm.tcc_begin.';

CREATE FUNCTION dtm.tcc_branch(gid text, confirm text, cancel text, payload text DEFAULT NULL,
	body bytea DEFAULT NULL, headers jsonb DEFAULT NULL,
	request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL, keep_result boolean DEFAULT false,
	parent text DEFAULT NULL, branch_id text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_tcc_branch';
COMMENT ON FUNCTION dtm.tcc_branch(text, text, text, text, bytea, jsonb, interval, integer, boolean, text, text) IS
'Add a branch to a tcc transaction that is begun and not submitted: before its try is called. Returns its branch_id: 01, 02, ... The arguments are those of dtm.tcc_step. parent: the branch that calls this one: below 02 it is 0201, 0202, ... branch_id: the id to take, if it is known beforehand: adding the same branch again then does nothing. Errors: DT404 unknown gid; DT412 it is submitted or ended; 22023 an argument is not usable; 42501 the role may not have an address called; 23505 branch_id is another branch.';

CREATE FUNCTION dtm.tcc_branch(gid text, confirm text, cancel text, payload jsonb, headers jsonb DEFAULT NULL,
	request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL, keep_result boolean DEFAULT false,
	parent text DEFAULT NULL, branch_id text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_tcc_branch';
COMMENT ON FUNCTION dtm.tcc_branch(text, text, text, jsonb, jsonb, interval, integer, boolean, text, text) IS
'Add a branch with its payload as jsonb. See the first form of dtm.tcc_branch.';

CREATE FUNCTION dtm.tcc_branch(gid text, confirm text, cancel text, payload json, headers jsonb DEFAULT NULL,
	request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL, keep_result boolean DEFAULT false,
	parent text DEFAULT NULL, branch_id text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_tcc_branch';
COMMENT ON FUNCTION dtm.tcc_branch(text, text, text, json, jsonb, interval, integer, boolean, text, text) IS
'Add a branch with its payload as json. See the first form of dtm.tcc_branch.';

--
-- Messages
--

CREATE FUNCTION dtm.msg(gid text, steps dtm.step[], delay interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL, request_timeout interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL, branch_headers jsonb DEFAULT NULL,
	concurrent boolean DEFAULT false,
	on_success text DEFAULT NULL, on_failure text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_msg';
COMMENT ON FUNCTION dtm.msg(text, dtm.step[], interval, interval, interval, integer, jsonb, boolean, text, text) IS
'Send a message in the transaction of the business that it tells of: once that has committed, each step''s action is called until it has succeeded; if it rolls back, nobody is. Nothing is undone: steps have no compensate. An action may be topic://name, which is every subscriber of the topic. Returns the gid. A repeat with the same content does nothing. delay: nobody is called before it is over (default: 0). concurrent: actions are called at once instead of one after the other. retry_interval: first delay after a failed attempt, doubled each time, and the fixed delay after ONGOING (default: dtm.retry_interval). request_timeout: for one call (default: dtm.request_timeout). retry_limit: failed attempts of one call, the first included, before it is shown in dtm.stuck; it is still retried (default: dtm.stuck_after). branch_headers: a JSON object of strings, sent with every call. on_success, on_failure: one statement, SELECT, INSERT, UPDATE, DELETE, MERGE or CALL, without parameters, run as the caller in the same commit as the final status; if it fails, the status is final all the same, and the statement is tried again (default: none). Errors: 23505 the gid is in use by another; 22023 an argument is not usable; 42501 the role may not have an address called; 42704 a topic has no subscribers.';

CREATE FUNCTION dtm.msg(steps dtm.step[], delay interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL, request_timeout interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL, branch_headers jsonb DEFAULT NULL,
	concurrent boolean DEFAULT false,
	on_success text DEFAULT NULL, on_failure text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_msg_new';
COMMENT ON FUNCTION dtm.msg(dtm.step[], interval, interval, interval, integer, jsonb, boolean, text, text) IS
'Send a message with a new gid, which is returned. See the first form of dtm.msg.';

CREATE FUNCTION dtm.msg_begin(gid text, query_prepared text DEFAULT NULL, timeout_to_fail interval DEFAULT NULL,
	delay interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL, request_timeout interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL, branch_headers jsonb DEFAULT NULL,
	concurrent boolean DEFAULT false,
	on_success text DEFAULT NULL, on_failure text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_msg_begin';
COMMENT ON FUNCTION dtm.msg_begin(text, text, interval, interval, interval, interval, integer, jsonb, boolean, text, text) IS
'Begin a message of an application whose business data is elsewhere: dtm.msg_branch, COMMIT, then the business there, then dtm.submit, or dtm.abort. Returns the gid. Beginning it again before it is submitted does nothing. timeout_to_fail: if it is neither submitted nor aborted in this time (default: 33 s), query_prepared, an http address, is asked whether the business was committed: success: it is sent; FAILURE: it is not; ONGOING: asked again. Without query_prepared it fails then. delay: counted from now, nobody is called before it is over (default: 0). concurrent: actions are called at once instead of one after the other. retry_interval: first delay after a failed attempt, doubled each time, and the fixed delay after ONGOING (default: dtm.retry_interval). request_timeout: for one call (default: dtm.request_timeout). retry_limit: failed attempts of one call, the first included, before it is shown in dtm.stuck; it is still retried (default: dtm.stuck_after). branch_headers: a JSON object of strings, sent with every call. on_success, on_failure: one statement, SELECT, INSERT, UPDATE, DELETE, MERGE or CALL, without parameters, run as the caller in the same commit as the final status; if it fails, the status is final all the same, and the statement is tried again (default: none). Errors: 23505 the gid is in use by another; DT412 it was submitted or aborted; 22023 an argument is not usable; 42501 the role may not have query_prepared called.';

CREATE FUNCTION dtm.msg_branch(gid text, action text, payload text DEFAULT NULL,
	body bytea DEFAULT NULL, headers jsonb DEFAULT NULL,
	request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL, keep_result boolean DEFAULT false)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_msg_branch';
COMMENT ON FUNCTION dtm.msg_branch(text, text, text, bytea, jsonb, interval, integer, boolean) IS
'Add a branch to a message that is begun and not submitted. Returns its branch_id: 01, 02, ...; the subscribers of a topic are 01-01, 01-02, ... The arguments are those of dtm.step. Errors: DT404 unknown gid; DT412 it is submitted or ended; 22023 an argument is not usable; 42501 the role may not have the address called; 42704 a topic has no subscribers.';

CREATE FUNCTION dtm.msg_branch(gid text, action text, payload jsonb, headers jsonb DEFAULT NULL,
	request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL, keep_result boolean DEFAULT false)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_msg_branch';
COMMENT ON FUNCTION dtm.msg_branch(text, text, jsonb, jsonb, interval, integer, boolean) IS
'Add a branch with its payload as jsonb. See the first form of dtm.msg_branch.';

CREATE FUNCTION dtm.msg_branch(gid text, action text, payload json, headers jsonb DEFAULT NULL,
	request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL, keep_result boolean DEFAULT false)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_msg_branch';
COMMENT ON FUNCTION dtm.msg_branch(text, text, json, jsonb, interval, integer, boolean) IS
'Add a branch with its payload as json. See the first form of dtm.msg_branch.';

CREATE FUNCTION dtm.msg_trigger()
RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'dtm_msg_trigger';
COMMENT ON FUNCTION dtm.msg_trigger() IS
'A trigger that sends a message about each changed row, if the change commits: AFTER INSERT, UPDATE or DELETE FOR EACH ROW, or TRUNCATE FOR EACH STATEMENT. Arguments: an address (http://..., sql:schema.function, sql://server/schema.function, topic://name), then the columns that are the key (default: the primary key). The payload is {"op": "UPDATE", "schema", "table", "key": {...}, "old": {...}, "new": {...}}; what there is not is null. The message belongs to the role that changes the row, which must be allowed the address.';

CREATE FUNCTION dtm.subscribe(topic text, url text)
RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'dtm_subscribe';
COMMENT ON FUNCTION dtm.subscribe(text, text) IS
'For administrators: from now on messages to topic://<topic> are sent to this address too, whoever sends them: http://..., https://..., sql:schema.function, which is called as the sender, or sql://server/schema.function, with the sender''s user mapping. topic: up to 128 letters, digits, dots, hyphens and underscores. Repeating it does nothing. Part of dumps.';

CREATE FUNCTION dtm.unsubscribe(topic text, url text)
RETURNS boolean
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'dtm_unsubscribe';
COMMENT ON FUNCTION dtm.unsubscribe(text, text) IS
'For administrators: undo dtm.subscribe. Messages that are already begun are still sent. Returns whether there was such a subscription.';

--
-- XA over HTTP
--

CREATE FUNCTION dtm.xa_begin(gid text, timeout_to_fail interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL, request_timeout interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL, branch_headers jsonb DEFAULT NULL,
	on_success text DEFAULT NULL, on_failure text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_xa_begin';
COMMENT ON FUNCTION dtm.xa_begin(text, interval, interval, interval, integer, jsonb, text, text) IS
'Begin an xa transaction: participants register with dtm.xa_branch and prepare their local transactions; dtm.submit then lets all of them commit, dtm.abort or the timeout lets all roll back. Returns the gid. Beginning it again before it is submitted does nothing. timeout_to_fail: counts from the beginning, and only until it is submitted; then all is rolled back (default: 33 s). retry_interval: first delay after a failed attempt, doubled each time, and the fixed delay after ONGOING (default: dtm.retry_interval). request_timeout: for one call (default: dtm.request_timeout). retry_limit: failed attempts of one call, the first included, before it is shown in dtm.stuck; it is still retried (default: dtm.stuck_after). branch_headers: a JSON object of strings, sent with every call. on_success, on_failure: one statement, SELECT, INSERT, UPDATE, DELETE, MERGE or CALL, without parameters, run as the caller in the same commit as the final status; if it fails, the status is final all the same, and the statement is tried again (default: none). Errors: 23505 the gid is in use by another; DT412 it was submitted or aborted; 22023 an argument is not usable.';

CREATE FUNCTION dtm.xa_begin(timeout_to_fail interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL, request_timeout interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL, branch_headers jsonb DEFAULT NULL,
	on_success text DEFAULT NULL, on_failure text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_xa_begin_new';
COMMENT ON FUNCTION dtm.xa_begin(interval, interval, interval, integer, jsonb, text, text) IS
'Begin an xa transaction with a new gid, which is returned. See the first form of dtm.xa_begin.';

CREATE FUNCTION dtm.xa_branch(gid text, url text, headers jsonb DEFAULT NULL,
	request_timeout interval DEFAULT NULL, retry_limit integer DEFAULT NULL,
	parent text DEFAULT NULL, branch_id text DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_xa_branch';
COMMENT ON FUNCTION dtm.xa_branch(text, text, jsonb, interval, integer, text, text) IS
'Add a branch to an xa transaction that is begun and not submitted: committed before the participant prepares. Returns its branch_id: 01, 02, ... url: an http address, called by POST with op=commit or op=rollback, in the order of registration, until it succeeds. headers: a JSON object of strings. request_timeout: for one call (default: that of the transaction). retry_limit: as in dtm.xa_begin. parent: the branch that calls this one: below 02 it is 0201, 0202, ... branch_id: the id to take, if it is known beforehand: adding the same branch again then does nothing. Errors: DT404 unknown gid; DT412 it is submitted or ended; 22023 an argument is not usable; 42501 the role may not have an address called; 23505 branch_id is another branch.';

--
-- Workflows
--

CREATE FUNCTION dtm.workflow_prepare(gid text, name text, resume text, data text DEFAULT NULL, body bytea DEFAULT NULL,
	timeout_to_fail interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL, request_timeout interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL, branch_headers jsonb DEFAULT NULL,
	on_success text DEFAULT NULL, on_failure text DEFAULT NULL,
	OUT branch_id text, OUT op text, OUT status text, OUT result bytea, OUT run integer)
RETURNS SETOF record
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_workflow_prepare';
COMMENT ON FUNCTION dtm.workflow_prepare(text, text, text, text, bytea, interval, interval, interval, integer, jsonb, text, text) IS
'Begin a workflow, or go on with it: the client runs its steps and records each; dtm keeps the journal, and calls the client if it falls silent. Returns the journal: a first row with branch_id 00, the name as op, the status of the workflow and, if it has ended, its result; then a row for each op that was recorded, in the order of the steps. run: the number of this run; every prepare begins a new one, which supersedes those before. Once it has ended, no new run begins: the rows say how. gid: the same again means to go on; data, resume and options then stay those of the first time. name: of the code to run, 1 to 128 bytes. resume: the http address of the client, called with the parameters gid, trans_type=workflow, branch_id=00 and op=<name> when nothing was heard of it (prepare, record) for timeout_to_fail; '''' for nobody. data: JSON, sent to resume byte for byte by POST; without it, GET. body: bytes of any other kind instead. timeout_to_fail: how long it may be silent; it never fails by time (default: 33 s). retry_interval: first delay after a failed call of resume, doubled each time, and the fixed delay after one that was answered (default: dtm.retry_interval). request_timeout: for one call (default: dtm.request_timeout). retry_limit: failed calls, the first included, before it is shown in dtm.stuck; it is still called (default: dtm.stuck_after). branch_headers: a JSON object of strings, sent with every call. on_success, on_failure: an SQL statement, run as the caller when it has ended; if it fails, it is tried again (default: none). Errors: 23505 the gid is in use by another, or by a workflow of another name; 22023 an argument is not usable; 42501 the role may not have resume called.';

CREATE FUNCTION dtm.workflow_prepare(gid text, name text, resume text, data jsonb,
	timeout_to_fail interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL, request_timeout interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL, branch_headers jsonb DEFAULT NULL,
	on_success text DEFAULT NULL, on_failure text DEFAULT NULL,
	OUT branch_id text, OUT op text, OUT status text, OUT result bytea, OUT run integer)
RETURNS SETOF record
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_workflow_prepare';
COMMENT ON FUNCTION dtm.workflow_prepare(text, text, text, jsonb, interval, interval, interval, integer, jsonb, text, text) IS
'Begin a workflow, or go on with it, with its data as jsonb. See the first form of dtm.workflow_prepare.';

CREATE FUNCTION dtm.workflow_prepare(gid text, name text, resume text, data json,
	timeout_to_fail interval DEFAULT NULL,
	retry_interval interval DEFAULT NULL, request_timeout interval DEFAULT NULL,
	retry_limit integer DEFAULT NULL, branch_headers jsonb DEFAULT NULL,
	on_success text DEFAULT NULL, on_failure text DEFAULT NULL,
	OUT branch_id text, OUT op text, OUT status text, OUT result bytea, OUT run integer)
RETURNS SETOF record
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_workflow_prepare';
COMMENT ON FUNCTION dtm.workflow_prepare(text, text, text, json, interval, interval, interval, integer, jsonb, text, text) IS
'Begin a workflow, or go on with it, with its data as json. See the first form of dtm.workflow_prepare.';

CREATE FUNCTION dtm.workflow_record(gid text, branch_id text, op text, status text, result text DEFAULT NULL, run integer DEFAULT NULL)
RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_workflow_record';
COMMENT ON FUNCTION dtm.workflow_record(text, text, text, text, text, integer) IS
'Record what came of a step of a workflow. true: it is in the journal now. false: it was already, with the same status; the first result stays. In the transaction of a step''s business in this database, with run, that business happens once: do it only if this is true. branch_id: 01, 02, ... in the order of the code; up to 128 letters, digits, hyphens, underscores and dots. op: action, rollback (of an action, when the workflow fails) or commit (after all actions). status: succeed, or failed: it was refused. result: what the step has come to, up to dtm.max_response_size; text is kept in UTF-8. run: what dtm.workflow_prepare has returned: if another run has begun since, it is an error (default: not checked). Also a sign of life: resume is not called for timeout_to_fail from now. Errors: DT404 unknown gid; DT412 the workflow has ended, the run was superseded, or the step is recorded with the other status; 22023 an argument is not usable; 54000 result is too large.';

CREATE FUNCTION dtm.workflow_record(gid text, branch_id text, op text, status text, result jsonb, run integer DEFAULT NULL)
RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_workflow_record';
COMMENT ON FUNCTION dtm.workflow_record(text, text, text, text, jsonb, integer) IS
'Record what came of a step, with its result as jsonb. See the first form of dtm.workflow_record.';

CREATE FUNCTION dtm.workflow_record(gid text, branch_id text, op text, status text, result json, run integer DEFAULT NULL)
RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_workflow_record';
COMMENT ON FUNCTION dtm.workflow_record(text, text, text, text, json, integer) IS
'Record what came of a step, with its result as json. See the first form of dtm.workflow_record.';

CREATE FUNCTION dtm.workflow_record(gid text, branch_id text, op text, status text, result bytea, run integer DEFAULT NULL)
RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_workflow_record';
COMMENT ON FUNCTION dtm.workflow_record(text, text, text, text, bytea, integer) IS
'Record what came of a step, with its result as bytea. See the first form of dtm.workflow_record.';

CREATE FUNCTION dtm.workflow_finish(gid text, status text, result text DEFAULT NULL, reason text DEFAULT NULL, run integer DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_workflow_finish';
COMMENT ON FUNCTION dtm.workflow_finish(text, text, text, text, integer) IS
'End a workflow, as its client says. status: succeed or failed. result: what it has come to, for those who prepare it again; up to dtm.max_response_size. reason: up to 1 kB, for people; only of what has failed. run: what dtm.workflow_prepare has returned: if another run has begun since, it is an error (default: not checked). Repeating it with the same status does nothing; the first result stays. Errors: DT404 unknown gid; DT412 it has ended otherwise, or the run was superseded; 22023 an argument is not usable; 54000 result is too large.';

CREATE FUNCTION dtm.workflow_finish(gid text, status text, result jsonb, reason text DEFAULT NULL, run integer DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_workflow_finish';
COMMENT ON FUNCTION dtm.workflow_finish(text, text, jsonb, text, integer) IS
'End a workflow, with its result as jsonb. See the first form of dtm.workflow_finish.';

CREATE FUNCTION dtm.workflow_finish(gid text, status text, result json, reason text DEFAULT NULL, run integer DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_workflow_finish';
COMMENT ON FUNCTION dtm.workflow_finish(text, text, json, text, integer) IS
'End a workflow, with its result as json. See the first form of dtm.workflow_finish.';

CREATE FUNCTION dtm.workflow_finish(gid text, status text, result bytea, reason text DEFAULT NULL, run integer DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_workflow_finish';
COMMENT ON FUNCTION dtm.workflow_finish(text, text, bytea, text, integer) IS
'End a workflow, with its result as bytea. See the first form of dtm.workflow_finish.';

--
-- Global transactions
--

CREATE FUNCTION dtm.new_gid()
RETURNS text
LANGUAGE C VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'dtm_new_gid';
COMMENT ON FUNCTION dtm.new_gid() IS
'A new gid: 26 letters and digits, unique everywhere, ordered by time, safe in URLs.';

CREATE FUNCTION dtm.submit(gid text)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_submit';
COMMENT ON FUNCTION dtm.submit(text) IS
'Submit what was begun: once the calling transaction has committed, it runs: actions, confirms or commits are called. Repeating it does nothing. Errors: DT404 unknown gid; DT412 it was aborted or has failed, or is a workflow.';

CREATE PROCEDURE dtm.submit(gid text, wait_result boolean, timeout interval DEFAULT NULL)
LANGUAGE C AS 'MODULE_PATHNAME', 'dtm_submit_and_wait';
COMMENT ON PROCEDURE dtm.submit(text, boolean, interval) IS
'Submit, commit, and with wait_result => true wait for the outcome, at most for timeout (default: for ever). Not inside a transaction block. Errors: DT409 it has failed, with the reason; DT425 not finished in time, it goes on; DT404 unknown gid; DT412 it was aborted or has failed before.';

CREATE FUNCTION dtm.abort(gid text, reason text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_abort';
COMMENT ON FUNCTION dtm.abort(text, text) IS
'Roll back: a saga or message that is only begun fails at once; a saga that runs starts compensating, tcc and xa that are not submitted start cancelling or rolling back, after the calling transaction has committed. Repeating it does nothing. reason: up to 1 kB, for people. Errors: DT404 unknown gid; DT412 it has succeeded, is submitted and no saga, or is a workflow.';

CREATE FUNCTION dtm.retry_now(gid text, reason text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_retry_now';
COMMENT ON FUNCTION dtm.retry_now(text, text) IS
'Do not wait for the next retry: everything that waits is due at once, the question to query_prepared too, and a workflow is resumed, unless that call is under way; also a statement on_success or on_failure that has not succeeded, though its transaction has ended. Recorded with role, time and reason in dtm.operation_log. What has ended while the statement ran is left alone, with a notice. reason: up to 1 kB, for people. Errors: DT404 unknown gid; DT412 it is not running, and has no such statement.';

CREATE FUNCTION dtm.force_stop(gid text, reason text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_force_stop';
COMMENT ON FUNCTION dtm.force_stop(text, text) IS
'Give up: it has failed, and nothing more is called, no compensation either; its statement on_failure is run, after the calling transaction has committed. Somebody must put right what the branches have done. Of one that has ended, and whose statement is stuck: only that statement is given up. Recorded with role, time and reason in dtm.operation_log. Errors: DT404 unknown gid; DT412 it has succeeded.';

CREATE FUNCTION dtm.status(gid text)
RETURNS text
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'dtm_status';
COMMENT ON FUNCTION dtm.status(text) IS
'The status: prepared, submitted, aborting, succeed or failed. Errors: DT404 unknown gid.';

CREATE FUNCTION dtm.query(gid text)
RETURNS jsonb
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'dtm_query';
COMMENT ON FUNCTION dtm.query(text) IS
'Everything about a global transaction: options, times, branches with their calls, attempts and errors. Errors: DT404 unknown gid.';

CREATE FUNCTION dtm.wait(gid text, timeout interval DEFAULT NULL)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_wait';
COMMENT ON FUNCTION dtm.wait(text, interval) IS
'Wait until it has ended, at most for timeout (default: for ever; 0: only look). Returns succeed, failed, or NULL when the time is over. Errors: DT404 unknown gid; DT412 called in the transaction that has begun or changed it: it could never end.';

--
-- Secrets
--

CREATE FUNCTION dtm.set_secret(name text, value text)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_set_secret';
COMMENT ON FUNCTION dtm.set_secret(text, text) IS
'Keep a secret for headers, as the current role''s, or change it. In headers and branch_headers, {"Authorization": {"secret": "pay-token", "prefix": "Bearer "}} then means its value at the time of the call. name: 1 to 128 bytes. value: 1 to 8192 bytes without line ends. The statement itself may be in the server''s log, like any other. Errors: 22023 an argument is not usable.';

CREATE FUNCTION dtm.drop_secret(name text)
RETURNS boolean
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'dtm_drop_secret';
COMMENT ON FUNCTION dtm.drop_secret(text) IS
'Forget a secret of the current role. Calls that need it fail, and are tried again, until it is set anew. Returns whether there was one.';

--
-- Inside branches
--

CREATE FUNCTION dtm.barrier(trans_type text, gid text, branch_id text, op text, barrier_id text DEFAULT '01')
RETURNS boolean
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_barrier';
COMMENT ON FUNCTION dtm.barrier(text, text, text, text, text) IS
'For participants, in the transaction of their business: true: this call is new, do the business. false: it is a repeat, or came too late, or there is nothing to undo: do nothing and answer success. trans_type, gid, branch_id, op: as they came with the call. barrier_id: 01, 02, ... for several barriers in one branch. Errors: 22023 an argument is not usable; 25P01 outside a transaction; 23505 DUPLICATED for a message that was decided before.';

CREATE FUNCTION dtm.query_prepared(gid text)
RETURNS text
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_query_prepared';
COMMENT ON FUNCTION dtm.query_prepared(text) IS
'For participants: the answer to the question whether the business of the message gid was committed, as its dtm.barrier in this database says: SUCCESS, or FAILURE: it was not, and from now on it cannot be.';

CREATE FUNCTION dtm.fail(reason text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_fail';
COMMENT ON FUNCTION dtm.fail(text) IS
'In a SQL branch that is the action of a saga or a try: refuse. All is rolled back, and this is its reason. Anywhere else it is an error like any other, and the call is repeated. Raises DT409.';

CREATE FUNCTION dtm.ongoing(reason text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_ongoing';
COMMENT ON FUNCTION dtm.ongoing(text) IS
'In a SQL branch: not known yet. It is called again after retry_interval. reason: for people, in last_error of dtm.branches. Raises DT425.';

CREATE FUNCTION dtm.current_branch(OUT gid text, OUT branch_id text, OUT op text, OUT trans_type text)
RETURNS record
LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'dtm_current_branch';
COMMENT ON FUNCTION dtm.current_branch() IS
'In a SQL branch: which global transaction, branch and op this call is. In a statement on_success or on_failure: branch 00, and that as op. All NULL elsewhere.';

CREATE FUNCTION dtm.run_branch(trans_type text, gid text, branch_id text, op text, function text,
	payload jsonb DEFAULT NULL, timeout_ms integer DEFAULT NULL, traceparent text DEFAULT NULL,
	keep_result boolean DEFAULT false)
RETURNS jsonb
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_run_branch';
COMMENT ON FUNCTION dtm.run_branch(text, text, text, text, text, jsonb, integer, text, boolean) IS
'What dtm on another server calls here for an address sql://server/schema.function: dtm.barrier and then, unless that says no, function(payload), both in the calling transaction and with the rights of the caller. The first four arguments are those of dtm.barrier. function: schema.function, with one argument of type jsonb. timeout_ms: milliseconds that it may take; NULL: no limit but statement_timeout. traceparent: dtm.traceparent while it runs. keep_result: return what the function returns, as jsonb; else NULL, as after a repeat, or, with a warning DT413, when that has no JSON or one of more than 2 MB. Errors: DT409 and DT425 as raised by the function; 22023 an argument is not usable; 42883 there is no such function; 57014 it took too long.';

--
-- Administration
--

CREATE FUNCTION dtm.grant_usage(role name)
RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'dtm_grant_usage';
COMMENT ON FUNCTION dtm.grant_usage(name) IS
'For administrators: let a role (public: everybody) use dtm: its schema, functions and views. Whom it may have called is another question: dtm.allow. Run it again after ALTER EXTENSION dtm UPDATE.';

CREATE FUNCTION dtm.revoke_usage(role name)
RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'dtm_revoke_usage';
COMMENT ON FUNCTION dtm.revoke_usage(name) IS
'For administrators: undo dtm.grant_usage. What the role has started goes on.';

CREATE FUNCTION dtm.allow(role name, prefix text)
RETURNS void
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'dtm_allow';
COMMENT ON FUNCTION dtm.allow(name, text) IS
'For administrators: let a role and its members (public: everybody) have all addresses under this prefix called: http://host, https://host:8443/path/, or * for everything. Part of dumps.';

CREATE FUNCTION dtm.disallow(role name, prefix text)
RETURNS boolean
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'dtm_disallow';
COMMENT ON FUNCTION dtm.disallow(name, text) IS
'For administrators: undo dtm.allow. What is already begun goes on. Returns whether there was such a grant.';

CREATE FUNCTION dtm.adopt()
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_adopt';
COMMENT ON FUNCTION dtm.adopt() IS
'For administrators: this restored or copied database shall carry out the global transactions that its tables hold. Make sure that the original does not. Superusers only.';

CREATE FUNCTION dtm.doctor(OUT problem text, OUT why text, OUT remedy text)
RETURNS SETOF record
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_doctor';
COMMENT ON FUNCTION dtm.doctor() IS
'Every misconfiguration that can be found: what it is, why it matters, and the command that mends it. Empty when all is well.';

CREATE FUNCTION dtm.allowed_changed()
RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'dtm_allowed_changed';
COMMENT ON FUNCTION dtm.allowed_changed() IS
'Internal: only superusers change dtm.allowed and dtm.topic; all sessions read them again.';

CREATE TRIGGER allowed_changed
AFTER INSERT OR UPDATE OR DELETE ON dtm.allowed
FOR EACH STATEMENT EXECUTE FUNCTION dtm.allowed_changed();

CREATE TRIGGER topic_changed
AFTER INSERT OR UPDATE OR DELETE ON dtm.topic
FOR EACH STATEMENT EXECUTE FUNCTION dtm.allowed_changed();

CREATE FUNCTION dtm.ignore_replicated()
RETURNS trigger
LANGUAGE C AS 'MODULE_PATHNAME', 'dtm_ignore_replicated';
COMMENT ON FUNCTION dtm.ignore_replicated() IS
'Internal: what logical replication brings from another server is that server''s to carry out, and not stored here.';

CREATE FUNCTION dtm.check_barrier()
RETURNS void
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_check_barrier';
COMMENT ON FUNCTION dtm.check_barrier() IS
'Internal: an error unless dtm_barrier.barrier is as dtm needs it, and runs no code but that of superusers.';

SELECT dtm.check_barrier();

CREATE FUNCTION dtm.payload_json(payload bytea)
RETURNS jsonb
LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'dtm_payload_json';
COMMENT ON FUNCTION dtm.payload_json(bytea) IS
'Used by views: a payload or a result for people: JSON as it is, other text as a string, other bytes as {"base64": ...}.';

CREATE FUNCTION dtm.worker_list(OUT database oid, OUT shard integer, OUT pid integer,
	OUT started timestamptz, OUT loaded bigint, OUT succeeded bigint, OUT failed bigint, OUT calls bigint, OUT calls_success bigint, OUT calls_failure bigint, OUT calls_ongoing bigint, OUT calls_error bigint, OUT retries bigint, OUT commits bigint, OUT latency_us bigint, OUT in_memory bigint, OUT in_flight bigint, OUT queued bigint, OUT open_circuits bigint)
RETURNS SETOF record
LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'dtm_worker_list';
COMMENT ON FUNCTION dtm.worker_list() IS
'Used by views: mailboxes and counters of the workers, for the views dtm.workers and dtm.stats.';

CREATE FUNCTION dtm.trans_type_name(mode "char")
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE mode
	WHEN 's' THEN 'saga' WHEN 't' THEN 'tcc' WHEN 'x' THEN 'xa'
	WHEN 'm' THEN 'msg' WHEN 'w' THEN 'workflow' END;
COMMENT ON FUNCTION dtm.trans_type_name("char") IS
'Used by views: the word for a mode as the tables have it.';

CREATE FUNCTION dtm.status_name(status "char")
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE status
	WHEN 'p' THEN 'prepared' WHEN 's' THEN 'submitted' WHEN 'a' THEN 'aborting'
	WHEN 'S' THEN 'succeed' WHEN 'F' THEN 'failed' END;
COMMENT ON FUNCTION dtm.status_name("char") IS
'Used by views: the word for a status as the tables have it.';

CREATE FUNCTION dtm.op_name(mode "char", phase smallint)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE mode
	WHEN 's' THEN CASE phase WHEN 0 THEN 'action' ELSE 'compensate' END
	WHEN 't' THEN CASE phase WHEN 0 THEN 'confirm' WHEN 1 THEN 'cancel' ELSE 'try' END
	WHEN 'x' THEN CASE phase WHEN 0 THEN 'commit' ELSE 'rollback' END
	WHEN 'm' THEN 'action'
	WHEN 'w' THEN CASE phase WHEN 0 THEN 'action' WHEN 1 THEN 'rollback' ELSE 'commit' END END;
COMMENT ON FUNCTION dtm.op_name("char", smallint) IS
'Used by views: what a branch is called to do: forward (0), back (1), or to reserve (2). Of a workflow: what its client has done.';

-- The ops that a branch has, the latest first, as dtm stores them.
CREATE FUNCTION dtm.phases(mode "char", try text)
RETURNS smallint[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN mode = 'm' THEN '{0}'::smallint[]
	WHEN try <> '' OR mode = 'w' THEN '{2,1,0}'::smallint[]
	ELSE '{1,0}'::smallint[] END;
COMMENT ON FUNCTION dtm.phases("char", text) IS
'Used by views: the phases of a branch of this mode, with or without a try that dtm calls.';

CREATE FUNCTION dtm.op_status_name(status "char")
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE status WHEN 'S' THEN 'succeed' WHEN 'F' THEN 'failed' ELSE 'prepared' END;
COMMENT ON FUNCTION dtm.op_status_name("char") IS
'Used by views: the word for an op''s status as the tables have it; prepared if they have none.';

-- May the current user see what this role has begun?
CREATE FUNCTION dtm.may_see(owner oid)
RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN pg_catalog.pg_has_role(owner, 'USAGE')
	OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON FUNCTION dtm.may_see(oid) IS
'Used by views: is it one''s own, or is one a member of pg_monitor?';

--
-- Views
--

CREATE VIEW dtm.transactions WITH (security_barrier) AS
SELECT t.gid,
	dtm.trans_type_name(t.mode) AS trans_type,
	dtm.status_name(t.status) AS status,
	pg_catalog.pg_get_userbyid(t.owner) AS owner,
	t.created_at, t.submitted_at, t.finished_at,
	t.deadline, t.not_before, CASE WHEN t.mode <> 'w' THEN t.query_prepared END AS query_prepared,
	t.reason, t.forced, t.concurrent,
	t.timeout_to_fail, t.retry_interval, t.retry_limit, t.request_timeout,
	t.branch_headers, t.traceparent, t.on_success, t.on_failure,
	w.name AS workflow, CASE WHEN t.mode = 'w' THEN t.query_prepared END AS resume
FROM dtm.trans AS t
LEFT JOIN dtm.workflow AS w ON w.id = t.id
WHERE dtm.may_see(t.owner);
COMMENT ON VIEW dtm.transactions IS
'Global transactions, one''s own; all for members of pg_monitor. Finished ones go after dtm.retention.';

CREATE VIEW dtm.branches WITH (security_barrier) AS
SELECT t.gid,
	b.branch_id,
	dtm.op_name(t.mode, p.phase) AS op,
	dtm.op_status_name(o.status) AS status,
	CASE p.phase WHEN 0 THEN b.forward WHEN 1 THEN b.backward ELSE b.try END AS address,
	coalesce(o.attempts, 0) AS attempts,
	o.last_error, o.last_attempt,
	CASE WHEN t.finished_at IS NULL THEN o.next_attempt END AS next_attempt,
	coalesce(o.stuck, false) AS stuck,
	dtm.payload_json(o.result) AS result
FROM dtm.trans AS t
JOIN dtm.branch AS b ON b.id = t.id
CROSS JOIN LATERAL pg_catalog.unnest(dtm.phases(t.mode, b.try)) AS p(phase)
LEFT JOIN dtm.op AS o ON o.id = b.id AND o.branch = b.branch AND o.phase = p.phase
WHERE (t.mode <> 'w' OR o.id IS NOT NULL) AND dtm.may_see(t.owner)
UNION ALL
SELECT t.gid, '00', 'msg',
	dtm.op_status_name(o.status),
	t.query_prepared,
	coalesce(o.attempts, 0),
	o.last_error, o.last_attempt,
	CASE WHEN t.status = 'p' THEN o.next_attempt END,
	coalesce(o.stuck, false),
	NULL
FROM dtm.trans AS t
LEFT JOIN dtm.op AS o ON o.id = t.id AND o.branch = -1
WHERE t.query_prepared IS NOT NULL AND t.mode <> 'w' AND dtm.may_see(t.owner)
UNION ALL
-- A workflow, as its client prepares it.
SELECT t.gid, '00', w.name,
	dtm.op_status_name(t.status),
	coalesce(t.query_prepared, ''),
	coalesce(o.attempts, 0),
	o.last_error, o.last_attempt,
	CASE WHEN t.due IS NOT NULL AND t.query_prepared IS NOT NULL THEN greatest(t.deadline, o.next_attempt) END,
	coalesce(o.stuck, false),
	dtm.payload_json(w.result)
FROM dtm.trans AS t
JOIN dtm.workflow AS w ON w.id = t.id
LEFT JOIN dtm.op AS o ON o.id = t.id AND o.branch = -1
WHERE dtm.may_see(t.owner)
UNION ALL
SELECT t.gid, '00', e.op,
	dtm.op_status_name(o.status),
	e.statement,
	coalesce(o.attempts, 0),
	o.last_error, o.last_attempt,
	CASE WHEN t.due IS NOT NULL THEN o.next_attempt END,
	coalesce(o.stuck, false),
	NULL
FROM dtm.trans AS t
CROSS JOIN LATERAL (VALUES ('on_success', t.on_success, 'S'::"char"),
	('on_failure', t.on_failure, 'F'::"char")) AS e(op, statement, status)
LEFT JOIN dtm.op AS o ON o.id = t.id AND o.branch = -2 AND t.status = e.status
WHERE e.statement IS NOT NULL AND dtm.may_see(t.owner);
COMMENT ON VIEW dtm.branches IS
'One row for each op of one''s own global transactions: compensate and action for each step of a saga; try (if dtm calls it), cancel and confirm; rollback and commit; the action of a message, and its back-check: branch 00, op msg; what the client of a workflow has recorded, and the workflow itself: branch 00, its name as op, and the address where it is resumed; on_success and on_failure, of branch 00 too, with the statement as address. status: prepared (not ended; perhaps never called), succeed, failed (refused). attempts: calls that ended. next_attempt: after a failed one. result: what the branch answered, if it keeps that (keep_result).';

CREATE VIEW dtm.stuck WITH (security_barrier) AS
SELECT t.gid,
	dtm.trans_type_name(t.mode) AS trans_type,
	dtm.status_name(t.status) AS status,
	coalesce(b.branch_id, '00') AS branch_id,
	CASE o.branch WHEN -1 THEN coalesce((SELECT w.name FROM dtm.workflow AS w WHERE w.id = t.id), 'msg')
		WHEN -2 THEN CASE t.status WHEN 'S' THEN 'on_success' ELSE 'on_failure' END
		ELSE dtm.op_name(t.mode, o.phase) END AS op,
	CASE o.branch WHEN -1 THEN t.query_prepared
		WHEN -2 THEN CASE t.status WHEN 'S' THEN t.on_success ELSE t.on_failure END
		ELSE CASE o.phase WHEN 0 THEN b.forward WHEN 1 THEN b.backward ELSE b.try END END AS address,
	o.attempts, o.last_error, o.last_attempt, o.next_attempt,
	t.created_at
FROM dtm.trans AS t
JOIN dtm.op AS o ON o.id = t.id
LEFT JOIN dtm.branch AS b ON b.id = o.id AND b.branch = o.branch
WHERE t.due IS NOT NULL AND o.stuck AND o.status = 'p'
AND CASE o.branch WHEN -1 THEN t.status = 'p' WHEN -2 THEN t.status IN ('S', 'F')
	ELSE t.status NOT IN ('S', 'F') END
AND dtm.may_see(t.owner)
-- So that commands to all of them at once wait for each other, and never in a circle.
ORDER BY t.id, o.branch, o.phase;
COMMENT ON VIEW dtm.stuck IS
'Ops that have failed dtm.stuck_after times or more and must succeed: still retried, but somebody should look. Mend the branch, then dtm.retry_now(gid); or give up with dtm.force_stop(gid, reason). A statement on_success or on_failure is here too: its transaction has ended, but the statement has not succeeded; to force_stop it gives up the statement alone.';

CREATE VIEW dtm.topics AS
SELECT topic, url, subscribed_at, subscribed_by FROM dtm.topic;
COMMENT ON VIEW dtm.topics IS
'Subscriptions: to whom messages to topic://<topic> are sent, in the order of subscribed_at. Made by dtm.subscribe, ended by dtm.unsubscribe.';

CREATE VIEW dtm.secrets WITH (security_barrier) AS
SELECT pg_catalog.pg_get_userbyid(s.role) AS role, s.name, s.set_at
FROM dtm.secret AS s
WHERE pg_catalog.pg_has_role(s.role, 'USAGE');
COMMENT ON VIEW dtm.secrets IS
'The names of one''s own secrets, and when they were set. Nobody is shown the values.';

CREATE VIEW dtm.workers WITH (security_barrier) AS
SELECT d.datname AS database, w.shard, w.pid, w.started,
	w.in_memory, w.in_flight, w.queued, w.open_circuits, w.commits
FROM dtm.worker_list() AS w
LEFT JOIN pg_catalog.pg_database AS d ON d.oid = w.database;
COMMENT ON VIEW dtm.workers IS
'The workers of this database; of all databases for members of pg_monitor. in_memory: transactions held; in_flight: calls under way; queued: calls that wait for their turn; open_circuits: targets that are left alone for a while because they do not answer; commits: its own, since it started.';

CREATE VIEW dtm.stats WITH (security_barrier) AS
SELECT w.*, b.backlog, b.oldest_unfinished
FROM (
	SELECT coalesce(pg_catalog.sum(loaded), 0) AS begun,
		coalesce(pg_catalog.sum(succeeded), 0) AS succeeded,
		coalesce(pg_catalog.sum(failed), 0) AS failed,
		coalesce(pg_catalog.sum(calls), 0) AS calls,
		coalesce(pg_catalog.sum(calls_success), 0) AS calls_success,
		coalesce(pg_catalog.sum(calls_failure), 0) AS calls_failure,
		coalesce(pg_catalog.sum(calls_ongoing), 0) AS calls_ongoing,
		coalesce(pg_catalog.sum(calls_error), 0) AS calls_error,
		coalesce(pg_catalog.sum(retries), 0) AS retries,
		pg_catalog.round(pg_catalog.sum(latency_us)
			/ nullif(pg_catalog.sum(succeeded) + pg_catalog.sum(failed), 0) / 1000, 3)
			AS mean_latency_ms
	FROM dtm.worker_list()
	WHERE database = (SELECT oid FROM pg_catalog.pg_database
		WHERE datname = pg_catalog.current_database())) AS w,
	(SELECT pg_catalog.count(*) AS backlog,
		pg_catalog.min(created_at) AS oldest_unfinished
	FROM dtm.trans WHERE due IS NOT NULL AND status NOT IN ('S', 'F')) AS b;
COMMENT ON VIEW dtm.stats IS
'This database in numbers. Counters since the server started: begun, succeeded, failed, calls by outcome, retries, mean_latency_ms (from begin to end). From the tables: backlog (unfinished) and oldest_unfinished.';

CREATE FUNCTION dtm.describe(trans_id bigint)
RETURNS jsonb
LANGUAGE sql VOLATILE
BEGIN ATOMIC
SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
	'gid', t.gid,
	'trans_type', dtm.trans_type_name(t.mode),
	'status', dtm.status_name(t.status),
	'owner', pg_catalog.pg_get_userbyid(t.owner),
	'reason', t.reason,
	'forced', CASE WHEN t.forced THEN true END,
	'created_at', t.created_at,
	'submitted_at', t.submitted_at,
	'finished_at', t.finished_at,
	'deadline', t.deadline,
	'not_before', t.not_before,
	'concurrent', t.concurrent,
	'timeout_to_fail', t.timeout_to_fail,
	'retry_interval', t.retry_interval,
	'retry_limit', t.retry_limit,
	'request_timeout', t.request_timeout,
	'traceparent', t.traceparent,
	'on_success', t.on_success,
	'on_failure', t.on_failure))
	|| pg_catalog.jsonb_build_object(
	'branch_headers', t.branch_headers,
	'branches', coalesce((
		SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
				'branch_id', b.branch_id,
				'waits_for', (SELECT pg_catalog.jsonb_agg(p + 1) FROM pg_catalog.unnest(b.predecessors) AS p),
				'request_timeout', b.request_timeout,
				'retry_limit', b.retry_limit,
				'keep_result', CASE WHEN b.keep_result THEN true END))
			|| pg_catalog.jsonb_build_object(
				'headers', b.branch_headers,
				'payload', dtm.payload_json(b.payload),
				'payload_size', coalesce(pg_catalog.length(b.payload), 0),
				'ops', (
					SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
							'op', dtm.op_name(t.mode, p.phase),
							'address', CASE p.phase WHEN 0 THEN b.forward WHEN 1 THEN b.backward ELSE b.try END,
							'status', dtm.op_status_name(o.status),
							'attempts', coalesce(o.attempts, 0),
							'failed_attempts', o.failed_attempts,
							'stuck', CASE WHEN o.stuck THEN true END,
							'last_attempt', o.last_attempt,
							'next_attempt', o.next_attempt,
							'last_error', o.last_error))
							|| CASE WHEN o.result IS NULL THEN '{}'::jsonb
								ELSE pg_catalog.jsonb_build_object('result', dtm.payload_json(o.result)) END
						ORDER BY p.phase DESC)
					FROM pg_catalog.unnest(dtm.phases(t.mode, b.try)) AS p(phase)
					LEFT JOIN dtm.op AS o ON o.id = b.id AND o.branch = b.branch AND o.phase = p.phase
					WHERE t.mode <> 'w' OR o.id IS NOT NULL))
			ORDER BY b.branch)
		FROM dtm.branch AS b WHERE b.id = t.id), '[]'::jsonb))
	|| coalesce((
		SELECT pg_catalog.jsonb_build_object('workflow', pg_catalog.jsonb_build_object(
			'name', w.name,
			'run', w.run,
			'data', dtm.payload_json(w.data),
			'result', dtm.payload_json(w.result))
			|| pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
			'resume', t.query_prepared,
			'attempts', coalesce(o.attempts, 0),
			'stuck', CASE WHEN o.stuck THEN true END,
			'last_attempt', o.last_attempt,
			'next_attempt', CASE WHEN t.due IS NOT NULL AND t.query_prepared IS NOT NULL
				THEN greatest(t.deadline, o.next_attempt) END,
			'last_error', o.last_error)))
		FROM dtm.workflow AS w
		LEFT JOIN dtm.op AS o ON o.id = w.id AND o.branch = -1
		WHERE w.id = t.id), '{}'::jsonb)
	|| CASE WHEN t.query_prepared IS NULL OR t.mode = 'w' THEN '{}'::jsonb ELSE pg_catalog.jsonb_build_object(
	'query_prepared', (
		SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
			'op', 'msg',
			'address', t.query_prepared,
			'status', dtm.op_status_name(o.status),
			'attempts', coalesce(o.attempts, 0),
			'stuck', CASE WHEN o.stuck THEN true END,
			'last_attempt', o.last_attempt,
			'next_attempt', o.next_attempt,
			'last_error', o.last_error))
		FROM (VALUES (t.id)) AS one(id)
		LEFT JOIN dtm.op AS o ON o.id = one.id AND o.branch = -1)) END
	|| CASE WHEN CASE t.status WHEN 'S' THEN t.on_success WHEN 'F' THEN t.on_failure END IS NULL
	THEN '{}'::jsonb ELSE pg_catalog.jsonb_build_object(
	'ending', (
		SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
			'op', CASE t.status WHEN 'S' THEN 'on_success' ELSE 'on_failure' END,
			'status', dtm.op_status_name(o.status),
			'attempts', coalesce(o.attempts, 0),
			'stuck', CASE WHEN o.stuck THEN true END,
			'last_attempt', o.last_attempt,
			'next_attempt', CASE WHEN t.due IS NOT NULL THEN o.next_attempt END,
			'last_error', o.last_error))
		FROM (VALUES (t.id)) AS one(id)
		LEFT JOIN dtm.op AS o ON o.id = one.id AND o.branch = -2)) END
FROM dtm.trans AS t
WHERE t.id = trans_id;
END;
COMMENT ON FUNCTION dtm.describe(bigint) IS
'Internal: what dtm.query returns.';

--
-- A publication FOR ALL TABLES takes these tables along. What arrives elsewhere
-- must not be carried out there as well.
--

DO $do$
DECLARE
	name text;
BEGIN
	FOR name IN
		SELECT relname FROM pg_catalog.pg_class
		WHERE relnamespace OPERATOR(pg_catalog.=) 'dtm'::pg_catalog.regnamespace::pg_catalog.oid
		AND relkind OPERATOR(pg_catalog.=) 'r'::pg_catalog."char"
	LOOP
		EXECUTE pg_catalog.format('CREATE TRIGGER ignore_replicated BEFORE INSERT OR UPDATE OR DELETE ON dtm.%I FOR EACH ROW EXECUTE FUNCTION dtm.ignore_replicated()', name);
		EXECUTE pg_catalog.format('ALTER TABLE dtm.%I ENABLE REPLICA TRIGGER ignore_replicated', name);
	END LOOP;
END
$do$;

--
-- Rights: nobody has any until dtm.grant_usage. Dumps: configuration only.
--

REVOKE ALL ON SCHEMA dtm FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA dtm FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA dtm FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA dtm FROM PUBLIC;
REVOKE ALL ON TYPE dtm.step, dtm.tcc_step FROM PUBLIC;

-- Default privileges of whoever installs this may have given more, to others.
DO $do$
DECLARE
	given record;
BEGIN
	FOR given IN
		SELECT DISTINCT o.what, CASE a.grantee WHEN 0::pg_catalog.oid THEN 'PUBLIC'
			ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS grantee
		FROM (
			SELECT 'SCHEMA dtm', nspowner, nspacl FROM pg_catalog.pg_namespace
			WHERE nspname OPERATOR(pg_catalog.=) 'dtm'
			UNION ALL
			SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END
				OPERATOR(pg_catalog.||) oid::pg_catalog.regclass::pg_catalog.text, relowner, relacl
			FROM pg_catalog.pg_class
			WHERE relnamespace OPERATOR(pg_catalog.=) 'dtm'::pg_catalog.regnamespace::pg_catalog.oid
			UNION ALL
			SELECT 'ROUTINE ' OPERATOR(pg_catalog.||) oid::pg_catalog.regprocedure::pg_catalog.text, proowner, proacl
			FROM pg_catalog.pg_proc
			WHERE pronamespace OPERATOR(pg_catalog.=) 'dtm'::pg_catalog.regnamespace::pg_catalog.oid
			UNION ALL
			SELECT 'TYPE ' OPERATOR(pg_catalog.||) oid::pg_catalog.regtype::pg_catalog.text, typowner, typacl
			FROM pg_catalog.pg_type
			WHERE typnamespace OPERATOR(pg_catalog.=) 'dtm'::pg_catalog.regnamespace::pg_catalog.oid
			AND typelem OPERATOR(pg_catalog.=) 0::pg_catalog.oid
		) AS o (what, owner, acl)
		CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) AS a
		WHERE a.grantee OPERATOR(pg_catalog.<>) o.owner
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON %s FROM %s CASCADE', given.what, given.grantee);
	END LOOP;
END
$do$;

GRANT USAGE ON SCHEMA dtm TO pg_monitor;
GRANT SELECT ON dtm.transactions, dtm.branches, dtm.stuck, dtm.topics, dtm.workers, dtm.stats,
	dtm.operation_log, dtm.allowed TO pg_monitor;
GRANT EXECUTE ON FUNCTION dtm.trans_type_name("char"), dtm.status_name("char"),
	dtm.op_name("char", smallint), dtm.phases("char", text), dtm.op_status_name("char"), dtm.may_see(oid), dtm.worker_list(),
	dtm.payload_json(bytea), dtm.status(text), dtm.query(text), dtm.wait(text, interval), dtm.doctor()
	TO pg_monitor;

SELECT pg_catalog.pg_extension_config_dump('dtm.allowed', '');
SELECT pg_catalog.pg_extension_config_dump('dtm.topic', '');
