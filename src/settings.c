/*
 * settings.c: every setting of dtm, with its unit, range and meaning.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "address.h"
#include "debug_point.h"
#include "settings.h"

int			dtm_workers_per_database = 1;
int			dtm_max_databases = 8;
int			dtm_max_executors = 4;
int			dtm_ring_size = 16384;

bool		dtm_enabled = true;
int			dtm_worker_memory = 128 * 1024;
int			dtm_max_in_flight = 256;
int			dtm_max_in_flight_per_host = 64;
int			dtm_remote_connections = 8;
int			dtm_circuit_failures = 5;
int			dtm_connect_timeout = 1000;
int			dtm_max_response_size = 64;
int			dtm_max_result_size = 16;
char	   *dtm_ca_file = "";
int			dtm_alert_after = 3;
int			dtm_alert_rate = 60;
char	   *dtm_alert_url = "";
char	   *dtm_traceparent = "";
int			dtm_executors_per_role = 2;
int			dtm_executor_idle_timeout = 60 * 1000;
int			dtm_max_retry_interval = 600 * 1000;
int			dtm_default_retry_interval = 10 * 1000;
int			dtm_default_request_timeout = 3 * 1000;
int			dtm_stuck_after = 10;
int			dtm_safety_interval = 5 * 1000;
int			dtm_retention = 7 * 86400;
int			dtm_barrier_retention = 7 * 86400;
int			dtm_retention_interval = 10 * 1000;
int			dtm_launcher_interval = 60 * 1000;

typedef struct IntSetting
{
	const char *name;
	const char *description;
	int		   *variable;
	int			minimum;
	int			maximum;
	GucContext	context;
	int			unit;
} IntSetting;

static const IntSetting int_settings[] = {
	{"dtm.workers_per_database",
		"Number of workers (shards) for each database that has the extension.",
	&dtm_workers_per_database, 1, 64, PGC_POSTMASTER, 0},
	{"dtm.max_databases",
		"Number of databases of this server that can run workers at the same time.",
	&dtm_max_databases, 1, 1024, PGC_POSTMASTER, 0},
	{"dtm.max_executors",
		"Number of processes that can run local SQL branches at the same time, in all databases.",
	&dtm_max_executors, 1, 1024, PGC_POSTMASTER, 0},
	{"dtm.ring_size",
		"Number of committed transactions that each worker can be told of before it has to look for them in the table.",
	&dtm_ring_size, 16, 16 * 1024 * 1024, PGC_POSTMASTER, 0},
	{"dtm.worker_memory",
		"Memory for unfinished transactions in each worker; the others wait in the table.",
	&dtm_worker_memory, 1024, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB},
	{"dtm.max_in_flight",
		"Number of calls that each worker has under way at the same time.",
	&dtm_max_in_flight, 1, 100000, PGC_SIGHUP, 0},
	{"dtm.max_in_flight_per_host",
		"Number of calls that each worker has under way to one host and port at the same time.",
	&dtm_max_in_flight_per_host, 1, 100000, PGC_SIGHUP, 0},
	{"dtm.remote_connections",
		"Number of connections that each worker has to one foreign server for one role.",
	&dtm_remote_connections, 1, 10000, PGC_SIGHUP, 0},
	{"dtm.circuit_failures",
		"Number of calls in a row without any answer after which a host is probed by one call at a time.",
	&dtm_circuit_failures, 1, INT_MAX, PGC_SIGHUP, 0},
	{"dtm.connect_timeout",
		"Time that a connection to a branch service may take to be made.",
	&dtm_connect_timeout, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS},
	{"dtm.max_response_size",
		"Largest response body of a branch service; a larger one is an error of the call.",
	&dtm_max_response_size, 1, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB},
	{"dtm.max_result_size",
		"Largest result that is kept of a branch with keep_result; of a larger one only the success is noted.",
	&dtm_max_result_size, 1, DTM_MAX_RESULT_SIZE, PGC_SIGHUP, GUC_UNIT_KB},
	{"dtm.executors_per_role",
		"Number of processes that run local SQL branches of one role in one database.",
	&dtm_executors_per_role, 1, 1024, PGC_SIGHUP, 0},
	{"dtm.executor_idle_timeout",
		"Time after which an idle process for local SQL branches ends.",
	&dtm_executor_idle_timeout, 100, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS},
	{"dtm.max_retry_interval",
		"Longest delay between two attempts of one call.",
	&dtm_max_retry_interval, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS},
	{"dtm.retry_interval",
		"Delay before the first retry of a call, and after every ONGOING, of transactions that do not set their own.",
	&dtm_default_retry_interval, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS},
	{"dtm.request_timeout",
		"Time that one call to a branch may take, for transactions that do not set their own.",
	&dtm_default_request_timeout, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS},
	{"dtm.stuck_after",
		"Failed attempts after which a call that must succeed, and has no limit of its own, is flagged as stuck.",
	&dtm_stuck_after, 1, INT_MAX, PGC_SIGHUP, 0},
	{"dtm.alert_after",
		"Failed attempts of a call in a row after which there is an alert; 0 for none.",
	&dtm_alert_after, 0, INT_MAX, PGC_SIGHUP, 0},
	{"dtm.alert_rate",
		"Alerts per minute that each worker gives at most, by each way; the rest is counted.",
	&dtm_alert_rate, 1, 60000, PGC_SIGHUP, 0},
	{"dtm.safety_interval",
		"Time between the reads that find transactions whose wake-up was missed.",
	&dtm_safety_interval, 100, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS},
	{"dtm.retention",
		"Age at which finished transactions, and records of interference, are deleted.",
	&dtm_retention, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_S},
	{"dtm.barrier_retention",
		"Age at which barrier rows are deleted.",
	&dtm_barrier_retention, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_S},
	{"dtm.retention_interval",
		"Time between two passes over old rows.",
	&dtm_retention_interval, 100, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS},
	{"dtm.launcher_interval",
		"Time between two looks at the list of databases.",
	&dtm_launcher_interval, 100, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS},
};

static bool check_alert_url(char **value, void **extra, GucSource source);
static bool check_traceparent(char **value, void **extra, GucSource source);

void
dtm_define_settings(void)
{
	for (int i = 0; i < lengthof(int_settings); i++)
	{
		const IntSetting *s = &int_settings[i];

		/* A library loaded by one session is too late for these. */
		if (s->context == PGC_POSTMASTER &&
			!process_shared_preload_libraries_in_progress)
			continue;
		DefineCustomIntVariable(s->name, s->description, NULL, s->variable,
								*s->variable, s->minimum, s->maximum,
								s->context, s->unit, NULL, NULL, NULL);
	}

	DefineCustomBoolVariable("dtm.enabled",
							 "Whether branches are called at all; begun transactions are stored either way.",
							 NULL, &dtm_enabled, true, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomStringVariable("dtm.ca_file",
							   "File with the certificates that https services are verified against; empty for the system's.",
							   NULL, &dtm_ca_file, "", PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("dtm.alert_url",
							   "Where alerts are posted as JSON; empty for nowhere.",
							   NULL, &dtm_alert_url, "", PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY, check_alert_url, NULL, NULL);
	DefineCustomStringVariable("dtm.traceparent",
							   "W3C trace context of the global transactions that this session begins; sent with every call.",
							   NULL, &dtm_traceparent, "", PGC_USERSET, 0,
							   check_traceparent, NULL, NULL);
#ifdef DTM_DEBUG
	dtm_define_debug_settings();
#endif
	MarkGUCPrefixReserved("dtm");
}

static bool
check_alert_url(char **value, void **extra, GucSource source)
{
	DtmAddress	address;
	const char *reason = "";

	if (**value == '\0')
		return true;
	if (dtm_address_parse(*value, &address, &reason) &&
		address.transport == DTM_CALL_HTTP)
		return true;
	GUC_check_errdetail("It must be empty, or http://... or https://...");
	return false;
}

/*
 * "00-<32 hex digits>-<16 hex digits>-<2 hex digits>", in small letters, neither
 * id all zeros (W3C Trace Context, section 3.2.2).
 */
static bool
check_traceparent(char **value, void **extra, GucSource source)
{
	static const char form[] = "00-tttttttttttttttttttttttttttttttt-pppppppppppppppp-ff";
	const char *text = *value;
	bool		trace_id = false;
	bool		parent_id = false;

	if (*text == '\0')
		return true;
	for (const char *f = form; *f != '\0'; f++, text++)
	{
		bool		hex = (*text >= '0' && *text <= '9') ||
			(*text >= 'a' && *text <= 'f');

		if (*f == '0' || *f == '-' ? *text != *f : !hex)
			break;
		trace_id |= (*f == 't' && *text != '0');
		parent_id |= (*f == 'p' && *text != '0');
	}
	if (text - *value == sizeof(form) - 1 && *text == '\0' && trace_id && parent_id)
		return true;
	GUC_check_errdetail("It must be empty, or read 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, in small letters, as W3C Trace Context has it.");
	return false;
}

typedef struct Pin
{
	const char *name;
	const char *value;
} Pin;

static void
pin(const Pin *pins, int npins, GucContext context)
{
	for (int i = 0; i < npins; i++)
	{
		/* some exist in later versions only */
		if (GetConfigOption(pins[i].name, true, false) != NULL)
			SetConfigOption(pins[i].name, pins[i].value, context, PGC_S_OVERRIDE);
	}
}

void
dtm_pin_settings(void)
{
	static const Pin pins[] = {
		{"default_transaction_read_only", "off"},
		{"statement_timeout", "0"},
		{"transaction_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"idle_session_timeout", "0"},
	};

	pin(pins, lengthof(pins), PGC_USERSET);
}

void
dtm_pin_worker_settings(void)
{
	static const Pin pins[] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_deferrable", "off"},
		{"lock_timeout", "0"},
		{"synchronous_commit", "on"},
		{"session_replication_role", "origin"},
		{"client_min_messages", "warning"},
		{"jit", "off"},
		/* Plans are made once, while the tables are still small, and kept. */
		{"enable_seqscan", "off"},
	};

	dtm_pin_settings();
	pin(pins, lengthof(pins), PGC_SUSET);
}
