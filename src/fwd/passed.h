/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Sockets that a service manager has opened and passed on: the protocol of
 * sd_listen_fds(3). They become rules like those of -t and -u.
 */

#include "err.h"
#include "fwd/rule.h"

#define PASSED_FIRST 3	  /* SD_LISTEN_FDS_START */
#define PASSED_MAX   1024 /* of them, at most */
#define PASSED_NAMES 64	  /* of --listen-fd, at most */

/* What --listen-fd says: "NAME=TARGET" each, not owned. */
struct passed_names {
	const char *v[PASSED_NAMES];
	unsigned n;
};

/*
 * How many sockets were passed to this process, from descriptor PASSED_FIRST on; 0
 * if there are none, or if they are for another process. -EINVAL with @err if
 * LISTEN_FDS is no number.
 */
int passed_count(struct err *err);

/*
 * Append a rule for each of the @n sockets. It leads to what @names says of the
 * socket's name; or else to what the name itself says, if it is a port, an address or
 * both, "80", "127.0.0.1/80"; or else to the port that it is bound to.
 *
 * 0; or -errno with @err, and maybe some of the rules, if one of them is not a TCP
 * socket that listens or a UDP socket that is bound, or if @names has a name that no
 * socket has. Changes nothing of the sockets.
 */
int passed_rules(const struct passed_names *names, int n, struct rules *ret, struct err *err);

/*
 * Make the @n sockets ours: close-on-exec, and the environment does not speak of them any
 * more, so that no child takes them for its own.
 */
void passed_take(int n);
