/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Which sockets listen in a namespace (sock_diag(7), NETLINK_SOCK_DIAG). */

#include "nl/nl.h"

struct nl_listener {
	struct nl_ip ip;  /* bound address; all zero bytes: wildcard */
	uint16_t port;	  /* host order */
	unsigned ifindex; /* SO_BINDTODEVICE, or 0 */
	bool v6only;	  /* an IPv6 socket that takes no IPv4 (false if the kernel does not say) */
};

/*
 * Call @cb for each TCP socket in state LISTEN, or, for IPPROTO_UDP, each
 * unconnected bound socket, of both families. @restart is called before the
 * dump is repeated. 0 or -errno with @err.
 */
int nl_diag_listeners(struct nl *nl, int ip_proto,
		      void (*cb)(const struct nl_listener *l, void *data),
		      void (*restart)(void *data), void *data, struct err *err);
