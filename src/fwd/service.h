/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the service manager hears from time to time: that we are alive, and what we do. */

#include <stdint.h>

#include "fwd/notify.h"
#include "fwd/worker.h"

struct service {
	const struct notify *notify;
	const struct worker_shared *shared; /* with the workers */
	uint64_t ping_at;		    /* now_ns(); UINT64_MAX: no watchdog */
	uint64_t status_at;		    /* likewise */
	uint32_t asked;			    /* number of the last question to the workers */
	uint32_t said_flows, said_ports;    /* in the last status */
	uint64_t said_ever;
};

/*
 * Begin: READY=1 has been said, or will be within @grace_ns by another process.
 * @notify and @shared outlive @s.
 */
void service_start(struct service *s, const struct notify *notify,
		   const struct worker_shared *shared, uint64_t grace_ns);

/* How long a caller may wait before it calls service_tick(), in ms; -1: for ever. */
int service_interval(const struct service *s);

/* Say what is due. @n_ports are open. */
void service_tick(struct service *s, unsigned n_ports);
