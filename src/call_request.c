/*
 * call_request.c: what a call says: URL, headers, payload.
 *
 * Made when the call leaves, not when it is queued: what is large, or secret,
 * is read from the tables then, in a short transaction, and kept no longer than
 * the call.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "call.h"
#include "call_request.h"
#include "decide.h"
#include "encoding.h"
#include "json_value.h"
#include "placeholder.h"
#include "secret.h"
#include "store.h"

static bool make(DtmCall *call, void (*build) (DtmCall *call),
				 char error[DTM_MAX_ERROR]);
static bool needs_tables(const DtmCall *call);
static bool names_secret(const char *headers);
static void build_request(DtmCall *call);
static void build_statement(DtmCall *call);
static char *own_copy(const DtmCall *call, const char *text);
static char *build_url(const DtmCall *call);
static void build_headers(DtmCall *call);
static bool names_header(const char *headers, const char *name);
static const char **append_headers(const char **next, const char *headers,
								   const DtmCall *call);
static const char *complete_header(const char *header, const DtmCall *call);
static int	count_headers(const char *headers);
static bool read_payload(DtmCall *call, char error[DTM_MAX_ERROR]);
static bool fill_payload(DtmCall *call, char error[DTM_MAX_ERROR]);

bool
dtm_call_make_request(DtmCall *call, char error[DTM_MAX_ERROR])
{
	return make(call, build_request, error);
}

bool
dtm_call_make_statement(DtmCall *call, char error[DTM_MAX_ERROR])
{
	const char *written = dtm_address_of(call->trans, call->branch,
										 call->phase);
	DtmAddress	address;
	const char *reason;
	char	   *server;

	if (!dtm_address_parse(written, &address, &reason) ||
		address.transport != DTM_CALL_REMOTE)
	{
		snprintf(error, DTM_MAX_ERROR, "not an address that can be called");
		return false;
	}
	server = MemoryContextAlloc(call->context, address.server_len + 1);
	memcpy(server, address.server, address.server_len);
	server[address.server_len] = '\0';
	call->statement.server = dtm_pg_use_server(call->trans->owner, server, error);
	if (call->statement.server == NULL)
		return false;
	call->statement.function = own_copy(call, address.function);
	if (make(call, build_statement, error))
		return true;
	dtm_pg_release_server(call->statement.server);
	call->statement.server = NULL;
	return false;
}

static bool
make(DtmCall *call, void (*build) (DtmCall *call), char error[DTM_MAX_ERROR])
{
	MemoryContext before = MemoryContextSwitchTo(call->context);
	volatile bool made = false;

	PG_TRY();
	{
		bool		reads = needs_tables(call);

		if (reads)
			dtm_store_begin();
		MemoryContextSwitchTo(call->context);
		if (read_payload(call, error))
		{
			build(call);
			made = true;
		}
		if (reads)
			dtm_store_commit(false);
	}
	PG_CATCH();
	{
		ErrorData  *data;

		MemoryContextSwitchTo(call->context);
		data = CopyErrorData();
		FlushErrorState();
		dtm_store_abort();
		snprintf(error, DTM_MAX_ERROR, "the request could not be made: %s",
				 data->message);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(before);
	return made;
}

/* What is large, or secret, is not kept in memory but read for the call. */
static bool
needs_tables(const DtmCall *call)
{
	const DtmBranch *branch;

	if (dtm_call_is_resume(call) || names_secret(call->trans->headers))
		return true;
	if (call->branch < 0)
		return false;
	branch = &call->trans->branches[call->branch];
	return branch->uses_results ||
		(branch->payload == NULL && branch->payload_size > 0) ||
		names_secret(branch->headers);
}

static bool
names_secret(const char *headers)
{
	for (; headers != NULL && *headers != '\0'; headers += strlen(headers) + 1)
	{
		if (strchr(headers, DTM_SECRET_FOLLOWS) != NULL)
			return true;
	}
	return false;
}

static void
build_request(DtmCall *call)
{
	DtmHttpRequest *request = &call->request;

	request->url = build_url(call);
	build_headers(call);
	request->post = request->body_size > 0 || call->trans->mode == DTM_XA;
	request->timeout = call->timeout;
	request->tag = call;
}

/* The transaction may leave memory before the call ends. */
static void
build_statement(DtmCall *call)
{
	const DtmTrans *trans = call->trans;
	const DtmBranch *branch = &trans->branches[call->branch];
	DtmPgRequest *statement = &call->statement;

	statement->trans_type = dtm_mode_name(trans->mode);
	statement->gid = own_copy(call, trans->gid);
	statement->branch_id = own_copy(call, branch->branch_id);
	statement->op = dtm_op_name(trans->mode, call->phase);
	if (call->request.body_size > 0)
		statement->payload = pnstrdup(call->request.body,
									  call->request.body_size);
	if (trans->traceparent != NULL)
		statement->traceparent = own_copy(call, trans->traceparent);
	statement->keep_result = branch->keep_result;
	statement->timeout = call->timeout;
	statement->tag = call;
}

static char *
own_copy(const DtmCall *call, const char *text)
{
	return MemoryContextStrdup(call->context, dtm_to_utf8(text));
}

static void
append_encoded(StringInfo url, const char *text)
{
	for (; *text != '\0'; text++)
	{
		unsigned char c = (unsigned char) *text;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			(c >= '0' && c <= '9') || strchr("-_.~", c) != NULL)
			appendStringInfoChar(url, (char) c);
		else
			appendStringInfo(url, "%%%02X", c);
	}
}

static char *
build_url(const DtmCall *call)
{
	const DtmTrans *trans = call->trans;
	const char *address = dtm_to_utf8(dtm_address_of(trans, call->branch,
													 call->phase));
	const char *query = strchr(address, '?');
	StringInfoData url;

	initStringInfo(&url);
	appendStringInfoString(&url, address);
	if (query == NULL)
		appendStringInfoChar(&url, '?');
	else if (query[1] != '\0' && address[strlen(address) - 1] != '&')
		appendStringInfoChar(&url, '&');
	appendStringInfoString(&url, "gid=");
	append_encoded(&url, dtm_to_utf8(trans->gid));
	appendStringInfo(&url, "&trans_type=%s&branch_id=%s&op=",
					 dtm_mode_name(trans->mode),
					 dtm_branch_id_of(trans, call->branch));
	append_encoded(&url, dtm_to_utf8(dtm_op_name_of(trans, call->branch,
													call->phase)));
	return url.data;
}

static void
build_headers(DtmCall *call)
{
	const DtmTrans *trans = call->trans;
	const char *own = call->branch < 0 ? NULL
		: trans->branches[call->branch].headers;
	const char **headers;
	const char **next;

	headers = palloc(sizeof(char *) * (count_headers(trans->headers) +
									   count_headers(own) + 2));
	next = headers;
	if (!names_header(trans->headers, "content-type") &&
		!names_header(own, "content-type"))
		*next++ = "Content-Type: application/json";
	if (trans->traceparent != NULL &&
		!names_header(trans->headers, "traceparent") &&
		!names_header(own, "traceparent"))
		*next++ = psprintf("traceparent: %s", trans->traceparent);
	next = append_headers(next, trans->headers, call);
	next = append_headers(next, own, call);
	call->request.headers = headers;
	call->request.nheaders = (int) (next - headers);
}

static bool
names_header(const char *headers, const char *name)
{
	size_t		len = strlen(name);

	for (; headers != NULL && *headers != '\0'; headers += strlen(headers) + 1)
	{
		if (pg_strncasecmp(headers, name, len) == 0 && headers[len] == ':')
			return true;
	}
	return false;
}

static const char **
append_headers(const char **next, const char *headers, const DtmCall *call)
{
	for (; headers != NULL && *headers != '\0'; headers += strlen(headers) + 1)
	{
		const char *complete = dtm_to_utf8(complete_header(headers, call));
		char	   *header = MemoryContextStrdup(call->context, complete);
		char	   *colon = strchr(header, ':');

		/* To curl "Name:" means to leave it out; this is an empty one. */
		if (colon != NULL && colon[1 + strspn(colon + 1, " \t")] == '\0')
			strcpy(colon, ";");
		*next++ = header;
	}
	return next;
}

/* With the secret's value where only its name was. */
static const char *
complete_header(const char *header, const DtmCall *call)
{
	const char *name = strchr(header, DTM_SECRET_FOLLOWS);
	Oid			owner = call->trans->owner;
	char	   *secret;

	if (name == NULL)
		return header;
	secret = dtm_store_secret(owner, name + 1, call->context);
	if (secret == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" has no secret \"%s\" any more",
						GetUserNameFromId(owner, true), name + 1),
				 errhint("As that role: SELECT dtm.set_secret(%s, ...);",
						 quote_literal_cstr(name + 1))));
	return psprintf("%.*s%s", (int) (name - header), header, secret);
}

static int
count_headers(const char *headers)
{
	int			n = 0;

	for (; headers != NULL && *headers != '\0'; headers += strlen(headers) + 1)
		n++;
	return n;
}

/* A copy: the transaction may leave memory before the call ends. */
static bool
read_payload(DtmCall *call, char error[DTM_MAX_ERROR])
{
	const DtmBranch *branch;
	DtmHttpRequest *request = &call->request;

	if (dtm_call_is_resume(call))
	{
		char	   *data;

		/*
		 * It was planned when its client was silent; it may have waited for
		 * its turn since, and the client be back.
		 */
		call->overtaken = !dtm_store_is_silent(call->trans->id,
											   GetCurrentTimestamp(),
											   call->context, &data,
											   &request->body_size);
		request->body = data;
		return !call->overtaken;
	}
	if (call->branch < 0)
		return true;
	branch = &call->trans->branches[call->branch];
	if (branch->payload_size == 0)
		return true;
	if (branch->payload != NULL)
	{
		char	   *copy = MemoryContextAlloc(call->context, branch->payload_size);

		memcpy(copy, branch->payload, branch->payload_size);
		request->body = copy;
		request->body_size = branch->payload_size;
	}
	else
	{
		request->body = dtm_store_payload(call->trans->id, call->branch,
										  call->context, &request->body_size);
		if (request->body == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("the payload is missing from dtm.branch")));
	}
	return !branch->uses_results || fill_payload(call, error);
}

/*
 * Parts of earlier branches' results take the places of placeholders. Their
 * marks are committed: carry.c sees to that before this call is started. Without
 * them an action is not called; what undoes it gets null in their place.
 */
static bool
fill_payload(DtmCall *call, char error[DTM_MAX_ERROR])
{
	DtmHttpRequest *request = &call->request;
	MemoryContext work = AllocSetContextCreate(call->context, "dtm filling",
											   ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(work);
	DtmResult  *results;
	int			nresults = dtm_store_results(call->trans->id, call->branch,
											 work, &results);
	const char *missing;
	Jsonb	   *filled;

	filled = dtm_fill_placeholders(dtm_branch_id_of(call->trans, call->branch),
								   request->body, request->body_size,
								   results, nresults,
								   call->phase == DTM_BACKWARD, &missing);
	if (filled == NULL)
	{
		snprintf(error, DTM_MAX_ERROR, "%s", missing);
		call->unmade = true;
	}
	else
	{
		const char *json = dtm_write_json(filled, &request->body_size);
		char	   *copy = MemoryContextAlloc(call->context, request->body_size);

		memcpy(copy, json, request->body_size);
		request->body = copy;
	}
	MemoryContextSwitchTo(before);
	MemoryContextDelete(work);
	return filled != NULL;
}
