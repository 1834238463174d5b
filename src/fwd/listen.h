/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Listening sockets in the host's network namespace. */

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "fwd/conf.h"

/*
 * Listen on host port @port of @rule, with @n sockets that share it
 * (SO_REUSEPORT), one for each worker. The first one takes the port alone, so that
 * a second instance of the same user is refused like anyone else; what it
 * accepts inherits keepalive and TCP_NODELAY.
 *
 * 0, and @ret_fd has @n descriptors, owned by the caller; or -errno with @err, and
 * nothing is left.
 */
int listen_open(const struct conf *conf, const struct rule *rule, uint16_t port, unsigned n,
		int *ret_fd, struct err *err);

/*
 * Make of a socket that another program has opened, and may go on to use, what
 * listen_open() gives. It is neither bound nor told to listen, and what its owner has
 * set of its buffers stays.
 */
void listen_adopt(int fd, enum proto proto);

/* Where @fd listens; true if that is [::], and IPv4 comes there, too. */
bool listen_bound(int fd, struct addr *ret);
