/*
 * clean_text.c: texts from elsewhere, made fit to be stored and shown.
 *
 * Pure. The input is hostile: it may be cut anywhere and hold anything.
 */
#include "clean_text.h"

#include <stdbool.h>
#include <string.h>

static int	utf8_length(const unsigned char *s, size_t len);

size_t
dtm_clean_text(char *dst, size_t size, const char *src, size_t len)
{
	const unsigned char *s = (const unsigned char *) src;
	const unsigned char *end = s + len;
	size_t		used = 0;
	bool		space = false;

	while (s < end)
	{
		int			n = utf8_length(s, end - s);

		if (n == 1 && (*s <= ' ' || *s == 0x7F))
		{
			space = used > 0;
			s++;
			continue;
		}
		if (used + space + (n > 0 ? n : 1) >= size)
			break;
		if (space)
			dst[used++] = ' ';
		space = false;
		if (n == 0)
		{
			dst[used++] = '?';
			s++;
			continue;
		}
		memcpy(dst + used, s, n);
		used += n;
		s += n;
	}
	dst[used] = '\0';
	return used;
}

/* Bytes of the character at s; 0: it is none (or a control character of C1). */
static int
utf8_length(const unsigned char *s, size_t len)
{
	int			n = s[0] < 0x80 ? 1 : s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 :
		s[0] < 0xF0 ? 3 : s[0] < 0xF5 ? 4 : 0;

	if (n <= 1)
		return n;
	if ((size_t) n > len)
		return 0;
	for (int i = 1; i < n; i++)
	{
		if ((s[i] & 0xC0) != 0x80)
			return 0;
	}
	if ((s[0] == 0xC2 && s[1] < 0xA0) ||	/* C1 */
		(s[0] == 0xE0 && s[1] < 0xA0) ||	/* over-long */
		(s[0] == 0xED && s[1] >= 0xA0) ||	/* half of a surrogate pair */
		(s[0] == 0xF0 && s[1] < 0x90) ||	/* over-long */
		(s[0] == 0xF4 && s[1] >= 0x90)) /* beyond Unicode */
		return 0;
	return n;
}
