/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon.c - going to the background
 *
 * The fork is the first thing, because threads do not survive one; the parent
 * leaves only when the child has bound every port and is inside the namespace,
 * so its exit status says whether all is well.
 */
#include "fwd/daemon.h"

#include <errno.h>
#include <fcntl.h>
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

void daemon_let_go(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

void daemon_ready(struct daemon *d)
{
	if (d->ready < 0)
		return;
	setsid();
	daemon_let_go();
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
	*p = (struct pid_file){ .path = path, .ours = true };
	p->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (p->fd < 0 && errno == EEXIST) {
		p->ours = false;
		p->fd = open(path, O_WRONLY | O_CLOEXEC);
	}
	if (p->fd >= 0)
		return 0;
	p->path = NULL;
	return err_sys(err, errno, "pid file '%s'", path);
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
		unlink(p->path);
	close_fd(&p->fd);
}
