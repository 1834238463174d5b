/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load_rr.c - requests and replies on long-lived connections, and idle ones
 *
 * The server answers each @size bytes with @size bytes. The client has one
 * request in flight on each connection and times it from send to last byte.
 * Both check what they get: the pattern runs on from one message to the next.
 * "idle" is the same client stopped after one exchange on each connection.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hist.h"
#include "load.h"

enum {
	IDLE_BATCH = 64, /* connections opened at once by "idle" */
};

struct conn {
	int fd;
	unsigned int want; /* bytes missing from the message that we receive */
	unsigned int left; /* bytes missing from the message that we send */
	uint64_t in, out;  /* positions in the pattern */
	uint64_t asked_at; /* when the request went out */
	bool served;	   /* at least one exchange done */
	bool closing;	   /* server of "crr": close when the reply is out */
};

struct rr {
	const struct load_opts *o;
	int ep, listener;
	unsigned int open, served;
	uint64_t done, counted, failed, corrupt, closed_early;
	uint64_t begin, count_from, end;
	struct hist hist;
	uint8_t buf[LOAD_MAX_SIZE];
};

static void conn_close(struct rr *r, struct conn *c)
{
	close(c->fd);
	free(c);
	r->open--;
}

static struct conn *conn_new(struct rr *r, int fd)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		die(true, "calloc");
	c->fd = fd;
	c->want = r->o->size;
	r->open++;
	return c;
}

/* Send what is left of the message. False on an error. */
static bool conn_send(struct conn *c)
{
	while (c->left > 0) {
		ssize_t n = send(c->fd, pattern_at(c->out), c->left, MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		c->left -= (unsigned int)n;
		c->out += (uint64_t)n;
	}
	return true;
}

/* Receive into the message. 1: it is complete; 0: not yet; -1: EOF; -2: an error. */
static int conn_recv(struct rr *r, struct conn *c)
{
	while (c->want > 0) {
		ssize_t n = recv(c->fd, r->buf, c->want, 0);

		if (n == 0)
			return -1;
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -2;
		if (!pattern_matches(r->buf, (size_t)n, c->in, CHECK_FULL))
			r->corrupt++;
		c->want -= (unsigned int)n;
		c->in += (uint64_t)n;
	}
	c->want = r->o->size;
	return 1;
}

/* ---------------------------------------------------------------- server */

static void server_accept(struct rr *r)
{
	int fd;

	while ((fd = accept4(r->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct conn *c = conn_new(r, fd);

		c->closing = strcmp(r->o->scenario, "crr") == 0;
		epoll_add(r->ep, fd, EPOLLIN | EPOLLOUT | EPOLLET, c);
	}
}

static void server_event(struct rr *r, struct conn *c)
{
	int got;

	for (;;) {
		if (!conn_send(c))
			break;
		if (c->left > 0)
			return;
		if (c->closing && c->out > 0) {
			conn_close(r, c);
			return;
		}
		got = conn_recv(r, c);
		if (got == 0)
			return;
		if (got == -1) {
			r->closed_early += c->want != r->o->size;
			conn_close(r, c);
			return;
		}
		if (got < 0)
			break;
		c->left = r->o->size;
		r->done++;
	}
	r->failed++;
	conn_close(r, c);
}

int rr_server(const struct load_opts *o)
{
	struct rr *r = calloc(1, sizeof(*r));
	struct epoll_event ev[LOAD_EVENTS];

	if (!r)
		die(true, "calloc");
	r->o = o;
	r->ep = epoll_create1(EPOLL_CLOEXEC);
	r->listener = socket_server(o, SOCK_STREAM);
	epoll_add(r->ep, r->listener, EPOLLIN, NULL);
	say_ready();
	while (!stop_asked()) {
		int n = epoll_wait(r->ep, ev, LOAD_EVENTS, 1000);

		for (int i = 0; i < n; i++) {
			if (ev[i].data.ptr)
				server_event(r, ev[i].data.ptr);
			else
				server_accept(r);
		}
	}
	json_begin(o);
	json_u64("done", r->done);
	json_u64("failed", r->failed);
	json_u64("corrupt", r->corrupt);
	json_u64("closed_early", r->closed_early);
	json_end();
	return r->corrupt > 0;
}

/* ---------------------------------------------------------------- client */

static void client_ask(struct rr *r, struct conn *c)
{
	c->left = r->o->size;
	c->asked_at = now_ns();
	if (!conn_send(c))
		r->failed++;
}

static bool client_open(struct rr *r)
{
	int fd = socket_client(r->o, SOCK_STREAM);
	struct conn *c;

	if (fd < 0) {
		r->failed++;
		return false;
	}
	c = conn_new(r, fd);
	epoll_add(r->ep, fd, EPOLLIN | EPOLLOUT | EPOLLET, c);
	return true;
}

/* One event of a connection. @again: ask anew after a reply. */
static void client_event(struct rr *r, struct conn *c, uint32_t events, bool again)
{
	int got;

	if (!c->asked_at && events & EPOLLOUT && !(events & EPOLLERR)) {
		client_ask(r, c);
		return;
	}
	if (!conn_send(c)) {
		r->failed++;
		conn_close(r, c);
		return;
	}
	got = conn_recv(r, c);
	if (got < 0) {
		r->failed++;
		conn_close(r, c);
	} else if (got == 1) {
		uint64_t now = now_ns();

		r->done++;
		r->served += !c->served;
		c->served = true;
		if (now >= r->count_from && now < r->end) {
			r->counted++;
			hist_add(&r->hist, now - c->asked_at);
		}
		if (again && now < r->end)
			client_ask(r, c);
		else if (again)
			conn_close(r, c);
	}
}

static void client_events(struct rr *r, int timeout, bool again)
{
	struct epoll_event ev[LOAD_EVENTS];
	int n = epoll_wait(r->ep, ev, LOAD_EVENTS, timeout);

	for (int i = 0; i < n; i++)
		client_event(r, ev[i].data.ptr, ev[i].events, again);
}

static struct rr *client_new(const struct load_opts *o)
{
	struct rr *r = calloc(1, sizeof(*r));

	if (!r)
		die(true, "calloc");
	r->o = o;
	r->ep = epoll_create1(EPOLL_CLOEXEC);
	r->begin = now_ns();
	r->count_from = r->begin + o->warmup_ns;
	r->end = r->begin + o->seconds_ns;
	return r;
}

int rr_client(const struct load_opts *o)
{
	struct rr *r = client_new(o);
	uint64_t deadline = r->end + o->grace_ns;
	bool hung;

	for (unsigned int i = 0; i < o->streams; i++)
		client_open(r);
	while (r->open > 0 && now_ns() < deadline && !stop_asked())
		client_events(r, wait_ms(deadline, 1000), true);
	hung = r->open > 0;
	json_begin(o);
	json_u64("done", r->done);
	json_f64("rate", (double)r->counted * 1e9 / (double)(o->seconds_ns - o->warmup_ns));
	json_u64("failed", r->failed);
	json_u64("corrupt", r->corrupt);
	json_u64("hung", hung);
	hist_json(&r->hist, "lat");
	json_end();
	return r->failed || r->corrupt || hung || r->served != o->streams;
}

/*
 * Open them, IDLE_BATCH at a time, one exchange on each, print the line, and
 * hold them until SIGTERM: whoever started us measures meanwhile.
 */
int idle_client(const struct load_opts *o)
{
	struct rr *r = client_new(o);
	uint64_t deadline = r->begin + o->grace_ns;
	unsigned int opened = 0;

	r->end = UINT64_MAX;
	while (r->served < o->streams && r->failed == 0 && now_ns() < deadline && !stop_asked()) {
		while (opened < o->streams && opened < r->served + IDLE_BATCH && client_open(r))
			opened++;
		client_events(r, wait_ms(deadline, 1000), false);
	}
	json_begin(o);
	json_u64("open", r->served);
	json_f64("open_s", (double)(now_ns() - r->begin) / 1e9);
	json_u64("failed", r->failed);
	json_u64("corrupt", r->corrupt);
	json_u64("hung", r->failed == 0 && r->served < o->streams);
	json_end();
	deadline = now_ns() + 10 * o->grace_ns;
	while (!stop_asked() && now_ns() < deadline)
		client_events(r, wait_ms(deadline, 1000), false);
	return r->failed || r->corrupt || r->served < o->streams;
}
