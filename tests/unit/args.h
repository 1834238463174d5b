/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A command line as the user types it, taken apart for conf_parse(). */

enum { ARGS_MAX = 32, ARGS_TEXT = 1024 };

struct args {
	char text[ARGS_TEXT];
	char *argv[ARGS_MAX + 1]; /* NULL-terminated; point into @text */
	int argc;
};

/* argv of "fwd" and the words of @line; '' is an empty one. */
void args_split(const char *line, struct args *ret);
