/* SPDX-License-Identifier: Apache-2.0 */
/*
 * args.c - a command line, taken apart
 */
#include "args.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

void args_split(const char *line, struct args *ret)
{
	char *save = NULL;

	snprintf(ret->text, sizeof(ret->text), "fwd %s", line);
	ret->argc = 0;
	for (char *word = strtok_r(ret->text, " ", &save); word;
	     word = strtok_r(NULL, " ", &save)) {
		cr_assert_lt(ret->argc, ARGS_MAX);
		ret->argv[ret->argc++] = strcmp(word, "''") == 0 ? word + 2 : word;
	}
	ret->argv[ret->argc] = NULL;
}
