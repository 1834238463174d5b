/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Going to the background, and the pid file. */

#include <stdbool.h>
#include <sys/types.h>

#include "err.h"
#include "fwd/notify.h"

struct daemon {
	int ready; /* the waiting parent's pipe; owned; -1: in the foreground */
	int null;  /* /dev/null; owned; likewise */
};

/*
 * Open what is needed later, when there may be no file system to find it in: before
 * daemon_fork() and daemon_let_go(). 0 or -errno with @err.
 */
int daemon_prepare(struct daemon *d, struct err *err);

/*
 * Fork: the child returns 0 and goes on, still attached to its terminal. The
 * parent never returns: it waits for daemon_ready() of the child and exits with
 * 0, or with the child's status if that ends before. It also tells @notify's reader,
 * who would not believe it of the child. -errno with @err.
 */
int daemon_fork(struct daemon *d, const struct notify *notify, struct err *err);

/* Point 0, 1 and 2 to /dev/null, once, after daemon_prepare(). */
void daemon_let_go(struct daemon *d);

/* Everything is ready: let the parent go, leave the session, and close 0, 1 and 2. */
void daemon_ready(struct daemon *d);

/* Write "1" to @fd and close it, as slirp4netns does; -1: nothing. Nobody may be there. */
void daemon_say_ready(int fd);

struct pid_file {
	const char *path; /* NULL: none */
	int fd;		  /* owned */
	int dir;	  /* the directory that it is in; owned */
	const char *name; /* its name there */
	bool ours;	  /* it did not exist, or we have written it */
};

/*
 * Make sure early that the pid file can be written, and lock it, as far as that can be
 * done: see pid_file_owner(). One that exists, maybe of another instance, is left as it is
 * until pid_file_write(). After daemon_fork(), as locks are of processes. 0 or -errno with
 * @err.
 */
int pid_file_open(struct pid_file *p, const char *path, struct err *err);

/* Write our process id. 0 or -errno with @err. */
int pid_file_write(struct pid_file *p, struct err *err);

/* Remove it, if it is ours. */
void pid_file_remove(struct pid_file *p);

/*
 * The instance that has the pid file @path and runs; 0: none. It is known by its lock, not
 * by what is in the file: that may be old, and its number somebody else's by now.
 */
pid_t pid_file_owner(const char *path);

/* Descriptors above 2 that were open when the program began. */
struct inherited {
	int *v; /* owned */
	unsigned n;
};

/* Note them but the @n in @keep, before any other is opened. 0 or -errno with @err. */
int inherited_note(struct inherited *i, const int *keep, unsigned n, struct err *err);

/* Close them, if any were noted. */
void inherited_close(struct inherited *i);
