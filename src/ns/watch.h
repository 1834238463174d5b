/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Notice that a namespace has ended: the process that it was found by has
 * exited, or the file that it was mounted on is gone. At once by pidfd or
 * inotify(7); by looking once a second where neither tells (a mount that was
 * lifted from a file that stays).
 */

#include <stdbool.h>

#include "err.h"
#include "ns/find.h"

struct ns_watch {
	const struct ns_target *target;
	int inotify;	  /* owned; -1 if watched by pidfd */
	int dir;	  /* that the file is in; owned; likewise */
	const char *name; /* of the file, in there */
};

/* How long a caller may wait between two calls of ns_watch_ended(), in ms; -1: for ever. */
int ns_watch_interval(const struct ns_watch *w);

/* 0 or -errno with @err. @target must outlive the watch. */
int ns_watch_start(struct ns_watch *w, const struct ns_target *target, struct err *err);
void ns_watch_stop(struct ns_watch *w);

/* Becomes readable when there is reason to call ns_watch_ended(). */
int ns_watch_fd(const struct ns_watch *w);

/* Whether the namespace has ended. Never blocks. */
bool ns_watch_ended(struct ns_watch *w);
