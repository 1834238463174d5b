/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The agent: a small single-threaded child process inside the container's
 * namespaces. It makes the namespace ready (attach.h), then hands out sockets
 * that belong there, runs errands (errand.h), and says when the container's
 * addresses change. Everything else happens outside: the receiver of such a socket
 * may bind and connect it without ever entering the namespace.
 *
 * It ends, and undoes what it did, when the other end of its control socket is
 * closed, however that came to be.
 */

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"
#include "ns/attach.h"
#include "ns/find.h"

#define AGENT_BATCH 32 /* sockets in one answer, at most */

enum agent_family { AGENT_V4, AGENT_V6, AGENT_FAMILIES };
enum agent_kind {
	AGENT_TCP,
	AGENT_UDP,
	AGENT_DIAG, /* NETLINK_SOCK_DIAG; the family does not matter */
	AGENT_KINDS
};

/* What the agent knows of the namespace. */
struct agent_state {
	bool have[AGENT_FAMILIES];	  /* the container can be reached by this family, */
	struct in_addr addr4;		  /* at this address: its own, or 127.0.0.1 */
	struct in6_addr addr6;		  /* or ::1 */
	uint32_t ifindex[AGENT_FAMILIES]; /* of the device that has the address */
	uint32_t udp_table;		  /* where routes for UDP clients go; 0: nowhere */
	bool transparent;		  /* sockets may be bound to foreign addresses */
	char why[256];			  /* if not, why not */
	char lacks[256];		  /* of its confinement (confine.h) */
};

/* A request for sockets, on a worker's channel. One answer follows. */
struct agent_request {
	uint8_t kind;	/* enum agent_kind */
	uint8_t family; /* enum agent_family */
	uint8_t n;	/* at most AGENT_BATCH */
};

/* The answer; @n sockets come with it (SCM_RIGHTS). */
struct agent_answer {
	uint8_t kind;
	uint8_t family;
	uint8_t n;
	int32_t code; /* errno, if there are none */
};

struct agent {
	pid_t pid;   /* of the child */
	int control; /* owned; readable: a new state, or its end */
	int diag;    /* a NETLINK_SOCK_DIAG socket in the namespace; owned; -1 if refused */

	int *channels; /* one for each worker, SOCK_SEQPACKET; owned */
	int *errands;  /* likewise, for errand_*(); owned */
	unsigned n_channels;
	uint32_t n_orders; /* given to it so far */
	bool news;	   /* @state is new; the reader clears it */
	struct agent_state state;
};

/*
 * Start the agent for @target with @n_channels channels, and wait until the
 * namespace is ready. With @n_udp ranges of UDP ports it is made ready for those, too;
 * @udp is NULL if there will never be any. Its confinement is @strict (confine.h), or
 * there is none.
 * Must be called while the process has one thread. 0, or -errno with @err; then
 * no child is left.
 */
int agent_start(struct agent *a, const struct ns_target *target, unsigned n_channels,
		const struct attach_ports *udp, unsigned n_udp, bool strict, struct err *err);

/*
 * Read one message from the control socket into @a->state, and set @a->news. 0, -EAGAIN
 * if there is none, -EPIPE when the agent has ended.
 */
int agent_read(struct agent *a);

/*
 * Of the container's addresses, take @ip as that of its family where it is one, from now
 * on; family 0: the first one again. @a->state is up to date then. As agent_change_udp()
 * it waits for the agent, a second at most. 0 or -errno with @err.
 */
int agent_prefer(struct agent *a, const struct nl_ip *ip, struct err *err);

/*
 * One more range of UDP ports, or one less. A new state that comes meanwhile is read, and
 * @a->news set. 0 or -errno with @err.
 */
int agent_change_udp(struct agent *a, const struct attach_ports *ports, bool add, struct err *err);

/* End the agent and wait for it, at most a second; then it is killed. */
void agent_stop(struct agent *a);
