/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * By which family the container is reached for UDP. Nobody refuses a datagram in
 * time: when one was refused, ask the kernel who listens (sock_diag(7)).
 */

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "fwd/addr.h"
#include "fwd/source.h"
#include "nl/nl.h"

struct udpfamily {
	struct nl diag; /* in the container */
	bool open;
	struct udpfamily_hint *hint; /* [rule][client's family] */
};

/* Takes @fd, a NETLINK_SOCK_DIAG socket in the container, also on failure. 0 or -errno with @err. */
int udpfamily_init(struct udpfamily *f, int fd, unsigned n_rules, struct err *err);
void udpfamily_fini(struct udpfamily *f);

/* What a client of @family wants to reach by rule @rule: @port of the container. */
struct udpfamily_key {
	unsigned rule;
	enum addr_family family;
	uint16_t port;
	const struct source_targets *targets;
};

/* Whether to try the other family than the client's first; asks again now and then. */
bool udpfamily_other_first(struct udpfamily *f, const struct udpfamily_key *key, uint64_t now);

/* The rule is deleted: what was learnt is not for the next one of its number. */
void udpfamily_forget(struct udpfamily *f, unsigned rule);

/* A datagram was refused: find out which family listens. */
void udpfamily_refused(struct udpfamily *f, const struct udpfamily_key *key, uint64_t now);
