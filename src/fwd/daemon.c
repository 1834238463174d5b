/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon.c - going to the background
 *
 * The fork is the first thing, because threads do not survive one; the parent
 * leaves only when the child has bound every port and is inside the namespace,
 * so its exit status says whether all is well.
 */
#include "fwd/daemon.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "fwd/log.h"
#include "util.h"

static _Noreturn void daemon_wait(pid_t child, int ready, const struct notify *notify)
{
	int status = 0;
	char byte;
	ssize_t n;

	do
		n = read(ready, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1) {
		notify_send(notify, "READY=1\nMAINPID=%d", (int)child);
		_exit(0);
	}
	if (waitpid(child, &status, 0) == child && WIFEXITED(status))
		_exit(WEXITSTATUS(status));
	_exit(1);
}

int daemon_prepare(struct daemon *d, struct err *err)
{
	d->null = open("/dev/null", O_RDWR | O_CLOEXEC);
	return d->null < 0 ? err_sys(err, errno, "/dev/null") : 0;
}

int daemon_fork(struct daemon *d, const struct notify *notify, struct err *err)
{
	int pair[2];
	pid_t child;

	if (pipe2(pair, O_CLOEXEC) != 0)
		return err_sys(err, errno, "pipe");
	child = fork();
	if (child < 0) {
		int code = errno;

		close(pair[0]);
		close(pair[1]);
		return err_sys(err, code, "fork");
	}
	if (child > 0) {
		close(pair[1]);
		daemon_wait(child, pair[0], notify);
	}
	close(pair[0]);
	d->ready = pair[1];
	return 0;
}

void daemon_let_go(struct daemon *d)
{
	for (int fd = 0; d->null >= 0 && fd < 3; fd++)
		dup2(d->null, fd);
	if (d->null > 2)
		close_fd(&d->null);
}

void daemon_ready(struct daemon *d)
{
	if (d->ready < 0)
		return;
	setsid();
	daemon_let_go(d);
	/* EPIPE: the parent was killed, so nobody waits. */
	if (write(d->ready, "", 1) == 1 || errno == EPIPE)
		close_fd(&d->ready);
}

void daemon_say_ready(int fd)
{
	if (fd < 0)
		return;
	if (write(fd, "1", 1) != 1)
		log_warn("--ready-fd: %s", strerror(errno));
	close(fd);
}

int pid_file_open(struct pid_file *p, const char *path, struct err *err)
{
	const struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int code;

	*p = (struct pid_file){ .path = path, .fd = -1, .ours = true };
	p->dir = open_parent(path, &p->name);
	if (p->dir < 0) {
		p->path = NULL;
		return err_sys(err, -p->dir, "pid file '%s'", path);
	}
	p->fd = openat(p->dir, p->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (p->fd < 0 && errno == EEXIST) {
		p->ours = false;
		p->fd = openat(p->dir, p->name, O_WRONLY | O_CLOEXEC);
	}
	if (p->fd >= 0) {
		/* fcntl(2)'s kind, which says who holds it. The first of several has it. */
		fcntl(p->fd, F_SETLK, &lock);
		return 0;
	}
	code = errno;
	close_fd(&p->dir);
	p->path = NULL;
	return err_sys(err, code, "pid file '%s'", path);
}

int pid_file_write(struct pid_file *p, struct err *err)
{
	if (!p->path)
		return 0;
	p->ours = true;
	if (ftruncate(p->fd, 0) != 0 || dprintf(p->fd, "%d\n", (int)getpid()) < 0)
		return err_sys(err, errno, "pid file '%s'", p->path);
	return 0;
}

void pid_file_remove(struct pid_file *p)
{
	if (p->path && p->ours)
		unlinkat(p->dir, p->name, 0);
	close_fd(&p->dir);
	close_fd(&p->fd);
}

pid_t pid_file_owner(const char *path)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fd < 0 || fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK)
		return 0;
	return lock.l_pid > 0 ? lock.l_pid : 0;
}

static bool inherited_is_kept(int fd, const int *keep, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (keep[i] == fd)
			return true;
	return false;
}

int inherited_note(struct inherited *i, const int *keep, unsigned n, struct err *err)
{
	DIR *dir = opendir("/proc/self/fd");
	uint32_t fd;

	*i = (struct inherited){ 0 };
	if (!dir)
		return err_sys(err, errno, "/proc/self/fd");
	for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
		int *v;

		if (!parse_u32(e->d_name, INT_MAX, &fd) || fd < 3 || (int)fd == dirfd(dir) ||
		    inherited_is_kept((int)fd, keep, n))
			continue;
		v = realloc(i->v, (i->n + 1) * sizeof(*v));
		if (!v)
			break;
		i->v = v;
		i->v[i->n++] = (int)fd;
	}
	closedir(dir);
	return 0;
}

void inherited_close(struct inherited *i)
{
	for (unsigned k = 0; k < i->n; k++)
		close(i->v[k]);
	free(i->v);
	*i = (struct inherited){ 0 };
}
