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
#include "fwd/ruleset.h"
#include "fwd/worker.h"
#include "nl/nl.h"

struct ports_socket {
	int fd;	       /* a worker's once it is @given; -1: could not be opened, said so */
	uint32_t rule; /* slot */
	uint16_t port;
	uint8_t worker; /* whose it is, once it is given */
	bool given;
	bool wanted;	   /* while automatic rules are updated */
	bool dual_stack;   /* @bound is [::], which takes IPv4, too */
	struct addr bound; /* as the kernel says */
};

struct ports {
	const struct conf *conf;
	const struct ruleset *rules;
	struct worker *const *workers; /* NULL before ports_hand_over() */
	unsigned n_workers;
	unsigned max_sockets;	/* no more than this; 0: no limit */
	struct ports_socket *v; /* owned; the sockets of a port follow each other */
	unsigned n, max;
};

void ports_init(struct ports *p, const struct conf *conf, const struct ruleset *rules,
		unsigned n_workers);

/*
 * Open the ports of the rules in @slots, or none: on failure -errno with @err, and
 * nothing of them is left open. A rule that is weak may lack ports, but not all.
 * Those of automatic rules are left to ports_update(). No worker has them before
 * ports_hand_over().
 */
int ports_open(struct ports *p, const uint32_t *slots, unsigned n_slots, struct err *err);

/* Close what no worker has been given yet. */
void ports_abandon(struct ports *p);

/* Give the sockets that are new to the workers, which outlive @p. */
void ports_hand_over(struct ports *p, struct worker *const *workers);

/*
 * The rule in @slot is deleted: stop listening for it, at once. Its UDP sessions end;
 * its TCP flows end, too, if they are to @drop.
 */
void ports_delete(struct ports *p, uint32_t slot, bool drop);

/* Stop listening on everything, at once. */
void ports_close(struct ports *p);

/*
 * Open and close ports of automatic rules after what listens in the container:
 * @diag is a NETLINK_SOCK_DIAG socket of its namespace. 0 or -errno with @err.
 */
int ports_update(struct ports *p, struct nl *diag, const struct source_targets *targets,
		 struct err *err);

/* How many host ports are open. */
unsigned ports_count(const struct ports *p);
