/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sockpool.c - sockets of the container's namespace, kept ready
 */
#include "fwd/sockpool.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "ns/agent.h"
#include "util.h"

#define SOCKPOOL_LOW (SOCKPOOL_MAX - AGENT_BATCH) /* at this many left, ask for more */

_Static_assert((int)AGENT_V4 == (int)ADDR_V4 && (int)AGENT_V6 == (int)ADDR_V6,
	       "families have one number");

void sockpool_init(struct sockpool *p, int channel)
{
	*p = (struct sockpool){ .channel = channel };
}

void sockpool_fini(struct sockpool *p)
{
	for (unsigned i = 0; i < ADDR_FAMILIES; i++)
		while (p->family[i].n > 0)
			close(p->family[i].fd[--p->family[i].n]);
}

static int sockpool_ask(struct sockpool *p, enum addr_family family)
{
	struct agent_request req = { .family = (uint8_t)family, .n = AGENT_BATCH };

	if (p->family[family].asked)
		return 0;
	if (send(p->channel, &req, sizeof(req), MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(req))
		return -EPIPE;
	p->family[family].asked = true;
	return 0;
}

void sockpool_warm(struct sockpool *p)
{
	for (unsigned i = 0; i < ADDR_FAMILIES; i++)
		sockpool_ask(p, (enum addr_family)i);
}

int sockpool_get(struct sockpool *p, enum addr_family family)
{
	struct sockpool_family *f = &p->family[family];

	if (f->n <= SOCKPOOL_LOW && sockpool_ask(p, family) < 0 && f->n == 0)
		return -EPIPE;
	return f->n > 0 ? f->fd[--f->n] : -EAGAIN;
}

static int sockpool_receive_one(struct sockpool *p, enum addr_family *ret_family)
{
	char control[CMSG_SPACE(sizeof(int) * AGENT_BATCH)] __attribute__((aligned(8)));
	struct agent_answer a;
	struct iovec iov = { .iov_base = &a, .iov_len = sizeof(a) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = sizeof(control) };
	ssize_t len = recvmsg(p->channel, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	struct sockpool_family *f;
	struct cmsghdr *c;

	if (len < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	if (len != sizeof(a) || a.family >= ADDR_FAMILIES)
		return -EPIPE;
	f = &p->family[a.family];
	f->asked = false;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		/* Asked for only when there is room for a whole batch. */
		fwd_assert(f->n + n <= SOCKPOOL_MAX);
		memcpy(f->fd + f->n, CMSG_DATA(c), n * sizeof(int));
		f->n += (unsigned)n;
		if (n > 0)
			return 0;
	}
	*ret_family = (enum addr_family)a.family;
	/* Without descriptors and without a reason: our own table was full (MSG_CTRUNC). */
	return a.code != 0 ? -a.code : -EMFILE;
}

int sockpool_receive(struct sockpool *p, enum addr_family *ret_family)
{
	int ret;

	do
		ret = sockpool_receive_one(p, ret_family);
	while (ret == 0);
	return ret == -EAGAIN ? 0 : ret;
}
