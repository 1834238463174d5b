/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err.c - error lines of the cold path
 *
 * Whatever the arguments hold (file names, what the user typed), the result is
 * one line: control characters become '?', a text that is too long ends in
 * "...", and where two parts do not fit together the first one gives way. Every
 * function formats into a line of its own first, so arguments may lie in @err.
 */

#include "err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "util.h"

static const char err_cut[] = "...";

static void err_format(struct err *ret, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

static void err_format(struct err *ret, const char *fmt, va_list ap)
{
	int n = vsnprintf(ret->text, sizeof(ret->text), fmt, ap);

	fwd_assert(n >= 0);
	if ((size_t)n >= sizeof(ret->text))
		memcpy(ret->text + sizeof(ret->text) - sizeof(err_cut), err_cut, sizeof(err_cut));

	for (char *p = ret->text; *p; p++) {
		unsigned char c = (unsigned char)*p;

		if (c < ' ' || c == 0x7f)
			*p = '?';
	}
}

/* "@head: @tail"; where that is too long, the head gives way. */
static void err_join(const char *head, const char *tail, struct err *ret)
{
	size_t colon = strlen(": ");
	size_t left = sizeof(ret->text) - 1;
	size_t n_tail = strnlen(tail, left - colon);
	size_t n_head = strnlen(head, left - colon - n_tail);

	memcpy(ret->text, head, n_head);
	memcpy(ret->text + n_head, ": ", colon);
	memcpy(ret->text + n_head + colon, tail, n_tail);
	ret->text[n_head + colon + n_tail] = '\0';
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
	struct err line;
	va_list ap;

	fwd_assert(code > 0);
	va_start(ap, fmt);
	err_format(&line, fmt, ap);
	va_end(ap);
	*err = line;
	return -code;
}

int err_sys(struct err *err, int code, const char *fmt, ...)
{
	struct err line;
	va_list ap;

	fwd_assert(code > 0);
	va_start(ap, fmt);
	err_format(&line, fmt, ap);
	va_end(ap);
	err_join(line.text, strerror(code), err);
	return -code;
}

int err_prefix(struct err *err, int ret, const char *fmt, ...)
{
	struct err line, old = *err;
	va_list ap;

	va_start(ap, fmt);
	err_format(&line, fmt, ap);
	va_end(ap);
	err_join(line.text, old.text, err);
	return ret;
}
