/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load_crr.c - a connection for each request, and probes made of one connection
 *
 * "crr" keeps @streams connection attempts going: connect, request, reply, and
 * the server closes, as HTTP/1.0 does, so that TIME_WAIT is the far side's.
 * "first" is the same one at a time with a pause before each: what a user waits
 * for the first byte over a new connection. The probes ask when a port starts
 * to answer, and when it can be bound again.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hist.h"
#include "load.h"

enum {
	CRR_MAX_FAILED = 100,	    /* then there is no point in going on */
	PROBE_STEP_NS = 100 * 1000, /* between two attempts of a probe */
};

struct slot {
	int fd; /* -1: between two connections */
	bool asked;
	unsigned int got;	 /* bytes of the reply */
	uint64_t began, replied; /* the attempt; its first byte of reply */
};

struct crr {
	const struct load_opts *o;
	int ep;
	unsigned int open;
	uint64_t done, counted, failed, corrupt;
	uint64_t count_from, end;
	struct hist total, first;
	uint8_t buf[LOAD_MAX_SIZE];
};

static void slot_open(struct crr *c, struct slot *s)
{
	s->began = now_ns();
	s->asked = false;
	s->got = 0;
	s->fd = socket_client(c->o, SOCK_STREAM);
	if (s->fd < 0) {
		c->failed++;
		return;
	}
	c->open++;
	epoll_add(c->ep, s->fd, EPOLLIN | EPOLLOUT | EPOLLET, s);
}

static void slot_close(struct crr *c, struct slot *s, bool failed)
{
	uint64_t now = now_ns();

	close(s->fd);
	s->fd = -1;
	c->open--;
	if (failed) {
		c->failed++;
		return;
	}
	c->done++;
	if (now >= c->count_from && now < c->end) {
		c->counted++;
		hist_add(&c->total, now - s->began);
		hist_add(&c->first, s->replied - s->began);
	}
}

/* Until EOF. True if the connection is finished; *@ret_failed says how. */
static bool slot_recv(struct crr *c, struct slot *s, bool *ret_failed)
{
	for (;;) {
		ssize_t n = recv(s->fd, c->buf, sizeof(c->buf), 0);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return false;
		if (n <= 0) {
			*ret_failed = n < 0 || s->got != c->o->size;
			return true;
		}
		if (s->got == 0)
			s->replied = now_ns();
		if (!pattern_matches(c->buf, (size_t)n, s->got, CHECK_FULL))
			c->corrupt++;
		s->got += (unsigned int)n;
	}
}

static void slot_event(struct crr *c, struct slot *s, uint32_t events)
{
	bool failed = false;

	if (!s->asked && events & EPOLLOUT && !(events & (EPOLLERR | EPOLLHUP))) {
		s->asked = true;
		failed = send(s->fd, pattern_at(0), c->o->size, MSG_NOSIGNAL) != (int)c->o->size;
	}
	if (failed || (events & (EPOLLIN | EPOLLERR | EPOLLHUP) && slot_recv(c, s, &failed))) {
		slot_close(c, s, failed);
		if (c->o->pause_ns == 0 && now_ns() < c->end && c->failed < CRR_MAX_FAILED)
			slot_open(c, s);
	}
}

static void sleep_ns(uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / 1000000000),
			       .tv_nsec = (long)(ns % 1000000000) };

	nanosleep(&ts, NULL);
}

/* "first": each connection on its own, after a pause. */
static bool crr_pauses(struct crr *c, struct slot *s)
{
	if (c->o->pause_ns == 0 || now_ns() >= c->end || c->failed >= CRR_MAX_FAILED)
		return false;
	sleep_ns(c->o->pause_ns);
	slot_open(c, s);
	return true;
}

int crr_client(const struct load_opts *o)
{
	struct crr *c = calloc(1, sizeof(*c));
	struct slot *slots = calloc(o->streams, sizeof(*slots));
	struct epoll_event ev[LOAD_EVENTS];
	uint64_t begin = now_ns(), deadline = begin + o->seconds_ns + o->grace_ns;

	if (!c || !slots)
		die(true, "calloc");
	c->o = o;
	c->ep = epoll_create1(EPOLL_CLOEXEC);
	c->count_from = begin + o->warmup_ns;
	c->end = begin + o->seconds_ns;
	for (unsigned int i = 0; i < o->streams; i++)
		slot_open(c, &slots[i]);
	while ((c->open > 0 || crr_pauses(c, &slots[0])) && now_ns() < deadline && !stop_asked()) {
		int n = epoll_wait(c->ep, ev, LOAD_EVENTS, wait_ms(deadline, 1000));

		for (int i = 0; i < n; i++)
			slot_event(c, ev[i].data.ptr, ev[i].events);
	}
	json_begin(o);
	json_u64("done", c->done);
	json_f64("rate", (double)c->counted * 1e9 / (double)(o->seconds_ns - o->warmup_ns));
	json_u64("failed", c->failed);
	json_u64("corrupt", c->corrupt);
	json_u64("hung", c->open > 0);
	hist_json(&c->total, "lat");
	hist_json(&c->first, "first");
	json_end();
	return c->failed || c->corrupt || c->open > 0 || c->done == 0;
}

/* ---------------------------------------------------------------- probes */

/* One exchange on a new connection, at most 100 ms. */
static bool probe_once(const struct load_opts *o)
{
	struct pollfd p = { .fd = socket_client(o, SOCK_STREAM), .events = POLLOUT };
	bool ok = false;
	uint8_t byte;

	if (p.fd < 0)
		return false;
	if (poll(&p, 1, 100) == 1 && send(p.fd, pattern_at(0), 1, MSG_NOSIGNAL) == 1) {
		p.events = POLLIN;
		ok = poll(&p, 1, 100) == 1 && recv(p.fd, &byte, 1, 0) == 1 &&
		     byte == *pattern_at(0);
	}
	close(p.fd);
	return ok;
}

/* The same with a datagram, for "echo"'s server: {flow, sequence} = 0 and no more. */
static bool probe_datagram(const struct load_opts *o)
{
	struct pollfd p = { .fd = socket_client(o, SOCK_DGRAM), .events = POLLIN };
	uint8_t head[8] = { 0 };
	bool ok;

	if (p.fd < 0)
		return false;
	ok = send(p.fd, head, sizeof(head), 0) == sizeof(head) && poll(&p, 1, 100) == 1 &&
	     recv(p.fd, head, sizeof(head), 0) == sizeof(head);
	close(p.fd);
	return ok;
}

static bool probe_bind(const struct load_opts *o)
{
	int on = 1, fd = socket(o->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok;

	if (fd < 0)
		die(true, "socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	ok = bind(fd, (const struct sockaddr *)&o->addr, o->addr_len) == 0 && listen(fd, 1) == 0;
	close(fd);
	return ok;
}

/* Try until it works or @grace_ns has passed; print when (CLOCK_MONOTONIC), and how often. */
static int probe_until(const struct load_opts *o, bool (*probe)(const struct load_opts *o))
{
	uint64_t deadline = now_ns() + o->grace_ns, tries = 0, at;
	bool ok = false;

	say_ready();
	do {
		ok = probe(o);
		at = now_ns();
		tries++;
		if (!ok)
			sleep_ns(PROBE_STEP_NS);
	} while (!ok && at < deadline && !stop_asked());
	json_begin(o);
	json_u64("ok", ok);
	json_u64("at_ns", at);
	json_u64("tries", tries);
	json_end();
	return !ok;
}

int probe_answer(const struct load_opts *o)
{
	return probe_until(o, probe_once);
}

int probe_answer_udp(const struct load_opts *o)
{
	return probe_until(o, probe_datagram);
}

int probe_free(const struct load_opts *o)
{
	return probe_until(o, probe_bind);
}
