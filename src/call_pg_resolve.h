/*
 * call_pg_resolve.h: from host names to addresses, without ever waiting.
 *
 * libpq looks names up itself, and blocks while it does. So it is given
 * addresses. Plain C and malloc.
 */
#ifndef DTM_CALL_PG_RESOLVE_H
#define DTM_CALL_PG_RESOLVE_H

#include <netinet/in.h>
#include <stdbool.h>

/* More addresses of one name are not tried. */
#define DTM_MAX_ADDRESSES 8

typedef enum DtmNameState
{
	DTM_NAME_PENDING,			/* ask again when dtm_resolver_drive says so */
	DTM_NAME_KNOWN,
	DTM_NAME_FAILED
} DtmNameState;

typedef struct DtmAddresses
{
	int			count;
	char		address[DTM_MAX_ADDRESSES][INET6_ADDRSTRLEN];
	char		error[256];		/* FAILED: why */
} DtmAddresses;

/* false: no descriptors */
extern bool dtm_resolver_init(void);

/* Readable when an answer has come. */
extern int	dtm_resolver_fd(void);

/* Take answers; true: there were some. */
extern bool dtm_resolver_drive(void);

/*
 * The addresses of a name, or of a numeric address itself, valid until the next
 * call. They are as new as a few seconds; while newer ones are being looked up,
 * as a few minutes. Who is told PENDING waits until the deadline, on the
 * monotonic clock in seconds, and not longer.
 */
extern DtmNameState dtm_resolve(const char *name, unsigned int role,
								long deadline, const DtmAddresses **found);

/* The same without a lookup: KNOWN if it is a numeric address, or FAILED. */
extern DtmNameState dtm_resolve_numeric(const char *address,
										const DtmAddresses **found);

/* May a connection be made to this address? Those that are no addresses: yes. */
extern bool dtm_numeric_allowed(const char *address);

#endif
