/*
 * tap.h: the least that a unit test needs to speak TAP.
 */
#ifndef DTM_TEST_TAP_H
#define DTM_TEST_TAP_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int	tap_count;
static int	tap_failed;

static inline bool
tap_ok(bool condition, const char *name, const char *file, int line)
{
	printf("%sok %d - %s\n", condition ? "" : "not ", ++tap_count, name);
	if (!condition)
	{
		tap_failed++;
		printf("#   Failed test '%s'\n#   at %s line %d.\n", name, file, line);
	}
	fflush(stdout);
	return condition;
}

static inline void
tap_is(long long got, long long wanted, const char *name,
	   const char *file, int line)
{
	if (!tap_ok(got == wanted, name, file, line))
		printf("#   got %lld, wanted %lld\n", got, wanted);
}

static inline void
tap_is_text(const char *got, const char *wanted, const char *name,
			const char *file, int line)
{
	if (!tap_ok(got != NULL && strcmp(got, wanted) == 0, name, file, line))
		printf("#   got '%s', wanted '%s'\n", got ? got : "(null)", wanted);
}

static inline int
tap_done(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed > 0;
}

#define ok(condition, name) tap_ok(condition, name, __FILE__, __LINE__)
#define is(got, wanted, name) tap_is(got, wanted, name, __FILE__, __LINE__)
#define is_text(got, wanted, name) \
	tap_is_text(got, wanted, name, __FILE__, __LINE__)

#endif
