/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.c - notice that a namespace has ended
 *
 * A process: its pidfd becomes readable. A path: its directory is watched for
 * the unlink, because that must not take a poll's time: whoever restarts a
 * container binds its ports again within milliseconds. The directory is held open,
 * because the caller may lose sight of the path (confine.h).
 */
#include "ns/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util.h"

#define WATCH_INTERVAL_MS 1000

int ns_watch_interval(const struct ns_watch *w)
{
	return w->target->pid_fd >= 0 ? -1 : WATCH_INTERVAL_MS;
}

int ns_watch_start(struct ns_watch *w, const struct ns_target *target, struct err *err)
{
	char path[32];

	*w = (struct ns_watch){ .target = target, .inotify = -1, .dir = -1 };
	if (target->pid_fd >= 0)
		return 0;
	w->dir = open_parent(target->path, &w->name);
	if (w->dir < 0)
		return err_sys(err, -w->dir, "directory of '%s'", target->path);
	w->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->inotify < 0)
		return err_sys(err, errno, "inotify");
	/* Where it cannot be watched, looking once a second does. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", w->dir);
	inotify_add_watch(w->inotify, path,
			  IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF);
	return 0;
}

void ns_watch_stop(struct ns_watch *w)
{
	close_fd(&w->inotify);
	close_fd(&w->dir);
}

int ns_watch_fd(const struct ns_watch *w)
{
	return w->target->pid_fd >= 0 ? w->target->pid_fd : w->inotify;
}

/* Whether any event says that the file, or its directory, has gone. */
static bool ns_watch_read(const struct ns_watch *w)
{
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	const struct inotify_event *e;
	bool gone = false;
	ssize_t n;

	while ((n = read(w->inotify, buf, sizeof(buf))) > 0)
		for (char *p = buf; p < buf + n; p += sizeof(*e) + e->len) {
			e = (const struct inotify_event *)p;
			gone |= e->len == 0 || strcmp(e->name, w->name) == 0;
		}
	return gone;
}

bool ns_watch_ended(struct ns_watch *w)
{
	struct pollfd pfd = { .fd = w->target->pid_fd, .events = POLLIN };
	struct stat st;
	bool gone;

	if (w->target->pid_fd >= 0)
		return poll(&pfd, 1, 0) > 0;
	gone = ns_watch_read(w);
	if (fstatat(w->dir, w->name, &st, 0) == 0)
		return st.st_ino != w->target->ino || st.st_dev != w->target->dev;
	/* Root, without its capabilities, cannot look into others' directories. */
	return errno != EACCES || gone;
}
