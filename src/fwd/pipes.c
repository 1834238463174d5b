/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipes.c - pipes for splice(2)
 */
#include "fwd/pipes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "util.h"

#define PIPES_RETRY 256 /* requests until a user over the limit is tried again */

/* One splice_in brings 64 KiB; gathering more before passing on is what pays. */
static const int pipes_sizes[] = { 1024 * 1024, 512 * 1024, 256 * 1024 };

int pipes_init(struct pipes *p, unsigned max_idle)
{
	*p = (struct pipes){ .max_idle = max_idle };
	p->idle = calloc(max_idle, sizeof(*p->idle));
	return p->idle ? 0 : -ENOMEM;
}

void pipes_fini(struct pipes *p)
{
	while (p->n_idle > 0) {
		p->n_idle--;
		close_fd(&p->idle[p->n_idle].rd);
		close_fd(&p->idle[p->n_idle].wr);
	}
	free(p->idle);
	p->idle = NULL;
}

static bool pipes_open(struct pipes *p, struct pipe *ret)
{
	int fd[2];

	if (p->over_limit && p->until_try > 0) {
		p->until_try--;
		return false;
	}
	p->until_try = PIPES_RETRY;
	if (pipe2(fd, O_NONBLOCK | O_CLOEXEC) != 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(pipes_sizes); i++) {
		if (fcntl(fd[1], F_SETPIPE_SZ, pipes_sizes[i]) < 0)
			continue; /* EPERM: over the user's limit */
		p->over_limit = false;
		p->n_open++;
		*ret = (struct pipe){ .rd = fd[0], .wr = fd[1] };
		return true;
	}
	close(fd[0]);
	close(fd[1]);
	p->over_limit = true;
	return false;
}

bool pipes_get(struct pipes *p, struct pipe *ret)
{
	if (p->n_idle == 0)
		return pipes_open(p, ret);
	*ret = p->idle[--p->n_idle];
	return true;
}

void pipes_put(struct pipes *p, struct pipe *pipe, bool clean)
{
	if (pipe_is_none(pipe))
		return;
	if (clean && p->n_idle < p->max_idle) {
		p->idle[p->n_idle++] = *pipe;
	} else {
		close(pipe->rd);
		close(pipe->wr);
		p->n_open--;
	}
	*pipe = PIPE_NONE;
}
