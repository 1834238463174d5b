/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which pairs of addresses the sessions of all workers have in the container. The
 * kernel does not refuse a second socket with the same pair (udp(7), SO_REUSEADDR), and
 * would give it the answers to the first one. Safe in threads.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "fwd/addr.h"

struct udppair {
	struct addr source, target;
	uint32_t chain;
};

struct udppairs {
	pthread_mutex_t lock;
	struct udppair *v;
	uint32_t max, used, free;
	uint32_t *hash;
	uint32_t hash_mask;
	uint64_t hash_key;
};

/* Room for @max pairs. 0 or -ENOMEM. */
int udppairs_init(struct udppairs *p, uint32_t max);
void udppairs_fini(struct udppairs *p);

/* Take a pair. False if it is taken already, or there is no room. */
bool udppairs_take(struct udppairs *p, const struct addr *source, const struct addr *target);

/* Give back a pair that was taken. */
void udppairs_give(struct udppairs *p, const struct addr *source, const struct addr *target);
