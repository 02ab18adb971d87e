/*
 * clean_text.h: texts from elsewhere, made fit to be stored and shown.
 */
#ifndef DTM_CLEAN_TEXT_H
#define DTM_CLEAN_TEXT_H

#include <stddef.h>

/*
 * Copy a text of unknown making, in one line of valid UTF-8: white space and
 * control characters become single spaces, bytes that are not UTF-8 become "?",
 * no character is cut in two. Writes at most size bytes, the ending zero among
 * them; returns the length.
 */
extern size_t dtm_clean_text(char *dst, size_t size, const char *src, size_t len);

#endif
