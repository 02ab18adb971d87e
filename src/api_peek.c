/*
 * api_peek.c: what is the status of a gid right now?
 *
 * Whoever waits for an outcome asks this again and again, so it goes straight
 * to the index: a tenth of what a statement costs. It sees the latest committed
 * state in any isolation level, and what the own transaction has done so far.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "api_common.h"

/* Columns of dtm.trans, as dtm--1.0.sql has them. */
#define COLUMN_ID			1
#define COLUMN_GID			2
#define COLUMN_MODE			3
#define COLUMN_STATUS		4
#define COLUMN_OWNER		5
#define COLUMN_CONCURRENT	6
#define COLUMN_FORCED		7
#define COLUMN_DRIVEN		8

static void read_row(Relation trans, HeapTuple row, DtmFound *found);

bool
dtm_api_peek(const text *gid, DtmFound *found)
{
	Oid			schema = get_namespace_oid("dtm", false);
	Oid			index = get_relname_relid("trans_gid_key", schema);
	Relation	trans = table_open(get_relname_relid("trans", schema),
								   AccessShareLock);
	Snapshot	now = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	row;

	ScanKeyInit(&key, COLUMN_GID, BTEqualStrategyNumber, F_TEXTEQ,
				PointerGetDatum(gid));
	scan = systable_beginscan(trans, index, true, now, 1, &key);
	row = systable_getnext(scan);
	if (HeapTupleIsValid(row))
		read_row(trans, row, found);
	systable_endscan(scan);
	UnregisterSnapshot(now);
	table_close(trans, AccessShareLock);
	return HeapTupleIsValid(row);
}

static void
read_row(Relation trans, HeapTuple row, DtmFound *found)
{
	TupleDesc	desc = RelationGetDescr(trans);
	AttrNumber	reason = get_attnum(RelationGetRelid(trans), "reason");
	bool		isnull;
	Datum		value;

	found->id = DatumGetInt64(heap_getattr(row, COLUMN_ID, desc, &isnull));
	found->mode = (DtmMode) DatumGetChar(heap_getattr(row, COLUMN_MODE, desc,
													  &isnull));
	found->status = (DtmStatus) DatumGetChar(heap_getattr(row, COLUMN_STATUS,
														  desc, &isnull));
	found->owner = DatumGetObjectId(heap_getattr(row, COLUMN_OWNER, desc,
												 &isnull));
	found->concurrent = DatumGetBool(heap_getattr(row, COLUMN_CONCURRENT, desc,
												  &isnull));
	found->forced = DatumGetBool(heap_getattr(row, COLUMN_FORCED, desc,
											  &isnull));
	found->driven = DatumGetBool(heap_getattr(row, COLUMN_DRIVEN, desc,
											  &isnull));
	found->can_be_asked = false;	/* nobody who waits wants to know */
	found->ending_pending = false;
	found->ending_stuck = false;
	value = heap_getattr(row, reason, desc, &isnull);
	found->reason = isnull ? NULL : TextDatumGetCString(value);
	found->digest = NULL;
	found->created_at = 0;
}
