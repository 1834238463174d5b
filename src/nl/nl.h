/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Netlink requests over libmnl: one request, one answer, the kernel's own
 * error text (extended ack). A socket belongs for ever to the network
 * namespace in which it was opened (network_namespaces(7)), so it may be
 * handed to a process that is not in there.
 */

#include <libmnl/libmnl.h>
#include <stdbool.h>
#include <stdint.h>

#include "err.h"

struct nl {
	struct mnl_socket *sock; /* owned */
	uint32_t seq;		 /* of the last request */
};

/* An address or prefix as the kernel has it. */
struct nl_ip {
	uint8_t family;	   /* AF_INET, AF_INET6; 0: none */
	uint8_t plen;	   /* prefix length in bits */
	uint8_t bytes[16]; /* network order; the first 4 for IPv4 */
};

/*
 * Open a socket of family @bus (NETLINK_ROUTE, NETLINK_SOCK_DIAG), with
 * extended acks and strict checking where the kernel has them, joined to the
 * multicast @groups (a mask of RTMGRP_*, or 0). 0 or -errno with @err.
 */
int nl_open(struct nl *nl, int bus, uint32_t groups, struct err *err);

/* The same on a socket that is open already; takes @fd, also on failure. */
int nl_adopt(struct nl *nl, int fd, struct err *err);

void nl_close(struct nl *nl);

/* The descriptor, for poll(2); nl keeps it. */
int nl_fd(const struct nl *nl);

/*
 * Send the request in @nlh (NLM_F_REQUEST, NLM_F_ACK and the sequence number
 * are added here) and wait for its ack. 0, or -errno with the kernel's text in
 * @err after "@what: ".
 */
int nl_request(struct nl *nl, struct nlmsghdr *nlh, const char *what, struct err *err);

/*
 * Send the @n requests that lie one behind the other in @requests, @len bytes in all
 * (mnl_nlmsg_batch_start(3) calls that a batch), by one system call, and wait for their
 * acks. The kernel takes each for itself, in order: 0 or -errno of each in @ret_codes.
 * 0 or -errno: of sending, or of waiting.
 */
int nl_request_many(struct nl *nl, void *requests, size_t len, int *ret_codes, unsigned n);

/*
 * Send a dump request (NLM_F_DUMP is added) and call @cb for each message. The
 * dump is repeated, at most a few times, if the kernel says that it was
 * interrupted (NLM_F_DUMP_INTR): @restart, if any, is called before, so that the
 * caller can forget what it has. 0 or -errno with @err.
 */
int nl_dump(struct nl *nl, struct nlmsghdr *nlh, mnl_cb_t cb, void (*restart)(void *data),
	    void *data, const char *what, struct err *err);

/* Read and throw away whatever multicast messages wait. Never blocks. */
void nl_drain(struct nl *nl);
