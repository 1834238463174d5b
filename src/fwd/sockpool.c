/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sockpool.c - sockets of the container's namespace, kept ready
 */
#include "fwd/sockpool.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "ns/agent.h"
#include "ns/errand.h"
#include "ns/fdpass.h"
#include "util.h"

#define SOCKPOOL_LOW	 (SOCKPOOL_MAX - AGENT_BATCH) /* at this many left, ask for more */
#define SOCKPOOL_WAIT_MS 200

_Static_assert((int)AGENT_V4 == (int)ADDR_V4 && (int)AGENT_V6 == (int)ADDR_V6 &&
		       (int)AGENT_TCP == (int)SOCKPOOL_TCP && (int)AGENT_UDP == (int)SOCKPOOL_UDP,
	       "families and kinds have one number");

void sockpool_init(struct sockpool *p, int channel, int errands)
{
	*p = (struct sockpool){ .channel = channel, .errands = errands };
}

void sockpool_fini(struct sockpool *p)
{
	for (unsigned kind = 0; kind < SOCKPOOL_KINDS; kind++)
		for (unsigned i = 0; i < ADDR_FAMILIES; i++)
			while (p->family[kind][i].n > 0)
				close(p->family[kind][i].fd[--p->family[kind][i].n]);
}

static int sockpool_ask(struct sockpool *p, enum sockpool_kind kind, enum addr_family family)
{
	struct agent_request req = { .kind = (uint8_t)kind,
				     .family = (uint8_t)family,
				     .n = AGENT_BATCH };

	if (p->family[kind][family].asked)
		return 0;
	if (send(p->channel, &req, sizeof(req), MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(req))
		return -EPIPE;
	p->family[kind][family].asked = true;
	return 0;
}

void sockpool_warm(struct sockpool *p, enum sockpool_kind kind)
{
	for (unsigned i = 0; i < ADDR_FAMILIES; i++)
		if (p->family[kind][i].n == 0)
			sockpool_ask(p, kind, (enum addr_family)i);
}

int sockpool_get(struct sockpool *p, enum sockpool_kind kind, enum addr_family family)
{
	struct sockpool_family *f = &p->family[kind][family];

	if (f->n <= SOCKPOOL_LOW && sockpool_ask(p, kind, family) < 0 && f->n == 0)
		return -EPIPE;
	return f->n > 0 ? f->fd[--f->n] : -EAGAIN;
}

/* Receive one answer: its number of descriptors in @ret_fd, or -errno. */
static int sockpool_receive_answer(int channel, struct agent_answer *a, int ret_fd[AGENT_BATCH])
{
	unsigned n;
	ssize_t len = fdpass_receive(channel, a, sizeof(*a), ret_fd, AGENT_BATCH, &n, MSG_DONTWAIT);

	if (len == sizeof(*a) && a->family < ADDR_FAMILIES && a->kind < AGENT_KINDS)
		return (int)n;
	while (n > 0)
		close(ret_fd[--n]);
	return len < 0 ? (int)len : -EPIPE;
}

static int sockpool_receive_one(struct sockpool *p)
{
	struct agent_answer a;
	int fd[AGENT_BATCH];
	int n = sockpool_receive_answer(p->channel, &a, fd);
	struct sockpool_family *f;

	if (n < 0)
		return n;
	f = a.kind < SOCKPOOL_KINDS ? &p->family[a.kind][a.family] : NULL;
	/* Asked for only when there is room for a whole batch: this is not the agent as we know it. */
	if (!f || f->n + (unsigned)n > SOCKPOOL_MAX) {
		while (n > 0)
			close(fd[--n]);
		return -EPIPE;
	}
	f->asked = false;
	memcpy(f->fd + f->n, fd, (size_t)n * sizeof(int));
	f->n += (unsigned)n;
	if (n > 0)
		return 0;
	/* Without descriptors and without a reason: our own table was full (MSG_CTRUNC). */
	return a.code != 0 ? -a.code : -EMFILE;
}

int sockpool_receive(struct sockpool *p)
{
	int ret;

	do
		ret = sockpool_receive_one(p);
	while (ret == 0);
	return ret == -EAGAIN ? 0 : ret;
}

static int sockpool_wait(const struct sockpool *p)
{
	struct pollfd pfd = { .fd = p->channel, .events = POLLIN };

	return poll(&pfd, 1, SOCKPOOL_WAIT_MS) > 0 ? 0 : -EAGAIN;
}

int sockpool_get_now(struct sockpool *p, enum sockpool_kind kind, enum addr_family family)
{
	int fd = sockpool_get(p, kind, family);
	int ret = 0;

	while (fd == -EAGAIN && ret == 0) {
		ret = sockpool_wait(p);
		if (ret == 0)
			ret = sockpool_receive(p);
		if (ret == 0)
			fd = sockpool_get(p, kind, family);
	}
	return fd >= 0 ? fd : ret < 0 ? ret : fd;
}

int sockpool_bind(const struct sockpool *p, int fd, const struct sockaddr *sa, socklen_t len)
{
	if (bind(fd, sa, len) == 0)
		return 0;
	return errno == EACCES ? errand_bind(p->errands, fd, sa, len) : -errno;
}

int sockpool_diag(const struct sockpool *p)
{
	struct agent_request req = { .kind = AGENT_DIAG, .n = 1 };
	struct agent_answer a;
	int fd[AGENT_BATCH] = { -1 }, n;

	if (send(p->channel, &req, sizeof(req), MSG_NOSIGNAL) != sizeof(req))
		return -EPIPE;
	n = sockpool_wait(p);
	if (n == 0)
		n = sockpool_receive_answer(p->channel, &a, fd);
	return n == 1 ? fd[0] : n < 0 ? n : a.code ? -a.code : -EMFILE;
}
