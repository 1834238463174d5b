/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load_bulk.c - N streams, one or both ways, as fast as they go
 *
 * Both ends run the same loop; they differ in who connects. A sending side
 * sends the pattern until its time is up and then half-closes; a receiving side
 * checks the pattern, counts until EOF, and closes. Throughput is what the
 * *receiver* saw between @warmup and @seconds after its first byte; totals are
 * printed by both ends and compared by whoever started them.
 *
 * A download starts with a request of one byte, as downloads do: the server
 * sends nothing before.
 *
 *     OPEN --time up--> sent (half-closed) --`
 *       `--EOF--------> received ------------+--> both: closed
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "load.h"

struct stream {
	int fd;
	bool sending;	/* still has to send, or to half-close */
	bool receiving; /* has not seen EOF */
	bool asked;	/* client of a download: the request is out */
	uint64_t sent, received;
};

struct bulk {
	const struct load_opts *o;
	int ep, listener;
	unsigned int open, failed;
	bool corrupt;
	uint64_t sent, received, in_window; /* bytes */
	uint64_t send_end;		    /* senders stop here; 0: not started */
	uint64_t first, last;		    /* when the first and the last byte came */
	uint64_t now;			    /* read once per batch of events */
	uint8_t buf[LOAD_CHUNK];
};

static void stream_close(struct bulk *b, struct stream *s)
{
	close(s->fd);
	free(s);
	b->open--;
}

static void stream_fail(struct bulk *b, struct stream *s)
{
	b->failed++;
	stream_close(b, s);
}

static void stream_new(struct bulk *b, int fd)
{
	struct stream *s = calloc(1, sizeof(*s));
	uint32_t events = EPOLLIN;

	if (!s)
		die(true, "calloc");
	s->fd = fd;
	s->sending = b->o->send;
	s->receiving = true; /* a side that is sent nothing still waits for EOF */
	if (!b->o->server)
		events |= EPOLLOUT; /* a server waits for the first byte */
	epoll_add(b->ep, fd, events, s);
	b->open++;
}

/* False if the stream is gone. */
static bool stream_send(struct bulk *b, struct stream *s)
{
	if (!b->o->send && !s->asked) {
		s->asked = send(s->fd, pattern_at(0), 1, MSG_NOSIGNAL) == 1;
		s->sent = s->asked;
		b->sent += s->sent;
		epoll_change(b->ep, s->fd, EPOLLIN, s);
		return true;
	}
	if (s->sending && b->now < b->send_end) {
		ssize_t n = send(s->fd, pattern_at(s->sent), LOAD_CHUNK, MSG_NOSIGNAL);

		if (n > 0) {
			s->sent += (uint64_t)n;
			b->sent += (uint64_t)n;
		} else if (n < 0 && errno != EAGAIN && errno != EINTR) {
			stream_fail(b, s);
			return false;
		}
		return true;
	}
	s->sending = false;
	if (shutdown(s->fd, SHUT_WR) < 0) {
		stream_fail(b, s);
		return false;
	}
	if (!s->receiving) {
		stream_close(b, s);
		return false;
	}
	epoll_change(b->ep, s->fd, EPOLLIN, s);
	return true;
}

/* False if the stream is gone. */
static bool stream_recv(struct bulk *b, struct stream *s)
{
	ssize_t n = recv(s->fd, b->buf, sizeof(b->buf), 0);

	if (n < 0) {
		if (errno == EAGAIN || errno == EINTR)
			return true;
		stream_fail(b, s);
		return false;
	}
	if (n == 0) {
		s->receiving = false;
		if (!s->sending) {
			stream_close(b, s);
			return false;
		}
		epoll_change(b->ep, s->fd, EPOLLOUT, s);
		return true;
	}
	if (!pattern_matches(b->buf, (size_t)n, s->received, b->o->check))
		b->corrupt = true;
	if (s->received == 0 && s->sending && b->o->server)
		epoll_change(b->ep, s->fd, EPOLLIN | EPOLLOUT, s);
	s->received += (uint64_t)n;
	b->received += (uint64_t)n;
	if (!b->first)
		b->first = b->now;
	b->last = b->now;
	if (b->now >= b->first + b->o->warmup_ns && b->now < b->first + b->o->seconds_ns)
		b->in_window += (uint64_t)n;
	return true;
}

static void bulk_accept(struct bulk *b)
{
	int fd;

	while ((fd = accept4(b->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		if (!b->send_end)
			b->send_end = now_ns() + b->o->seconds_ns;
		stream_new(b, fd);
	}
}

static void bulk_events(struct bulk *b, int timeout)
{
	struct epoll_event ev[LOAD_EVENTS];
	int n = epoll_wait(b->ep, ev, LOAD_EVENTS, timeout);

	b->now = now_ns();
	for (int i = 0; i < n; i++) {
		struct stream *s = ev[i].data.ptr;

		if (!s) {
			bulk_accept(b);
			continue;
		}
		if (ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !stream_recv(b, s))
			continue;
		if (ev[i].events & EPOLLOUT)
			stream_send(b, s);
	}
}

static int bulk_report(struct bulk *b, bool hung)
{
	double window = (double)(b->o->seconds_ns - b->o->warmup_ns) / 1e9;

	json_begin(b->o);
	json_u64("sent_bytes", b->sent);
	json_u64("received_bytes", b->received);
	json_f64("received_bps", (double)b->in_window * 8 / window);
	json_f64("receive_span_s", (double)(b->last - b->first) / 1e9);
	json_u64("failed", b->failed);
	json_u64("corrupt", b->corrupt);
	json_u64("hung", hung);
	json_end();
	return b->failed || b->corrupt || hung;
}

static int bulk_serve(struct bulk *b)
{
	uint64_t drain = 0;

	b->listener = socket_server(b->o, SOCK_STREAM);
	epoll_add(b->ep, b->listener, EPOLLIN, NULL);
	say_ready();
	while (!drain || (b->open > 0 && now_ns() < drain)) {
		bulk_events(b, drain ? wait_ms(drain, 100) : 1000);
		if (stop_asked() && !drain)
			drain = now_ns() + LOAD_DRAIN_MS * 1000000ULL;
	}
	return bulk_report(b, b->open > 0);
}

static int bulk_connect(struct bulk *b)
{
	uint64_t deadline = now_ns() + b->o->seconds_ns + b->o->grace_ns;

	b->send_end = now_ns() + b->o->seconds_ns;
	for (unsigned int i = 0; i < b->o->streams; i++) {
		int fd = socket_client(b->o, SOCK_STREAM);

		if (fd < 0)
			b->failed++;
		else
			stream_new(b, fd);
	}
	while (b->open > 0 && now_ns() < deadline && !stop_asked())
		bulk_events(b, wait_ms(deadline, 1000));
	return bulk_report(b, b->open > 0);
}

int bulk_run(const struct load_opts *o)
{
	struct bulk *b = calloc(1, sizeof(*b));
	int status;

	if (!b)
		die(true, "calloc");
	b->o = o;
	b->ep = epoll_create1(EPOLL_CLOEXEC);
	status = o->server ? bulk_serve(b) : bulk_connect(b);
	close(b->ep);
	free(b);
	return status;
}
