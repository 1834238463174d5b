/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load_udp.c - datagrams: a blast one way, and an echo
 *
 * Every datagram starts with {flow, sequence} and goes on with the pattern from
 * a place that both name, so the receiver can count what came, what came twice
 * or out of order, and what is not what was sent. Loss is the sender's count
 * less the receiver's: whoever started both takes the difference.
 *
 * The blast server is one plain socket without UDP_GRO, as most servers are.
 */
#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hist.h"
#include "load.h"

enum {
	UDP_BATCH = 64,
	UDP_MAX_FLOWS = 4096,
	UDP_GSO_BYTES = 65000,	  /* most that one UDP_SEGMENT send may carry */
	ECHO_LOST_NS = 200000000, /* an echo not back by then is lost, and asked anew */
};

struct udp_head {
	uint32_t flow;
	uint32_t seq;
};

/* The payload after the head. */
static uint64_t udp_pos(struct udp_head h)
{
	return (uint64_t)h.flow * 7919 + h.seq;
}

static void udp_fill(uint8_t *buf, size_t size, struct udp_head h)
{
	memcpy(buf, &h, sizeof(h));
	memcpy(buf + sizeof(h), pattern_at(udp_pos(h)), size - sizeof(h));
}

static bool udp_check(const uint8_t *buf, size_t len, size_t size, struct udp_head *ret_head)
{
	struct udp_head h;

	if (len != size)
		return false;
	memcpy(&h, buf, sizeof(h));
	if (h.flow >= UDP_MAX_FLOWS ||
	    !pattern_matches(buf + sizeof(h), len - sizeof(h), udp_pos(h), CHECK_SAMPLE))
		return false;
	*ret_head = h;
	return true;
}

/* Buffers for one sendmmsg() or recvmmsg(). */
struct batch {
	struct mmsghdr msg[UDP_BATCH];
	struct iovec iov[UDP_BATCH];
	struct sockaddr_storage from[UDP_BATCH];
	uint8_t buf[UDP_BATCH][LOAD_MAX_SIZE];
};

static struct batch *batch_new(size_t len)
{
	struct batch *b = calloc(1, sizeof(*b));

	if (!b)
		die(true, "calloc");
	for (int i = 0; i < UDP_BATCH; i++) {
		b->iov[i] = (struct iovec){ .iov_base = b->buf[i], .iov_len = len };
		b->msg[i].msg_hdr = (struct msghdr){ .msg_iov = &b->iov[i], .msg_iovlen = 1 };
	}
	return b;
}

static void batch_take_names(struct batch *b)
{
	for (int i = 0; i < UDP_BATCH; i++) {
		b->msg[i].msg_hdr.msg_name = &b->from[i];
		b->msg[i].msg_hdr.msg_namelen = sizeof(b->from[i]);
	}
}

static int *flows_open(const struct load_opts *o)
{
	int *fd = calloc(o->streams, sizeof(*fd));

	if (!fd || o->streams > UDP_MAX_FLOWS || o->size < sizeof(struct udp_head))
		die(false, "at most %d flows, at least %zu bytes", UDP_MAX_FLOWS,
		    sizeof(struct udp_head));
	for (unsigned int i = 0; i < o->streams; i++) {
		fd[i] = socket_client(o, SOCK_DGRAM);
		if (fd[i] < 0)
			die(false, "connect: %s", strerror(-fd[i]));
	}
	return fd;
}

/* ---------------------------------------------------------------- blast */

struct blast {
	uint64_t received, in_window, corrupt, reordered, first;
	uint32_t next[UDP_MAX_FLOWS]; /* the sequence number expected */
};

static void blast_take(struct blast *s, const struct load_opts *o, const uint8_t *buf, size_t len,
		       uint64_t now)
{
	struct udp_head h;

	if (!udp_check(buf, len, o->size, &h)) {
		s->corrupt++;
		return;
	}
	if (!s->first)
		s->first = now;
	s->received++;
	s->reordered += h.seq < s->next[h.flow];
	if (h.seq >= s->next[h.flow])
		s->next[h.flow] = h.seq + 1;
	if (now >= s->first + o->warmup_ns && now < s->first + o->seconds_ns)
		s->in_window++;
}

int blast_server(const struct load_opts *o)
{
	struct blast *s = calloc(1, sizeof(*s));
	struct batch *b = batch_new(LOAD_MAX_SIZE);
	int fd = socket_server(o, SOCK_DGRAM), ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev;

	if (!s)
		die(true, "calloc");
	epoll_add(ep, fd, EPOLLIN, NULL);
	say_ready();
	while (!stop_asked()) {
		int n;

		epoll_wait(ep, &ev, 1, 1000);
		while ((n = recvmmsg(fd, b->msg, UDP_BATCH, MSG_DONTWAIT, NULL)) > 0) {
			uint64_t now = now_ns();

			for (int i = 0; i < n; i++)
				blast_take(s, o, b->buf[i], b->msg[i].msg_len, now);
		}
	}
	json_begin(o);
	json_u64("received", s->received);
	json_f64("rate", (double)s->in_window * 1e9 / (double)(o->seconds_ns - o->warmup_ns));
	json_u64("corrupt", s->corrupt);
	json_u64("reordered", s->reordered);
	json_end();
	return s->corrupt > 0;
}

/* Fill one batch of flow @flow from *@seq on: UDP_BATCH datagrams, or one train of @gso. */
static unsigned int blast_fill(struct batch *b, const struct load_opts *o, uint32_t flow,
			       uint32_t *seq)
{
	unsigned int n = o->gso ? o->gso : UDP_BATCH;

	if (o->gso * o->size > UDP_GSO_BYTES)
		n = UDP_GSO_BYTES / o->size;
	for (unsigned int i = 0; i < n; i++) {
		struct udp_head h = { .flow = flow, .seq = (*seq)++ };

		udp_fill(o->gso ? b->buf[0] + i * o->size : b->buf[i], o->size, h);
	}
	if (o->gso)
		b->iov[0].iov_len = (size_t)n * o->size;
	return n;
}

/* Send what @b holds, waiting as a blocking sender would. Returns the datagrams sent. */
static unsigned int blast_send(int fd, struct batch *b, unsigned int n, bool gso)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	unsigned int done = 0, msgs = gso ? 1 : n;

	while (done < msgs) {
		int sent = sendmmsg(fd, b->msg + done, msgs - done, 0);

		/* ECONNREFUSED reports an earlier datagram: count this as tried, and lost. */
		if (sent < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS &&
		    errno != ECONNREFUSED)
			return gso ? 0 : done;
		if (sent > 0)
			done += (unsigned int)sent;
		else if (errno == EAGAIN)
			poll(&p, 1, 100);
	}
	return n;
}

static void flow_set_gso(int fd, unsigned int size)
{
	int segment = (int)size;

	if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment)) < 0)
		die(true, "UDP_SEGMENT");
}

/* With a rate: wait until the @sent-th datagram is due. */
static void blast_pace(const struct load_opts *o, uint64_t begin, uint64_t sent)
{
	uint64_t due, now = now_ns();

	if (!o->rate)
		return;
	due = begin + sent * 1000000000ULL / o->rate;
	if (due > now) {
		struct timespec ts = { .tv_sec = (time_t)((due - now) / 1000000000),
				       .tv_nsec = (long)((due - now) % 1000000000) };

		nanosleep(&ts, NULL);
	}
}

int blast_client(const struct load_opts *o)
{
	int *fd = flows_open(o);
	uint32_t *seq = calloc(o->streams, sizeof(*seq));
	struct batch *b = batch_new(o->size);
	uint64_t begin = now_ns(), end = begin + o->seconds_ns, sent = 0, failed = 0;
	unsigned int i = 0;

	if (!seq)
		die(true, "calloc");
	for (unsigned int f = 0; o->gso && f < o->streams; f++)
		flow_set_gso(fd[f], o->size);
	while (now_ns() < end && !stop_asked() && failed < 1000) {
		unsigned int n = blast_fill(b, o, i, &seq[i]);
		unsigned int done = blast_send(fd[i], b, n, o->gso > 0);

		sent += done;
		failed += done < n;
		blast_pace(o, begin, sent);
		i = (i + 1) % o->streams;
	}
	json_begin(o);
	json_u64("sent", sent);
	json_u64("failed", failed);
	json_end();
	return failed > 0;
}

/* ---------------------------------------------------------------- echo */

int echo_server(const struct load_opts *o)
{
	struct batch *b = batch_new(LOAD_MAX_SIZE);
	int fd = socket_server(o, SOCK_DGRAM), ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev;
	uint64_t done = 0, corrupt = 0;

	epoll_add(ep, fd, EPOLLIN, NULL);
	say_ready();
	while (!stop_asked()) {
		int n;

		epoll_wait(ep, &ev, 1, 1000);
		batch_take_names(b);
		while ((n = recvmmsg(fd, b->msg, UDP_BATCH, MSG_DONTWAIT, NULL)) > 0) {
			for (int i = 0; i < n; i++) {
				struct udp_head h;

				corrupt += !udp_check(b->buf[i], b->msg[i].msg_len, o->size, &h);
				b->iov[i].iov_len = b->msg[i].msg_len;
			}
			for (int out = 0, m; out < n; out += m) {
				m = sendmmsg(fd, b->msg + out, (unsigned int)(n - out), 0);
				if (m <= 0)
					m = 1; /* that one is lost */
			}
			for (int i = 0; i < n; i++)
				b->iov[i].iov_len = LOAD_MAX_SIZE;
			batch_take_names(b);
			done += (uint64_t)n;
		}
	}
	json_begin(o);
	json_u64("done", done);
	json_u64("corrupt", corrupt);
	json_end();
	return corrupt > 0;
}

struct echo {
	const struct load_opts *o;
	int ep;
	unsigned int clients; /* with --from: how many there have been */
	struct hist hist;
	uint64_t done, counted, lost, late, corrupt, failed;
	uint64_t count_from, end, now;
	uint8_t buf[LOAD_MAX_SIZE];
};

struct flow {
	int fd;
	struct udp_head head; /* the datagram in flight */
	uint64_t asked_at;
};

static void flow_ask(struct echo *e, struct flow *f)
{
	f->head.seq++;
	udp_fill(e->buf, e->o->size, f->head);
	f->asked_at = now_ns();
	/* ECONNREFUSED is an earlier datagram's; that one is found lost by its age. */
	if (send(f->fd, e->buf, e->o->size, 0) < 0 && errno != ECONNREFUSED && errno != EAGAIN)
		e->failed++;
}

/* As another client: a socket with another address. */
static void flow_renew(struct echo *e, struct flow *f)
{
	close(f->fd);
	f->fd = socket_client_from(e->o, e->clients++);
	if (f->fd < 0)
		die(false, "connect: %s", strerror(-f->fd));
	epoll_add(e->ep, f->fd, EPOLLIN, f);
}

static void flow_recv(struct echo *e, struct flow *f)
{
	struct udp_head h;
	ssize_t n;

	while ((n = recv(f->fd, e->buf, sizeof(e->buf), 0)) >= 0) {
		uint64_t now = now_ns();

		if (!udp_check(e->buf, (size_t)n, e->o->size, &h) || h.flow != f->head.flow) {
			e->corrupt++;
			continue;
		}
		if (h.seq != f->head.seq) {
			e->late++;
			continue;
		}
		e->done++;
		if (now >= e->count_from && now < e->end) {
			e->counted++;
			hist_add(&e->hist, now - f->asked_at);
		}
		if (e->o->from.ss_family != AF_UNSPEC)
			flow_renew(e, f);
		flow_ask(e, f);
	}
}

static void flows_expire(struct echo *e, struct flow *flows)
{
	uint64_t now = now_ns();

	for (unsigned int i = 0; i < e->o->streams; i++) {
		if (now - flows[i].asked_at < ECHO_LOST_NS)
			continue;
		e->lost++;
		flow_ask(e, &flows[i]);
	}
}

static int echo_report(const struct echo *e)
{
	json_begin(e->o);
	json_u64("done", e->done);
	json_f64("rate", (double)e->counted * 1e9 / (double)(e->o->seconds_ns - e->o->warmup_ns));
	json_u64("lost", e->lost);
	json_u64("late", e->late);
	json_u64("corrupt", e->corrupt);
	json_u64("failed", e->failed);
	hist_json(&e->hist, "lat");
	json_end();
	return e->corrupt || e->failed || e->done == 0;
}

int echo_client(const struct load_opts *o)
{
	struct echo *e = calloc(1, sizeof(*e));
	struct flow *flows = calloc(o->streams, sizeof(*flows));
	int *fd = flows_open(o);
	struct epoll_event ev[LOAD_EVENTS];
	uint64_t begin = now_ns(), expire = begin + ECHO_LOST_NS;

	if (!e || !flows)
		die(true, "calloc");
	e->o = o;
	e->ep = epoll_create1(EPOLL_CLOEXEC);
	e->count_from = begin + o->warmup_ns;
	e->end = begin + o->seconds_ns;
	for (unsigned int i = 0; i < o->streams; i++) {
		flows[i] = (struct flow){ .fd = fd[i], .head.flow = i };
		epoll_add(e->ep, fd[i], EPOLLIN, &flows[i]);
		flow_ask(e, &flows[i]);
	}
	while (now_ns() < e->end && !stop_asked()) {
		int n = epoll_wait(e->ep, ev, LOAD_EVENTS, wait_ms(e->end, 50));

		for (int i = 0; i < n; i++)
			flow_recv(e, ev[i].data.ptr);
		if (now_ns() > expire) {
			flows_expire(e, flows);
			expire = now_ns() + ECHO_LOST_NS / 4;
		}
	}
	return echo_report(e);
}
