/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The UDP sessions of one thread. A session is what one client (address and
 * port) and one local address of the host have with one listener; it has a
 * connected socket in the container that carries the client's address.
 */

#include <stdbool.h>
#include <stdint.h>

#include "fwd/conf.h"
#include "fwd/dgram.h"
#include "fwd/loop.h"
#include "fwd/sockpool.h"
#include "fwd/stats.h"
#include "fwd/tcp.h"
#include "fwd/udpfamily.h"
#include "fwd/udppairs.h"
#include "fwd/udproute.h"
#include "fwd/udprun.h"

/* How much a session is worth; the less, the sooner it ends. */
enum udp_kind {
	UDP_ONE_WAY,  /* the application has not answered */
	UDP_ANSWERED, /* it has */
	UDP_LASTING,  /* and the client has sent again since: it is really there */
	UDP_KINDS
};

enum udp_state { UDP_FREE, UDP_OPEN, UDP_CLOSING, UDP_STATES };

struct udp_session {
	uint8_t state;	/* enum udp_state */
	uint8_t kind;	/* enum udp_kind */
	uint8_t fate;	/* enum source_fate */
	bool receiving; /* OP_UDP_SESSION is in flight */
	bool paired;	/* holds its pair of addresses (udppairs.h) */
	uint16_t generation;
	uint16_t port; /* host port */
	uint32_t rule;
	uint32_t listener;   /* of the worker */
	uint32_t next, prev; /* in the list of its kind, or of closing ones */
	uint32_t chain;	     /* in the hash table */
	uint32_t route;	     /* reference in struct udproutes, or UDPROUTE_NONE */
	int fd;		     /* owned */
	struct addr client;
	struct addr source, target; /* in the container, while @paired */
	struct addr local;	    /* that the client sends to; its scope if that is link-local */
	uint64_t bytes[SIDES];	    /* from the client, from the container */
	uint64_t opened;	    /* now_ns() */
	uint64_t last;		    /* now_ns() of the last datagram */
	uint64_t touched;	    /* when it took its place in the list */
};

struct udp_list {
	uint32_t head, tail, n;
};

/* What the listeners of the worker are to UDP. */
struct udp_listener {
	int fd;	    /* not owned */
	bool v6;    /* an AF_INET6 socket */
	bool first; /* of the sockets that share the port */
	uint32_t index, rule;
	uint16_t port;
};

/* A datagram whose session is opened at the end of the batch, with all others. */
struct udp_waiting {
	struct udp_listener l;
	struct dgram d;
	buf_id buf;
};

struct udp {
	struct loop *loop;
	const struct conf *conf;
	struct stats *stats;
	struct tcp *tcp; /* shared with it: sockets, targets, rules, number of flows, log limit */
	struct udp_session *v;
	uint32_t max, used;
	uint32_t free;	/* chain of free slots */
	uint32_t *hash; /* [hash_mask + 1] */
	uint32_t hash_mask;
	uint64_t hash_key; /* random, so that nobody can make one long chain */
	struct udp_list kind[UDP_KINDS];
	struct udp_list closing;
	uint32_t n_closing;
	struct udprun run;    /* what leaves next, */
	uint32_t run_session; /* of this session (FLOW_NONE: of none), */
	bool to_client;	      /* this way */
	struct udproutes routes;
	struct udp_waiting waiting[UDPROUTE_WANTED];
	unsigned n_waiting;
	struct udppairs *pairs;		 /* of all workers */
	uint32_t table;			 /* the first for routes; 0: no routes */
	uint32_t ifindex[ADDR_FAMILIES]; /* of the device that has the container's address */
	struct udpfamily family;
	uint64_t now; /* of this batch; 0 before its first datagram */
	uint64_t timeout[UDP_KINDS];
	bool waited; /* sockets came outside of their turn */
	/* The listener of a session, to answer through. */
	bool (*listener_of)(void *ctx, uint32_t index, struct udp_listener *ret);
	void *ctx;
};

/*
 * Set up; the caller has filled in @tcp, @pairs, @table, @listener_of and
 * @ctx. Routes of clients have a @metric that is this thread's own. Nothing may have been asked of the socket pool yet. 0 or -errno with @err.
 */
int udp_init(struct udp *u, struct loop *loop, const struct conf *conf, struct stats *stats,
	     uint32_t metric, struct err *err);
void udp_fini(struct udp *u);

/* End the session that can best be spared. False if all are worth as much as a connection. */
bool udp_make_room(struct udp *u);

/* After a batch of completions: open sessions, and send what is gathered. */
void udp_end(struct udp *u);

/* A buffer of datagrams came to a listener. Takes @buf. */
void udp_from_client(struct udp *u, const struct udp_listener *l, buf_id buf);

/* A completion of a session: datagrams, or the error that ended them. Takes @buf. */
void udp_from_container(struct udp *u, struct loop_ref ref, int res, buf_id buf);

int udp_fd_of(struct udp *u, struct loop_ref ref);

/*
 * The container is reached elsewhere (@tcp's targets), by the devices @ifindex.
 * Sessions end: the next datagram of a client opens a new one.
 */
void udp_retarget(struct udp *u, const uint32_t ifindex[ADDR_FAMILIES]);

/* End all sessions, or those of listener @index, which is going. */
void udp_close_all(struct udp *u);
void udp_close_listener(struct udp *u, uint32_t index);

/* End what has been idle too long; call it at udp_deadline() at the latest. */
void udp_tick(struct udp *u, uint64_t now);
uint64_t udp_deadline(const struct udp *u);
bool udp_is_empty(const struct udp *u);
