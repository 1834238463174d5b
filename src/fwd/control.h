/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The control socket: a UNIX stream socket by which rules are changed and counters and
 * flows are read while fwd runs. One JSON object a line, each way (request.h, answer.h).
 * For the main thread, which has other things to do: nothing here ever waits.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"
#include "fwd/request.h"
#include "fwd/worker.h"

/* What answers a request: a new object, or NULL without memory. Not for flows. */
typedef json_t *control_serve(void *ctx, const struct request *req);

struct control {
	int fd;		  /* that listens; owned; -1: there is no control socket */
	int dir;	  /* of the socket file, to unlink it; owned */
	const char *name; /* in there */
	dev_t dev;	  /* which file it was, so that it is no other that we unlink */
	ino_t ino;
	uid_t uid;			/* who may use it: ours */
	int epoll;			/* owned */
	int event;			/* eventfd of snapshots; owned */
	uint64_t accept_at;		/* no sooner: descriptors had run out; 0: at any time */
	struct control_client *clients; /* owned */
	const struct portspec_env *env;
	/* Set by the caller when there are workers. */
	control_serve *serve;
	void *ctx;
	struct worker *const *workers;
	unsigned n_workers;
};

/*
 * Make the socket at @path, which outlives it, for the caller's user alone. A
 * file that a process which is gone has left is replaced. 0, or -errno with @err; then
 * nothing is left.
 */
int control_open(struct control *c, const char *path, const struct portspec_env *env,
		 struct err *err);

/* A descriptor to poll(2) for POLLIN. */
int control_fd(const struct control *c);

/* Milliseconds after which control_run() is due in any case; -1: none. */
int control_interval(const struct control *c);

/* Do what is to be done, a little of it for each client. */
void control_run(struct control *c);

/* Remove the socket file, if it is ours still. */
void control_unlink(struct control *c);

/* Remove the socket file; close everything. The workers have ended. */
void control_close(struct control *c);
