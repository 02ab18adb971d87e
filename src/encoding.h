/*
 * encoding.h: between this database's encoding and UTF-8, which services speak.
 *
 * Nothing here fails: what the other side lacks becomes a question mark. It
 * may be called with or without a transaction.
 */
#ifndef DTM_ENCODING_H
#define DTM_ENCODING_H

#include "postgres.h"

/* The text itself, where it says the same in both; else a palloc'd one. */
extern const char *dtm_to_utf8(const char *text);

/* Into a buffer of that size, cut between two characters. */
extern void dtm_from_utf8(char *dst, size_t size, const char *text);

#endif
