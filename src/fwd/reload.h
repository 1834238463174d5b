/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The socket by which Podman says that a container's address has changed, after
 * "podman network connect" and "disconnect": a client of this SOCK_SEQPACKET socket
 * sends the new address as a JSON string, and is answered "OK" or what is wrong.
 * One client at a time; only the user can connect.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "err.h"
#include "fwd/addr.h"

struct reload {
	const char *name; /* of the socket in its directory; in the path given at the start */
	int dir;	  /* its directory; owned; -1: there is no socket */
	int listen;	  /* owned */
	int conn;	  /* the client that there is, or -1; owned */
	ino_t ino;	  /* which file is ours */
};

/*
 * Make the socket @path, which must outlive @r, and its directory if need be; one that
 * is there already is replaced. 0, or -errno with @err.
 */
int reload_open(struct reload *r, const char *path, struct err *err);

/* Remove and close it. */
void reload_close(struct reload *r);

/* Readable: call reload_read(). -1 if there is no socket. */
int reload_fd(const struct reload *r);

/*
 * Go on with what there is to do, without blocking. True when a client has sent an
 * address, which is in *@ret (0.0.0.0 where it sent none): then reload_done() is owed.
 */
bool reload_read(struct reload *r, struct addr *ret);

/* Tell the client that its address is in use. */
void reload_done(struct reload *r);
