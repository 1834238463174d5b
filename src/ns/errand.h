/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Errands: what needs rights over the container's namespaces, done by the agent for
 * a process outside that has none. One channel for each thread that asks; on it,
 * answers come in the order of questions.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "err.h"
#include "nl/route.h"

/* A pair of connected sockets, the asker's first. 0 or -errno with @err. */
int errand_channel(int ret_pair[2], struct err *err);

/* ---------------------------------------------------------------- the asker */

#define ERRAND_ROUTES NL_ROUTES /* at once */

/*
 * bind(2) of a socket of the container to a port that needs privileges there
 * (net.ipv4.ip_unprivileged_port_start). Waits for the agent. 0 or -errno:
 * -EPIPE if the agent is gone, -ETIMEDOUT if it does not answer within a second.
 */
int errand_bind(int channel, int fd, const struct sockaddr *sa, socklen_t len);

/*
 * Add @n routes. Waits for the agent, as errand_bind() does. 0 or -errno; if that is 0,
 * bit i of *@ret_failed says that the i-th could not be added, and *@ret_code (0 or
 * -errno) why one of them could not.
 */
int errand_add(int channel, const struct nl_route *routes, unsigned n, uint64_t *ret_failed,
	       int *ret_code);

/* Delete @n routes, before anything that is asked for later. Does not wait. */
void errand_delete(int channel, const struct nl_route *routes, unsigned n);

/* ---------------------------------------------------------------- the agent */

/* What may be asked for: routes of @protocol, in @n_tables tables from @table on. */
struct errand_limits {
	uint8_t protocol;
	uint32_t table;
	uint32_t n_tables;
};

/* Do one errand that waits on @channel. False when the asker is gone or talks nonsense. */
bool errand_serve(int channel, struct nl *nl, const struct errand_limits *limits);
