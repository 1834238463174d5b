/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Sockets of the container's namespace, kept ready: they come in batches from
 * the agent (ns/agent.h), in the background, so that a new flow costs no
 * message and no wait.
 */

#include <stdbool.h>
#include <sys/socket.h>

#include "fwd/addr.h"

#define SOCKPOOL_MAX 64

struct sockpool_family {
	int fd[SOCKPOOL_MAX]; /* owned */
	unsigned n;
	bool asked; /* a request is on its way */
};

enum sockpool_kind { SOCKPOOL_TCP, SOCKPOOL_UDP, SOCKPOOL_KINDS };

struct sockpool {
	int channel; /* not owned */
	int errands; /* errand.h; not owned */
	struct sockpool_family family[SOCKPOOL_KINDS][ADDR_FAMILIES];
};

void sockpool_init(struct sockpool *p, int channel, int errands);
void sockpool_fini(struct sockpool *p);

/* Ask for a batch of @kind where there is nothing. */
void sockpool_warm(struct sockpool *p, enum sockpool_kind kind);

/*
 * Take a socket: non-blocking, tuned for its kind, transparent where the
 * container allows. The caller owns it. -EAGAIN if there is none at the moment:
 * sockpool_receive() will bring some; -EPIPE if the agent is gone.
 */
int sockpool_get(struct sockpool *p, enum sockpool_kind kind, enum addr_family family);

/*
 * The channel is readable: take what came. 0; or -errno if the agent could not
 * make a socket, or is gone (-EPIPE).
 */
int sockpool_receive(struct sockpool *p);

/* As sockpool_get(), but wait for one if need be, some milliseconds at most. */
int sockpool_get_now(struct sockpool *p, enum sockpool_kind kind, enum addr_family family);

/*
 * bind(2) of a socket from the pool. Where the port is one that needs privileges, the
 * agent does it: then this waits for it. 0 or -errno.
 */
int sockpool_bind(const struct sockpool *p, int fd, const struct sockaddr *sa, socklen_t len);

/*
 * A NETLINK_SOCK_DIAG socket in the container's namespace, the caller's. Waits. To be
 * called before anything else was asked for. -errno.
 */
int sockpool_diag(const struct sockpool *p);
