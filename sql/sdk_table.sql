-- A service with one of dtm's SDKs has made its barrier table before the
-- extension came. The table stays the service's own, and both use it.
DROP EXTENSION dtm;
CREATE SCHEMA dtm_barrier;
CREATE TABLE dtm_barrier.barrier (
	id			bigserial PRIMARY KEY,
	trans_type	varchar(45) DEFAULT '',
	gid			varchar(128) DEFAULT '',
	branch_id	varchar(128) DEFAULT '',
	op			varchar(45) DEFAULT '',
	barrier_id	varchar(45) DEFAULT '',
	reason		varchar(45) DEFAULT '',
	create_time	timestamptz DEFAULT NULL,
	update_time	timestamptz DEFAULT NULL,
	CONSTRAINT uniq_barrier UNIQUE (gid, branch_id, op, barrier_id)
);
INSERT INTO dtm_barrier.barrier (trans_type, gid, branch_id, op, barrier_id, reason)
VALUES ('saga', 'by-sdk', '01', 'action', '01', 'action')
ON CONFLICT ON CONSTRAINT uniq_barrier DO NOTHING;

-- dtm writes to it with all rights: it must not be an ordinary role's.
CREATE ROLE regress_dtm_service;
ALTER TABLE dtm_barrier.barrier OWNER TO regress_dtm_service;
CREATE EXTENSION dtm;
ALTER TABLE dtm_barrier.barrier OWNER TO CURRENT_USER;
CREATE EXTENSION dtm;

-- What the SDK has seen is a repeat; what it has not is new, and has a time.
BEGIN;
SELECT dtm.barrier('saga', 'by-sdk', '01', 'action') AS old,
	   dtm.barrier('saga', 'by-sdk', '02', 'action') AS new;
COMMIT;
SELECT gid, branch_id, op, create_time IS NOT NULL AS has_time
FROM dtm_barrier.barrier ORDER BY branch_id;

-- It outlives the extension.
DROP EXTENSION dtm;
SELECT count(*) FROM dtm_barrier.barrier;

DROP SCHEMA dtm_barrier CASCADE;
DROP ROLE regress_dtm_service;
CREATE EXTENSION dtm;
