/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A request that came by the control socket: one line, one JSON object.
 *
 *	{ "command": "list" }			also "stats", "flows"
 *	{ "command": "add", "tcp": ["8080:80", ...], "udp": [...] }
 *	{ "command": "delete", "tcp": [...], "udp": [...], "ids": [3, ...], "drop": true }
 *
 * Pure: touches nothing but its arguments.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "fwd/portspec.h"

#define REQUEST_MAX   65536u /* bytes of a line */
#define REQUEST_IDS   1024u  /* in one request */
#define REQUEST_RULES 65536u /* likewise */

enum request_kind {
	REQUEST_LIST,
	REQUEST_ADD,
	REQUEST_DELETE,
	REQUEST_STATS,
	REQUEST_FLOWS,
	REQUEST_KINDS
};

struct request {
	enum request_kind kind;
	struct rules rules; /* to add or to delete; owned */
	uint32_t ids[REQUEST_IDS];
	unsigned n_ids;
	bool drop; /* end established flows, too */
};

/*
 * Parse the @len bytes at @line, without the newline. 0, and *@ret is to be freed; or
 * -EINVAL (or -ENOMEM) with @err, which is what the sender is told. Port
 * specifications are refused in the same words as those of the command line.
 */
int request_parse(const char *line, size_t len, const struct portspec_env *env, struct request *ret,
		  struct err *err);
void request_free(struct request *r);

/* "list", "add", ... */
const char *request_kind_str(enum request_kind kind);
