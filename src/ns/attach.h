/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Make a network namespace ready for sockets that carry foreign addresses, and
 * undo it. To be called inside the namespace.
 */

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "nl/nl.h"

/* Who made our rules and routes: 'f', a number that no routing daemon uses. */
#define ATTACH_PROTOCOL 102

enum attach_sysctl {
	ATTACH_FWMARK_ACCEPT,
	ATTACH_FWMARK_REFLECT4,
	ATTACH_FWMARK_REFLECT6,
	ATTACH_SYSCTLS
};

/* UDP ports that applications answer from. */
struct attach_ports {
	uint16_t first, last;
	uint8_t table; /* below ATTACH_UDP_TABLES: one for each address they answer from */
};

#define ATTACH_UDP_TABLES 8u

struct attach {
	struct nl nl;		    /* route socket in the namespace */
	int lock;		    /* holds our place among several instances; owned */
	unsigned place;		    /* which that is, from 0 */
	bool transparent;	    /* foreign addresses work */
	int sysctl[ATTACH_SYSCTLS]; /* that we set, and were 0; owned; else -1 */
	struct nl_ip prefer;	    /* of its addresses; family 0: none */
	struct nl_ip addr[2];	    /* where it is reached, IPv4 and IPv6; family 0: not at all */
	unsigned ifindex[2];	    /* of the device that has the address */
	bool udp;		    /* there are rules for UDP, or may be */
};

/*
 * Set up: lo is brought up; sysctls, one rule and one table per family are made
 * so that answers to marked connections come back to us. For UDP, which has no
 * connections, one more rule for each range of ports sends answers through a
 * table where whoever has a client there puts a route (attach_udp_table()). @udp is
 * NULL if there will never be any. Several instances may attach to one namespace; what one that was killed has left is replaced.
 *
 * 0, also if foreign addresses cannot work here: then @transparent is false and
 * @why says why. -errno with @err if not even lo works.
 */
int attach_start(struct attach *a, const struct attach_ports *udp, unsigned n_udp, struct err *why,
		 struct err *err);

/*
 * Interfaces or addresses may have changed: bring routes and @addr up to date.
 * True if @addr changed.
 */
bool attach_update(struct attach *a);

/*
 * One more such rule, or one less, while it runs. Adding one that exists, or deleting
 * one that does not, is success. 0 or -errno with @err.
 */
int attach_change_udp(struct attach *a, const struct attach_ports *ports, bool add,
		      struct err *err);

/* Remove rules and routes, and set back the sysctls if we were the last. */
void attach_stop(struct attach *a);

/* The mark of our sockets in there. */
uint32_t attach_mark(const struct attach *a);

/* The first of ATTACH_UDP_TABLES tables for routes to UDP clients; 0 without UDP. */
uint32_t attach_udp_table(const struct attach *a);
