/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Sockets of the container's namespace, kept ready: they come in batches from
 * the agent (ns/agent.h), in the background, so that a new flow costs no
 * message and no wait.
 */

#include <stdbool.h>

#include "fwd/addr.h"

#define SOCKPOOL_MAX 64

struct sockpool_family {
	int fd[SOCKPOOL_MAX]; /* owned */
	unsigned n;
	bool asked; /* a request is on its way */
};

struct sockpool {
	int channel; /* not owned */
	struct sockpool_family family[ADDR_FAMILIES];
};

void sockpool_init(struct sockpool *p, int channel);
void sockpool_fini(struct sockpool *p);

/* Ask for the first batches. */
void sockpool_warm(struct sockpool *p);

/*
 * Take a socket of @family: non-blocking, TCP_NODELAY, transparent where the
 * container allows. The caller owns it. -EAGAIN if there is none at the moment:
 * sockpool_receive() will bring some; -EPIPE if the agent is gone.
 */
int sockpool_get(struct sockpool *p, enum addr_family family);

/*
 * The channel is readable: take what came. 0; or -errno if the agent could not
 * make a socket of @ret_family, or is gone (-EPIPE).
 */
int sockpool_receive(struct sockpool *p, enum addr_family *ret_family);
