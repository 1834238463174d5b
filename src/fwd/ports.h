/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The host ports that are open: all those of fixed rules from start to end, and
 * those of automatic rules while something listens in the container.
 */

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "fwd/conf.h"
#include "fwd/worker.h"
#include "nl/nl.h"

struct ports_socket {
	int fd; /* a worker's once there are workers; -1: could not be opened, said so */
	uint32_t rule;
	uint16_t port;
	uint8_t worker; /* whose it is, once there are workers */
	bool wanted;	/* while automatic rules are updated */
};

struct ports {
	const struct conf *conf;
	struct worker *const *workers; /* NULL before ports_hand_over() */
	unsigned n_workers;
	struct ports_socket *v; /* owned */
	unsigned n, max;
};

/*
 * Open the ports of all fixed rules, or none: on failure -errno with @err, and
 * nothing is left open. A rule that is weak may lack ports, but not all.
 */
int ports_open(struct ports *p, const struct conf *conf, unsigned n_workers, struct err *err);

/* Give the sockets to the workers, which outlive @p. */
void ports_hand_over(struct ports *p, struct worker *const *workers);

/* Stop listening on everything, at once. */
void ports_close(struct ports *p);

/* Whether any rule is automatic. */
bool ports_any_automatic(const struct conf *conf);

/*
 * Open and close ports of automatic rules after what listens in the container:
 * @diag is a NETLINK_SOCK_DIAG socket of its namespace. 0 or -errno with @err.
 */
int ports_update(struct ports *p, struct nl *diag, const struct source_targets *targets,
		 struct err *err);

/* How many host ports are open. */
unsigned ports_count(const struct ports *p);
