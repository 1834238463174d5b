/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command.c - run a command in namespaces of its own
 *
 * The child reports over a pipe when its namespaces are there (or why not),
 * then waits at another one until the ports are open. EOF there means that the
 * parent gave up.
 */
#include "ns/command.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "ns/userns.h"
#include "util.h"

#define COMMAND_NOT_FOUND 127
#define COMMAND_NOT_RUN	  126

static _Noreturn void command_child(char *const *argv, int report, int go)
{
	struct err err = { 0 };
	sigset_t none;
	char byte;

	/* Never outlive the forwarder that is its network. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (userns_unshare(CLONE_NEWNET, 0, 0, &err) < 0)
		_exit(write(report, err.text, strlen(err.text)) < 0 ? 2 : 1);
	close(report);
	if (read(go, &byte, 1) != 1)
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	execvp(argv[0], argv);
	dprintf(STDERR_FILENO, "fwd: cannot run '%s': %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? COMMAND_NOT_FOUND : COMMAND_NOT_RUN);
}

/* What the child says before it waits: nothing, if all is well. */
static int command_wait_ready(int report, struct err *err)
{
	ssize_t n;

	do
		n = read(report, err->text, sizeof(err->text) - 1);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return 0;
	err->text[n] = '\0';
	return -EPERM;
}

int command_prepare(struct command *c, char *const *argv, struct err *err)
{
	int report[2] = { -1, -1 }, go[2] = { -1, -1 };
	int ret = 0;

	*c = (struct command){ .go = -1 };
	if (pipe2(report, O_CLOEXEC) != 0 || pipe2(go, O_CLOEXEC) != 0)
		ret = err_sys(err, errno, "pipe");
	if (ret == 0) {
		c->pid = fork();
		if (c->pid < 0)
			ret = err_sys(err, errno, "fork");
	}
	if (ret == 0 && c->pid == 0) {
		close(go[1]);
		command_child(argv, report[1], go[0]);
	}
	close_fd(&report[1]);
	if (ret == 0)
		ret = command_wait_ready(report[0], err);
	close_fd(&report[0]);
	close_fd(&go[0]);
	c->go = go[1];
	if (ret < 0)
		command_drop(c);
	return ret;
}

void command_go(struct command *c)
{
	if (write(c->go, "", 1) != 1)
		return; /* it was killed: its end tells */
	close_fd(&c->go);
}

void command_drop(struct command *c)
{
	close_fd(&c->go);
	if (c->pid <= 0)
		return;
	kill(c->pid, SIGKILL);
	waitpid(c->pid, NULL, 0);
	c->pid = 0;
}

int command_reap(struct command *c)
{
	int status;

	if (c->pid <= 0 || waitpid(c->pid, &status, WNOHANG) != c->pid)
		return -1;
	c->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
