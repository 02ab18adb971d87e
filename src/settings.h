/*
 * settings.h: every GUC of dtm. settings.c is their table and documentation.
 */
#ifndef DTM_SETTINGS_H
#define DTM_SETTINGS_H

#include "postgres.h"

/* postmaster start */
extern int	dtm_workers_per_database;
extern int	dtm_max_databases;
extern int	dtm_max_executors;
extern int	dtm_ring_size;

/* reloadable */
extern bool dtm_enabled;
extern int	dtm_worker_memory;			/* kB */
extern int	dtm_max_in_flight;			/* calls, per worker */
extern int	dtm_max_in_flight_per_host;
extern int	dtm_remote_connections; /* per role and foreign server */
extern int	dtm_circuit_failures;
extern int	dtm_connect_timeout;		/* ms */
extern int	dtm_max_response_size;		/* kB */
extern int	dtm_max_result_size;		/* kB, of one that is kept */

/* With its size: what people are told of a result that is not kept. */
#define DTM_RESULT_TOO_LARGE \
	"the result, %zu bytes, was not kept: it is larger than dtm.max_result_size"
#define DTM_RESULT_NO_JSON	"the result was not kept, as it has no JSON: %s"

#define DTM_MAX_RESULT_SIZE	1024		/* kB: the largest dtm.max_result_size */

extern char *dtm_ca_file;
extern int	dtm_alert_after;			/* failed attempts in a row; 0: never */
extern int	dtm_alert_rate;				/* alerts a minute, by each way */
extern char *dtm_alert_url;
extern int	dtm_executors_per_role;
extern int	dtm_executor_idle_timeout;	/* ms */
extern int	dtm_max_retry_interval;		/* ms */
extern int	dtm_default_retry_interval; /* ms: dtm.retry_interval */
extern int	dtm_default_request_timeout;	/* ms: dtm.request_timeout */
extern int	dtm_stuck_after;			/* failed attempts; of ops without a limit */
extern int	dtm_safety_interval;		/* ms between reads for missed wake-ups */
extern int	dtm_retention;				/* s */
extern int	dtm_barrier_retention;		/* s */
extern int	dtm_retention_interval;		/* ms */
extern int	dtm_launcher_interval;		/* ms between looks at pg_database */

/* of a session */
extern char *dtm_traceparent;

extern void dtm_define_settings(void);

/*
 * Pin what must not be left to ALTER DATABASE / ROLE SET: that we may write, and
 * that no timeout but ours ends us. An executor keeps the rest as its role has
 * it (search_path!); the worker pins everything it relies on.
 */
extern void dtm_pin_settings(void);
extern void dtm_pin_worker_settings(void);

#endif
