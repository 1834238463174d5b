/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Interfaces and their addresses (rtnetlink(7)). */

#include <net/if.h>
#include <stdbool.h>

#include "nl/nl.h"

struct nl_link {
	unsigned index;
	bool up;       /* IFF_UP */
	bool loopback; /* IFF_LOOPBACK */
	char name[IFNAMSIZ];
};

struct nl_addr {
	unsigned index;	 /* of the interface */
	struct nl_ip ip; /* the local address, with its prefix length */
	uint8_t scope;	 /* RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_HOST */
	bool usable;	 /* neither tentative nor failed duplicate detection */
	bool deprecated;
};

/*
 * Fill @v with up to @max interfaces (addresses), in the kernel's order. The
 * number there is, which may be more than @max, or -errno with @err.
 */
int nl_link_list(struct nl *nl, struct nl_link *v, unsigned max, struct err *err);
int nl_addr_list(struct nl *nl, struct nl_addr *v, unsigned max, struct err *err);

/* Bring an interface up. 0 or -errno with @err. */
int nl_link_up(struct nl *nl, unsigned index, struct err *err);
