/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A worker: one thread with its own loop, listeners, flows, pipes and buffers.
 * The main thread speaks to it by messages alone.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "fwd/conf.h"
#include "fwd/loop.h"
#include "fwd/snapshot.h"
#include "fwd/source.h"
#include "fwd/stats.h"
#include "fwd/tcp.h"
#include "fwd/udp.h"
#include "ns/agent.h"

#define WORKER_MAX 64u /* workers */

struct worker;

/* What all workers are given. */
struct worker_shared {
	struct worker *const *workers; /* all of them, before the first has a listener */
	unsigned n_workers;
	const struct conf *conf;
	const struct loop_ops *engine;
	unsigned max_flows; /* of all workers */
	unsigned max_fds;
	struct ruleset *rules;
	_Atomic uint32_t n_flows;
	struct source_targets targets;	 /* at start */
	uint32_t ifindex[ADDR_FAMILIES]; /* of the devices that have them, at start */
	uint32_t udp_table;		 /* the first for routes to UDP clients, or 0 */
	struct udppairs pairs;		 /* with UDP rules */
	bool udp;			 /* UDP rules there are, or may be */
	bool warm[SOCKPOOL_KINDS];	 /* rules of these there are from the start */
	int let_go;			 /* eventfd: a worker has let go of a deleted rule; or -1 */
};

/*
 * Start worker number @index and wait until it is ready. It takes sockets from its
 * channel of @agent. That and @shared outlive it. 0 or -errno with @err.
 */
int worker_start(struct worker_shared *shared, unsigned index, const struct agent *agent,
		 struct worker **ret, struct err *err);

/*
 * Hand it a listening socket, @first of those that share a port: it is the
 * worker's now. To close it again, shut
 * it down (shutdown(2)): the worker notices. A socket that was passed (rule.h) is the only
 * one of its port: the worker gives all workers their share of its connections.
 */
void worker_listen(struct worker *w, int fd, uint32_t rule, uint16_t port, bool first);

/* Close the UDP socket, or the one that was passed, that was handed over as @rule's @port, and end its sessions. */
void worker_unlisten(struct worker *w, uint32_t rule, uint16_t port);

/*
 * Rule @slot is deleted: close the listeners of it that are left, and end its UDP
 * sessions, which have no other socket on the host. Its TCP flows go on unless they are
 * to @drop. stats_rule_is_over() says when the worker is
 * done with it.
 */
void worker_delete(struct worker *w, uint32_t slot, bool drop);

/*
 * Ask for the next slice of its flows: @s is the worker's until @s->busy is false again,
 * which its @event tells. False without memory for a message.
 */
bool worker_snapshot(struct worker *w, struct snapshot *s);

/* The container is reached elsewhere now. TCP flows that are open go on. */
void worker_retarget(struct worker *w, const struct source_targets *targets,
		     const uint32_t ifindex[ADDR_FAMILIES]);

/* Let it note that it was asked @question, which is never 0; what it noted last. */
void worker_ask(struct worker *w, uint32_t question);
uint32_t worker_answered(const struct worker *w);

struct stats *worker_stats(struct worker *w);

/*
 * Close listeners and flows, and end. Returns at once; worker_join() waits. Workers speak
 * to each other: none may be freed before all have been joined.
 */
void worker_stop(struct worker *w);
void worker_join(struct worker *w);
void worker_free(struct worker *w);
