/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The TCP flows of one thread: accepted on the host, connected in the
 * container with the client's address, moved by two pumps, closed as TCP would.
 */

#include <stdbool.h>
#include <stdint.h>

#include "fwd/conf.h"
#include "fwd/flow.h"
#include "fwd/pipes.h"
#include "fwd/pump.h"
#include "fwd/ruleset.h"
#include "fwd/sockpool.h"
#include "fwd/stats.h"

struct tcp {
	struct pump_env env;
	struct pipes pipes;
	struct flows flows;
	struct sockpool *sockets; /* shared with the UDP sessions of the thread */
	const struct conf *conf;
	struct stats *stats;
	struct ruleset *rules;	      /* shared by all workers */
	_Atomic uint32_t *n_flows;    /* shared: of all workers */
	uint32_t max_flows;	      /* of all workers */
	bool (*make_room)(void *ctx); /* end what is worth less; NULL: there is nothing */
	void *room_ctx;
	struct source_targets targets; /* where the container is reached */
	uint64_t next_sweep;
	uint64_t log_second;  /* rate limit of the log: this second, */
	unsigned log_lines;   /* lines in it, */
	unsigned log_dropped; /* and lines that it did not get */
};

/* A new connection. */
struct tcp_arrival {
	int fd; /* taken, whatever happens */
	uint32_t rule;
	uint16_t port; /* host port */
};

/*
 * Set up in the thread that will run it; @sockets, @rules, @n_flows, @max_flows, @make_room
 * and @targets are the caller's to fill in before. @loop and @stats outlive it. 0 or -errno
 * with @err.
 */
int tcp_init(struct tcp *t, struct loop *loop, const struct conf *conf, struct stats *stats,
	     struct err *err);
void tcp_fini(struct tcp *t);

void tcp_accept(struct tcp *t, const struct tcp_arrival *a);

/* A connection that came too late: reset it. Takes @fd. */
void tcp_reject(struct tcp *t, int fd);

/* Tell the user, once for each rule, that an address or port was not kept. */
void tcp_tell_fate(struct tcp *t, uint32_t rule, const struct addr *client, enum source_fate fate);

/* A completion of an operation of a flow. */
void tcp_complete(struct tcp *t, struct loop_ref ref, int res, buf_id buf);

/* The descriptor that an operation of a flow is for. */
int tcp_fd_of(struct tcp *t, struct loop_ref ref);

/* The agent's channel is readable. -EPIPE when the agent is gone. */
int tcp_sockets_came(struct tcp *t);

/* After each batch of completions: free what has ended. True if that made room. */
bool tcp_reap(struct tcp *t);

/* End what has waited too long; call it at tcp_deadline() at the latest. */
void tcp_tick(struct tcp *t, uint64_t now);
uint64_t tcp_deadline(const struct tcp *t);

/* End all flows, with RST: bytes may be under way. */
void tcp_close_all(struct tcp *t);

/*
 * End the flows of @rule, likewise, from slot *@from on, not too many at a time. True
 * when the last slot has been seen; else call again with what *@from is then.
 */
bool tcp_drop(struct tcp *t, uint32_t rule, uint32_t *from);

/* No flow is left. */
bool tcp_is_empty(const struct tcp *t);
