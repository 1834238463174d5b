/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.c - notice that a namespace has ended
 *
 * A process: its pidfd becomes readable. A path: its directory is watched for
 * the unlink, because that must not take a poll's time: whoever restarts a
 * container binds its ports again within milliseconds.
 */
#include "ns/watch.h"

#include <errno.h>
#include <poll.h>
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
	char dir[sizeof(target->path)];
	char *slash;

	*w = (struct ns_watch){ .target = target, .inotify = -1 };
	if (target->pid_fd >= 0)
		return 0;
	memcpy(dir, target->path, sizeof(dir));
	slash = strrchr(dir, '/');
	if (slash)
		slash[slash == dir] = '\0';
	w->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->inotify < 0)
		return err_sys(err, errno, "inotify");
	/* Where it cannot be watched, looking once a second does. */
	inotify_add_watch(w->inotify, slash ? dir : ".",
			  IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF);
	return 0;
}

void ns_watch_stop(struct ns_watch *w)
{
	close_fd(&w->inotify);
}

int ns_watch_fd(const struct ns_watch *w)
{
	return w->target->pid_fd >= 0 ? w->target->pid_fd : w->inotify;
}

bool ns_watch_ended(struct ns_watch *w)
{
	struct pollfd pfd = { .fd = w->target->pid_fd, .events = POLLIN };
	char events[4096];
	struct stat st;

	if (w->target->pid_fd >= 0)
		return poll(&pfd, 1, 0) > 0;
	while (read(w->inotify, events, sizeof(events)) > 0)
		; /* which of them it was, stat(2) tells */
	return stat(w->target->path, &st) != 0 || st.st_ino != w->target->ino ||
	       st.st_dev != w->target->dev;
}
