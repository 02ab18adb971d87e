/*
 * store_load.c: reading transactions from their tables into memory.
 *
 * Three statements for any number of transactions: rows, branches, ops.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "nodes/parsenodes.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "attempts.h"
#include "secret.h"
#include "settings.h"
#include "store.h"
#include "store_plan.h"

#define MAX_BRANCH_ROWS 2048	/* of several transactions, in one go */

static DtmStatement trans_rows = {
	"SELECT id, gid, mode, status, owner, concurrent, deadline,"
	" retry_interval, retry_limit, request_timeout, branch_headers, reason,"
	" hurried_at, created_at, due, driven, query_prepared, not_before,"
	" traceparent, on_success IS NOT NULL, on_failure IS NOT NULL"
	" FROM dtm.trans WHERE id OPERATOR(pg_catalog.=) ANY ($1)"
	" ORDER BY id",
	1, {INT8ARRAYOID}, CURSOR_OPT_GENERIC_PLAN
};

static DtmStatement branch_rows = {
	"SELECT id, branch, branch_id, forward, backward, predecessors,"
	" request_timeout, retry_limit, branch_headers,"
	" pg_catalog.octet_length(payload),"
	" CASE WHEN pg_catalog.octet_length(payload) OPERATOR(pg_catalog.<=) $2"
	" THEN payload END, try, keep_result, uses IS NOT NULL"
	" FROM dtm.branch WHERE id OPERATOR(pg_catalog.=) ANY ($1)"
	" ORDER BY id, branch",
	2, {INT8ARRAYOID, INT4OID}, CURSOR_OPT_GENERIC_PLAN
};

static DtmStatement op_rows = {
	"SELECT id, branch, phase, status, stuck, attempts, failed_attempts, streak,"
	" next_attempt, last_attempt, last_error"
	" FROM dtm.op WHERE id OPERATOR(pg_catalog.=) ANY ($1)"
	" ORDER BY id",
	1, {INT8ARRAYOID}, CURSOR_OPT_GENERIC_PLAN
};

/* Of a workflow: only that of the whole. */
static DtmStatement resume_rows = {
	"SELECT id, branch, phase, status, stuck, attempts, failed_attempts, streak,"
	" next_attempt, last_attempt, last_error"
	" FROM dtm.op WHERE id OPERATOR(pg_catalog.=) ANY ($1)"
	" AND branch OPERATOR(pg_catalog.<) 0",
	1, {INT8ARRAYOID}
};

/* Small pages: the tail of the index is read over and over. */
static DtmStatement due_ids = {
	"SELECT id, due FROM dtm.trans"
	" WHERE (due, id) OPERATOR(pg_catalog.>) ($1, $2)"
	" AND due OPERATOR(pg_catalog.<=) $3 AND due IS NOT NULL"
	" AND id OPERATOR(pg_catalog.%) $5 OPERATOR(pg_catalog.=) $4"
	" ORDER BY due, id LIMIT $6",
	6, {TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID}
};

static DtmStatement range_ids = {
	"SELECT id FROM dtm.trans"
	" WHERE id OPERATOR(pg_catalog.>=) $1 AND id OPERATOR(pg_catalog.<=) $2"
	" AND due OPERATOR(pg_catalog.<=) $6"
	" AND id OPERATOR(pg_catalog.%) $4 OPERATOR(pg_catalog.=) $3"
	" ORDER BY id LIMIT $5",
	6, {INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID}
};

static DtmStatement last_id = {
	"SELECT last_value FROM dtm.trans_id_seq", 0, {0}
};

static DtmStatement payload_row = {
	"SELECT payload FROM dtm.branch WHERE id OPERATOR(pg_catalog.=) $1"
	" AND branch OPERATOR(pg_catalog.=) $2",
	2, {INT8OID, INT4OID}
};

static DtmStatement result_rows = {
	DTM_SELECT_RESULTS, 2, {INT8OID, INT4OID}
};

/*
 * Who has renewed its deadline, and not committed yet, holds the lock. The row is
 * read as it is at the end of all others' work, not as of our snapshot.
 */
static DtmStatement silent_row = {
	"SELECT w.data FROM dtm.trans AS t"
	" JOIN dtm.workflow AS w ON w.id OPERATOR(pg_catalog.=) t.id"
	" WHERE t.id OPERATOR(pg_catalog.=) $1"
	" AND t.status OPERATOR(pg_catalog.=) 'p'"
	" AND t.deadline OPERATOR(pg_catalog.<=) $2"
	" FOR SHARE OF t SKIP LOCKED",
	2, {INT8OID, TIMESTAMPTZOID}
};

static DtmStatement workflow_names = {
	"SELECT id, name FROM dtm.workflow WHERE id OPERATOR(pg_catalog.=) ANY ($1)",
	1, {INT8ARRAYOID}
};

static DtmStatement secret_row = {
	"SELECT value FROM dtm.secret WHERE role OPERATOR(pg_catalog.=) $1"
	" AND name OPERATOR(pg_catalog.=) $2",
	2, {OIDOID, TEXTOID}
};

static Datum read_workflows(DtmLoaded *loaded, int nloaded, Datum all);
static bool select_branches(Datum ids, int nids);
static void read_trans(DtmLoaded *loaded, HeapTuple row, TupleDesc desc);
static void read_branches(DtmLoaded *loaded, int nloaded);
static void read_branch(DtmBranch *branch, HeapTuple row, TupleDesc desc);
static void read_ops(DtmLoaded *loaded, int nloaded);
static DtmOp *op_of_row(DtmTrans *trans, int branch, int phase);
static void read_op(DtmOp *op, HeapTuple row, TupleDesc desc,
					DtmTime hurried_at);
static DtmLoaded *find_loaded(DtmLoaded *loaded, int nloaded, int64 id);
static int	take_ids(int64 *ids);

/* One column of the current row; *is_null may be ignored by the caller. */
static inline Datum
column(HeapTuple row, TupleDesc desc, int number, bool *is_null)
{
	return SPI_getbinval(row, desc, number, is_null);
}

static int64
interval_us(Datum value)
{
	Interval   *interval = DatumGetIntervalP(value);

	return interval->time + interval->day * USECS_PER_DAY +
		interval->month * (DAYS_PER_MONTH * USECS_PER_DAY);
}

static int64
column_us(HeapTuple row, TupleDesc desc, int number, int64 if_null)
{
	bool		is_null;
	Datum		value = column(row, desc, number, &is_null);

	return is_null ? if_null : interval_us(value);
}

static int64
column_time(HeapTuple row, TupleDesc desc, int number, int64 if_null)
{
	bool		is_null;
	Datum		value = column(row, desc, number, &is_null);

	return is_null ? if_null : DatumGetTimestampTz(value);
}

static int32
column_int4(HeapTuple row, TupleDesc desc, int number, int32 if_null)
{
	bool		is_null;
	Datum		value = column(row, desc, number, &is_null);

	return is_null ? if_null : DatumGetInt32(value);
}

static char *
column_text(HeapTuple row, TupleDesc desc, int number)
{
	bool		is_null;
	Datum		value = column(row, desc, number, &is_null);

	return is_null ? NULL : TextDatumGetCString(value);
}

/* Possibly large, so straight into the context where they are wanted. */
static char *
column_bytes(HeapTuple row, TupleDesc desc, int number, MemoryContext context,
			 size_t *size)
{
	bool		is_null;
	Datum		value = column(row, desc, number, &is_null);
	bytea	   *bytes;
	char	   *copy;

	*size = 0;
	if (is_null)
		return NULL;
	bytes = DatumGetByteaPP(value);
	*size = VARSIZE_ANY_EXHDR(bytes);
	copy = MemoryContextAllocHuge(context, Max(*size, 1));
	memcpy(copy, VARDATA_ANY(bytes), *size);
	if ((Pointer) bytes != DatumGetPointer(value))
		pfree(bytes);
	return copy;
}

/*
 * {"Name": "value", ...} as strings "Name: value", one after the other. Of a
 * secret there is its name: see secret.h.
 */
static char *
column_headers(HeapTuple row, TupleDesc desc, int number)
{
	bool		is_null;
	Datum		value = column(row, desc, number, &is_null);
	StringInfoData list;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	v;

	if (is_null)
		return NULL;
	initStringInfo(&list);
	iterator = JsonbIteratorInit(&DatumGetJsonbP(value)->root);
	while ((token = JsonbIteratorNext(&iterator, &v, true)) != WJB_DONE)
	{
		DtmSecretRef ref;

		if (token == WJB_KEY)
		{
			appendBinaryStringInfo(&list, v.val.string.val, v.val.string.len);
			appendStringInfoString(&list, ": ");
			continue;
		}
		if (token != WJB_VALUE)
			continue;
		if (v.type == jbvString)
			appendBinaryStringInfo(&list, v.val.string.val, v.val.string.len);
		else if (dtm_secret_ref(&v, &ref))
		{
			appendBinaryStringInfo(&list, ref.prefix, ref.prefix_len);
			appendStringInfoChar(&list, DTM_SECRET_FOLLOWS);
			appendBinaryStringInfo(&list, ref.name, ref.name_len);
		}
		appendStringInfoChar(&list, '\0');
	}
	/* StringInfo ends with a zero byte of its own: the empty string */
	return list.data;
}

int
dtm_store_load(const int64 *ids, int nids, MemoryContext parent,
			   DtmLoaded *loaded)
{
	Datum		array = dtm_int8_array(ids, nids);
	SPITupleTable *rows;
	int			nloaded;

	dtm_statement_run(&trans_rows, &array, NULL, SPI_OK_SELECT);
	rows = SPI_tuptable;
	nloaded = (int) SPI_processed;
	if (nloaded > nids)
		elog(ERROR, "%d transactions have %d ids", nloaded, nids);

	for (int i = 0; i < nloaded; i++)
	{
		MemoryContext context = AllocSetContextCreate(parent,
													  "dtm transaction",
													  ALLOCSET_SMALL_SIZES);
		MemoryContext before = MemoryContextSwitchTo(context);

		loaded[i].context = context;
		read_trans(&loaded[i], rows->vals[i], rows->tupdesc);
		MemoryContextSwitchTo(before);
	}
	SPI_freetuptable(rows);

	if (nloaded > 0)
	{
		array = read_workflows(loaded, nloaded, array);
		if (!select_branches(array, nids))
			return -1;
		read_branches(loaded, nloaded);
		dtm_statement_run(&op_rows, &array, NULL, SPI_OK_SELECT);
		read_ops(loaded, nloaded);
	}
	return nloaded;
}

/*
 * Of a workflow there may be many steps, and it is read again after each: but
 * these are its client's, and nothing follows from them here. Returns the ids
 * of those whose branches are to be read.
 */
static Datum
read_workflows(DtmLoaded *loaded, int nloaded, Datum all)
{
	int64	   *others = palloc(nloaded * sizeof(int64));
	int64	   *workflows = palloc(nloaded * sizeof(int64));
	int			nothers = 0;
	int			nworkflows = 0;
	Datum		array;
	bool		is_null;

	for (int i = 0; i < nloaded; i++)
	{
		if (loaded[i].trans->mode == DTM_WORKFLOW)
			workflows[nworkflows++] = loaded[i].trans->id;
		else
			others[nothers++] = loaded[i].trans->id;
	}
	if (nworkflows == 0)
		return all;

	array = dtm_int8_array(workflows, nworkflows);
	dtm_statement_run(&workflow_names, &array, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		DtmLoaded  *one = find_loaded(loaded, nloaded,
									  DatumGetInt64(column(row, desc, 1, &is_null)));
		MemoryContext before = MemoryContextSwitchTo(one->context);

		one->trans->workflow = column_text(row, desc, 2);
		MemoryContextSwitchTo(before);
	}
	SPI_freetuptable(SPI_tuptable);
	dtm_statement_run(&resume_rows, &array, NULL, SPI_OK_SELECT);
	read_ops(loaded, nloaded);
	return dtm_int8_array(others, nothers);
}

/*
 * Not more at once than memory is sure to hold. Of a single transaction with
 * very many branches, the payloads are read when they are sent.
 */
static bool
select_branches(Datum ids, int nids)
{
	Datum		values[2] = {ids, Int32GetDatum(DTM_INLINE_PAYLOAD)};

	dtm_statement_run_some(&branch_rows, values, NULL, SPI_OK_SELECT,
						   MAX_BRANCH_ROWS + 1);
	if (SPI_processed <= MAX_BRANCH_ROWS)
		return true;
	SPI_freetuptable(SPI_tuptable);
	if (nids > 1)
		return false;
	values[1] = Int32GetDatum(0);
	dtm_statement_run(&branch_rows, values, NULL, SPI_OK_SELECT);
	return true;
}

static void
read_trans(DtmLoaded *loaded, HeapTuple row, TupleDesc desc)
{
	DtmTrans   *trans = palloc0(sizeof(DtmTrans));
	bool		is_null;

	trans->id = DatumGetInt64(column(row, desc, 1, &is_null));
	trans->gid = column_text(row, desc, 2);
	trans->mode = (DtmMode) DatumGetChar(column(row, desc, 3, &is_null));
	trans->status = (DtmStatus) DatumGetChar(column(row, desc, 4, &is_null));
	trans->stored_status = trans->status;
	trans->owner = DatumGetObjectId(column(row, desc, 5, &is_null));
	trans->concurrent = DatumGetBool(column(row, desc, 6, &is_null));
	trans->deadline = column_time(row, desc, 7, DTM_NEVER);
	trans->retry_interval = column_us(row, desc, 8,
									  dtm_default_retry_interval * DTM_MS);
	trans->retry_limit = column_int4(row, desc, 9, 0);
	trans->request_timeout = column_us(row, desc, 10,
									   dtm_default_request_timeout * DTM_MS) / DTM_MS;
	trans->headers = column_headers(row, desc, 11);
	trans->reason = column_text(row, desc, 12);
	loaded->hurried_at = column_time(row, desc, 13, 0);
	loaded->created_at = column_time(row, desc, 14, 0);
	trans->due = column_time(row, desc, 15, DTM_NEVER);
	trans->driven = DatumGetBool(column(row, desc, 16, &is_null));
	trans->query_prepared = column_text(row, desc, 17);
	trans->not_before = column_time(row, desc, 18, 0);
	trans->traceparent = column_text(row, desc, 19);
	trans->on_success = DatumGetBool(column(row, desc, 20, &is_null));
	trans->on_failure = DatumGetBool(column(row, desc, 21, &is_null));
	trans->check.status = DTM_OP_PREPARED;
	trans->ending.status = DTM_OP_PREPARED;

	/* retry_now leaves no time to go, a client takes some. */
	loaded->client_is_back = trans->mode == DTM_WORKFLOW &&
		loaded->hurried_at > 0 && trans->deadline > loaded->hurried_at;
	loaded->trans = trans;
}

static void
read_branches(DtmLoaded *loaded, int nloaded)
{
	SPITupleTable *rows = SPI_tuptable;
	int			nrows = (int) SPI_processed;
	bool		is_null;

	for (int i = 0; i < nrows;)
	{
		int64		id = DatumGetInt64(column(rows->vals[i], rows->tupdesc, 1,
											  &is_null));
		DtmLoaded  *one = find_loaded(loaded, nloaded, id);
		int			n = 1;

		while (i + n < nrows &&
			   DatumGetInt64(column(rows->vals[i + n], rows->tupdesc, 1,
									&is_null)) == id)
			n++;

		/* A branch that was registered since the first statement: not yet. */
		if (one != NULL)
		{
			MemoryContext before = MemoryContextSwitchTo(one->context);
			DtmTrans   *trans = one->trans;

			trans->nbranches = n;
			trans->branches = MemoryContextAllocExtended(one->context,
														 n * sizeof(DtmBranch),
														 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
			for (int b = 0; b < n; b++)
			{
				if (DatumGetInt32(column(rows->vals[i + b], rows->tupdesc, 2,
										 &is_null)) != b)
					ereport(ERROR,
							(errcode(ERRCODE_DATA_CORRUPTED),
							 errmsg("global transaction \"%s\" lacks branch %d",
									trans->gid, b + 1)));
				read_branch(&trans->branches[b], rows->vals[i + b],
							rows->tupdesc);
			}
			MemoryContextSwitchTo(before);
		}
		i += n;
	}
	SPI_freetuptable(rows);
}

static void
read_branch(DtmBranch *branch, HeapTuple row, TupleDesc desc)
{
	bool		is_null;
	Datum		value;

	branch->branch_id = column_text(row, desc, 3);
	branch->address[DTM_FORWARD] = column_text(row, desc, 4);
	branch->address[DTM_BACKWARD] = column_text(row, desc, 5);

	value = column(row, desc, 6, &is_null);
	if (!is_null)
	{
		ArrayType  *array = DatumGetArrayTypeP(value);

		branch->npredecessors = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
		branch->predecessors = palloc(Max(branch->npredecessors, 1) * sizeof(int32));
		memcpy(branch->predecessors, ARR_DATA_PTR(array),
			   branch->npredecessors * sizeof(int32));
	}
	branch->request_timeout = column_us(row, desc, 7, 0) / DTM_MS;
	branch->retry_limit = column_int4(row, desc, 8, 0);
	branch->headers = column_headers(row, desc, 9);
	branch->payload_size = (size_t) column_int4(row, desc, 10, 0);

	value = column(row, desc, 11, &is_null);
	if (!is_null)
	{
		bytea	   *bytes = DatumGetByteaPP(value);

		branch->payload = palloc(Max(branch->payload_size, 1));
		memcpy(branch->payload, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	}
	branch->address[DTM_TRY] = column_text(row, desc, 12);
	branch->keep_result = DatumGetBool(column(row, desc, 13, &is_null));
	branch->uses_results = DatumGetBool(column(row, desc, 14, &is_null));
	for (int phase = 0; phase < DTM_PHASES; phase++)
		branch->op[phase].status = DTM_OP_PREPARED;
}

static void
read_ops(DtmLoaded *loaded, int nloaded)
{
	SPITupleTable *rows = SPI_tuptable;
	int			nrows = (int) SPI_processed;

	for (int i = 0; i < nrows; i++)
	{
		HeapTuple	row = rows->vals[i];
		TupleDesc	desc = rows->tupdesc;
		bool		is_null;
		DtmLoaded  *one = find_loaded(loaded, nloaded,
									  DatumGetInt64(column(row, desc, 1, &is_null)));
		DtmOp	   *op = one == NULL ? NULL
			: op_of_row(one->trans, DatumGetInt32(column(row, desc, 2, &is_null)),
						DatumGetInt16(column(row, desc, 3, &is_null)));

		if (op != NULL)
		{
			MemoryContext before = MemoryContextSwitchTo(one->context);

			read_op(op, row, desc, one->hurried_at);
			if (op == &one->trans->check && one->client_is_back &&
				op->last_attempt < one->hurried_at)
				dtm_forget_failures(op);
			MemoryContextSwitchTo(before);
		}
	}
	SPI_freetuptable(rows);
}

/* NULL: a branch that we do not know (yet). */
static DtmOp *
op_of_row(DtmTrans *trans, int branch, int phase)
{
	if (branch < DTM_ENDING || branch >= trans->nbranches ||
		phase < 0 || phase >= DTM_PHASES)
		return NULL;
	return dtm_op_of(trans, branch, phase);
}

static void
read_op(DtmOp *op, HeapTuple row, TupleDesc desc, DtmTime hurried_at)
{
	bool		is_null;

	op->status = (DtmOpStatus) DatumGetChar(column(row, desc, 4, &is_null));
	op->stuck = DatumGetBool(column(row, desc, 5, &is_null));
	op->attempts = column_int4(row, desc, 6, 0);
	op->failed_attempts = column_int4(row, desc, 7, 0);
	op->streak = column_int4(row, desc, 8, 0);
	op->due = column_time(row, desc, 9, 0);
	op->last_attempt = column_time(row, desc, 10, 0);
	op->last_error = column_text(row, desc, 11);
	op->in_doubt = op->attempts > 0;

	/* Somebody said "now" after this wait had begun. */
	if (op->last_attempt < hurried_at)
		op->due = 0;
}

/* loaded is in order of id */
static DtmLoaded *
find_loaded(DtmLoaded *loaded, int nloaded, int64 id)
{
	int			low = 0;
	int			high = nloaded - 1;

	while (low <= high)
	{
		int			middle = low + (high - low) / 2;
		int64		here = loaded[middle].trans->id;

		if (here == id)
			return &loaded[middle];
		if (here < id)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return NULL;
}

int
dtm_store_due(DtmDueCursor *cursor, DtmTime until, int shard, int nshards,
			  int64 *ids, int max)
{
	Datum		values[6] = {
		TimestampTzGetDatum(cursor->due), Int64GetDatum(cursor->id),
		TimestampTzGetDatum(until), Int64GetDatum(shard),
		Int64GetDatum(nshards), Int64GetDatum(max)
	};
	int			n;

	dtm_statement_run(&due_ids, values, NULL, SPI_OK_SELECT);
	n = (int) SPI_processed;
	if (n > 0)
	{
		HeapTuple	last = SPI_tuptable->vals[n - 1];
		bool		is_null;

		cursor->id = DatumGetInt64(column(last, SPI_tuptable->tupdesc, 1,
										  &is_null));
		cursor->due = column_time(last, SPI_tuptable->tupdesc, 2, DTM_NEVER);
	}
	return take_ids(ids);
}

int
dtm_store_range(int64 *from, int64 to, DtmTime until, int shard, int nshards,
				int64 *ids, int max)
{
	Datum		values[6] = {
		Int64GetDatum(*from), Int64GetDatum(to), Int64GetDatum(shard),
		Int64GetDatum(nshards), Int64GetDatum(max), TimestampTzGetDatum(until)
	};
	int			n;

	dtm_statement_run(&range_ids, values, NULL, SPI_OK_SELECT);
	n = take_ids(ids);
	if (n > 0)
		*from = ids[n - 1] + 1;
	return n;
}

static int
take_ids(int64 *ids)
{
	int			n = (int) SPI_processed;
	bool		is_null;

	for (int i = 0; i < n; i++)
		ids[i] = DatumGetInt64(column(SPI_tuptable->vals[i],
									  SPI_tuptable->tupdesc, 1, &is_null));
	SPI_freetuptable(SPI_tuptable);
	return n;
}

int64
dtm_store_last_id(void)
{
	int64		id;
	bool		is_null;

	dtm_statement_run(&last_id, NULL, NULL, SPI_OK_SELECT);
	id = DatumGetInt64(column(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
							  &is_null));
	SPI_freetuptable(SPI_tuptable);
	return id;
}

char *
dtm_store_payload(int64 id, int branch, MemoryContext context, size_t *size)
{
	Datum		values[2] = {Int64GetDatum(id), Int32GetDatum(branch)};
	char	   *payload = NULL;

	*size = 0;
	dtm_statement_run(&payload_row, values, NULL, SPI_OK_SELECT);
	if (SPI_processed == 1)
		payload = column_bytes(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
							   context, size);
	SPI_freetuptable(SPI_tuptable);
	return payload;
}

bool
dtm_store_is_silent(int64 id, DtmTime now, MemoryContext context,
					char **data, size_t *size)
{
	Datum		values[2] = {Int64GetDatum(id), TimestampTzGetDatum(now)};
	bool		found;

	*data = NULL;
	*size = 0;
	dtm_statement_run(&silent_row, values, NULL, SPI_OK_SELECT);
	found = SPI_processed == 1;
	if (found)
		*data = column_bytes(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
							 context, size);
	SPI_freetuptable(SPI_tuptable);
	return found;
}

int
dtm_store_results(int64 id, int branch, MemoryContext context,
				  DtmResult **results)
{
	Datum		values[2] = {Int64GetDatum(id), Int32GetDatum(branch)};
	int			n;

	dtm_statement_run(&result_rows, values, NULL, SPI_OK_SELECT);
	n = dtm_results_of_rows(context, results);
	SPI_freetuptable(SPI_tuptable);
	return n;
}

char *
dtm_store_secret(Oid role, const char *name, MemoryContext context)
{
	Datum		values[2] = {ObjectIdGetDatum(role), CStringGetTextDatum(name)};
	char	   *secret = NULL;

	dtm_statement_run(&secret_row, values, NULL, SPI_OK_SELECT);
	if (SPI_processed == 1)
	{
		MemoryContext before = MemoryContextSwitchTo(context);

		secret = column_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		MemoryContextSwitchTo(before);
	}
	SPI_freetuptable(SPI_tuptable);
	return secret;
}
