/* SPDX-License-Identifier: Apache-2.0 */
/*
 * errand.c - what the agent does for those outside
 *
 * The kernel lets the owner of a user namespace do anything in it, but only from
 * the user namespace above. Once confined, nobody of ours is there any more, so
 * the few things that need rights in the container come here: binding to a low
 * port, because a client has one, and routes for UDP clients. Everything else
 * about a socket works by having it.
 *
 * A question that was not answered in time leaves its answer behind; numbers
 * keep that from being taken for the next one's.
 */
#include "ns/errand.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/time.h>

#include "ns/fdpass.h"
#include "util.h"

#define ERRAND_WAIT_S 1

enum errand_kind { ERRAND_BIND, ERRAND_ADD, ERRAND_DEL };

/* Ends with what its kind needs, and with no more than @n routes. */
struct errand {
	uint32_t number; /* 0: no answer is wanted */
	uint8_t kind;	 /* enum errand_kind */
	uint8_t n;	 /* routes */
	uint32_t len;	 /* of @sa */
	union {
		struct sockaddr_storage sa; /* ERRAND_BIND; the socket comes with it */
		struct nl_route routes[ERRAND_ROUTES];
	};
};

struct errand_answer {
	uint32_t number;
	int32_t code;	 /* 0 or -errno, of one that failed */
	uint64_t failed; /* routes, a bit for each */
};

_Static_assert(ERRAND_ROUTES <= 64, "a bit for each");

static size_t errand_size(const struct errand *e)
{
	return e->kind == ERRAND_BIND ? offsetof(struct errand, sa) + sizeof(e->sa)
				      : offsetof(struct errand, routes) + e->n * sizeof(*e->routes);
}

int errand_channel(int ret_pair[2], struct err *err)
{
	struct timeval limit = { .tv_sec = ERRAND_WAIT_S };

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_pair) != 0)
		return err_sys(err, errno, "socketpair");
	setsockopt(ret_pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(ret_pair[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return 0;
}

/* ---------------------------------------------------------------- the asker */

/* Each thread has a channel of its own, so a number of its own is enough. */
static uint32_t errand_number(void)
{
	static _Thread_local uint32_t last;

	if (++last == 0)
		last = 1;
	return last;
}

/* Send @e with @fd, if that is one. 0 or -errno. */
static int errand_send(int channel, const struct errand *e, int fd)
{
	int ret = fdpass_send(channel, e, errand_size(e), &fd, fd >= 0);

	return ret == -EAGAIN ? -ETIMEDOUT : ret;
}

/* 0 and the answer in *@ret, or -errno. */
static int errand_ask(int channel, struct errand *e, int fd, struct errand_answer *ret)
{
	int code;

	ret->number = 0;
	e->number = errand_number();
	code = errand_send(channel, e, fd);
	while (code == 0 && ret->number != e->number) {
		ssize_t n = recv(channel, ret, sizeof(*ret), 0);

		if (n < 0 && errno != EINTR)
			code = errno == EAGAIN ? -ETIMEDOUT : -errno;
		else if (n >= 0 && n != sizeof(*ret))
			code = -EPIPE;
	}
	return code;
}

int errand_bind(int channel, int fd, const struct sockaddr *sa, socklen_t len)
{
	struct errand e = { .kind = ERRAND_BIND, .len = len };
	struct errand_answer a = { 0 };
	int ret;

	fwd_assert(len <= sizeof(e.sa));
	memcpy(&e.sa, sa, len);
	ret = errand_ask(channel, &e, fd, &a);
	return ret < 0 ? ret : a.code;
}

static void errand_fill(struct errand *e, enum errand_kind kind, const struct nl_route *routes,
			unsigned n)
{
	fwd_assert(n <= ERRAND_ROUTES);
	e->number = 0;
	e->kind = (uint8_t)kind;
	e->n = (uint8_t)n;
	e->len = 0;
	memcpy(e->routes, routes, n * sizeof(*routes));
}

int errand_add(int channel, const struct nl_route *routes, unsigned n, uint64_t *ret_failed,
	       int *ret_code)
{
	struct errand_answer a = { 0 };
	struct errand e;
	int ret;

	errand_fill(&e, ERRAND_ADD, routes, n);
	ret = errand_ask(channel, &e, -1, &a);
	*ret_failed = ret < 0 ? 0 : a.failed;
	*ret_code = ret < 0 ? 0 : a.code;
	return ret;
}

void errand_delete(int channel, const struct nl_route *routes, unsigned n)
{
	struct errand e;

	errand_fill(&e, ERRAND_DEL, routes, n);
	errand_send(channel, &e, -1);
}

/* ---------------------------------------------------------------- the agent */

static bool errand_is_allowed(const struct nl_route *r, const struct errand_limits *limits)
{
	return r->protocol == limits->protocol && r->table >= limits->table &&
	       r->table - limits->table < limits->n_tables;
}

/* Each route for itself: the answer says which could not be had. */
static void errand_do_routes(const struct errand *e, struct nl *nl, struct errand_answer *a)
{
	int codes[ERRAND_ROUTES];

	if (e->kind == ERRAND_ADD)
		nl_routes_add(nl, e->routes, e->n, codes);
	else
		nl_routes_del(nl, e->routes, e->n, codes);
	for (unsigned i = 0; i < e->n; i++) {
		if (codes[i] == 0)
			continue;
		a->failed |= 1ull << i;
		a->code = codes[i];
	}
}

static void errand_do(const struct errand *e, int fd, struct nl *nl,
		      const struct errand_limits *limits, struct errand_answer *a)
{
	errno = EBADF; /* of a socket that did not come */
	if (e->kind == ERRAND_BIND) {
		if (fd < 0 || bind(fd, (const struct sockaddr *)&e->sa, e->len) != 0)
			a->code = -errno;
		return;
	}
	for (unsigned i = 0; i < e->n; i++)
		if (!errand_is_allowed(&e->routes[i], limits))
			a->code = -EPERM;
	if (a->code == 0)
		errand_do_routes(e, nl, a);
	else
		a->failed = UINT64_MAX;
}

static bool errand_is_whole(const struct errand *e, size_t len)
{
	return len >= offsetof(struct errand, routes) && e->kind <= ERRAND_DEL &&
	       e->n <= ERRAND_ROUTES && e->len <= sizeof(e->sa) && len == errand_size(e);
}

bool errand_serve(int channel, struct nl *nl, const struct errand_limits *limits)
{
	struct errand e;
	struct errand_answer a = { 0 };
	cleanup_fd int fd = -1;
	unsigned n_fds;
	ssize_t n = fdpass_receive(channel, &e, sizeof(e), &fd, 1, &n_fds, MSG_DONTWAIT);

	if (n < 0)
		return n == -EAGAIN;
	if (!errand_is_whole(&e, (size_t)n))
		return false;
	a.number = e.number;
	errand_do(&e, fd, nl, limits, &a);
	if (e.number != 0)
		send(channel, &a, sizeof(a), MSG_DONTWAIT | MSG_NOSIGNAL);
	return true;
}
