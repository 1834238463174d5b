/* SPDX-License-Identifier: Apache-2.0 */
/* Every byte arrives, once and in order, however it is sent and read. */

#include "lib.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

#define MIB (1024u * 1024u)

static struct conn start(struct world *w, int *ret_listener)
{
	*ret_listener = tcp_listen(&w->ct, ANY[w->v->fam], 80);
	fwd_start(w, ARGS("-t", "8080:80"));
	return conn_open(w, 8080, *ret_listener);
}

/* 64 MiB each way at once, closed by FIN. */
EACH_VARIANT(tcp_stream, bulk_both_ways_is_exact, 30)
{
	struct world *w = world_up(CT_ADDR, v);
	int l;
	struct conn c = start(w, &l);
	struct stream s[] = {
		{ .from = c.c, .to = c.a, .total = 64 * MIB, .fin = true },
		{ .from = c.a, .to = c.c, .total = 64 * MIB, .fin = true },
	};

	cr_expect(streams_run(s, 2, 25000));
	world_down(w);
}

/* The same through a container without a network. */
EACH_ENGINE(tcp_stream, bulk_without_network_is_exact, 30)
{
	struct world *w = world_up(CT_LO, v);
	int l;
	struct conn c = start(w, &l);
	struct stream s[] = {
		{ .from = c.c, .to = c.a, .total = 16 * MIB, .fin = true },
		{ .from = c.a, .to = c.c, .total = 16 * MIB, .fin = true },
	};

	cr_expect(streams_run(s, 2, 25000));
	world_down(w);
}

/* Under bbr, which everything may use, the bytes are the same. */
EACH_ENGINE(tcp_stream, bulk_under_bbr_is_exact, 30)
{
	struct world *w = world_up(CT_ADDR, v);
	const struct ns *all[] = { &w->client[0], &w->host, &w->ct };
	int l;
	struct conn c;

	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		int err = ns_sysctl(all[i], "net/ipv4/tcp_congestion_control", "bbr");

		if (err)
			cr_skip_test("bbr is not to be had: %s", strerror(-err));
	}
	c = start(w, &l);
	struct stream s[] = {
		{ .from = c.c, .to = c.a, .total = 16 * MIB, .fin = true },
		{ .from = c.a, .to = c.c, .total = 16 * MIB, .fin = true },
	};
	cr_expect(streams_run(s, 2, 25000));
	world_down(w);
}

/* A reader of 16 MB a second slows its own direction down, and loses nothing. */
EACH_VARIANT(tcp_stream, slow_reader_gets_every_byte, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int l;
	struct conn c = start(w, &l);
	struct stream s[] = {
		{ .from = c.c, .to = c.a, .total = 8 * MIB, .slow = 16384, .fin = true },
		{ .from = c.a, .to = c.c, .total = 16 * MIB, .fin = true },
	};

	cr_expect(streams_run(s, 2, 15000));
	cr_expect(fwd_idle(w));
	world_down(w);
}

/* A small receive window on both sides: many short writes inside. */
EACH_VARIANT(tcp_stream, small_windows_lose_nothing, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int l, size = 16384;
	struct conn c = start(w, &l);
	struct stream s[] = {
		{ .from = c.c, .to = c.a, .total = 1 * MIB, .slow = 5000, .fin = true },
		{ .from = c.a, .to = c.c, .total = 1 * MIB, .slow = 5000, .fin = true },
	};

	setsockopt(c.a, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	setsockopt(c.c, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	cr_expect(streams_run(s, 2, 15000));
	world_down(w);
}

/* Writes of odd sizes around the point where copying becomes splicing. */
EACH_VARIANT(tcp_stream, writes_of_all_sizes_are_exact, 20)
{
	static const size_t chunks[] = { 1000, 4095, 32767, 32768, 32769, 65537, 200001 };
	struct world *w = world_up(CT_ADDR, v);
	int l;
	struct conn c = start(w, &l);

	for (unsigned i = 0; i < ARRAY_SIZE(chunks); i++) {
		struct stream s[] = {
			{ .from = c.c, .to = c.a, .total = 1 * MIB + i, .chunk = chunks[i] },
			{ .from = c.a, .to = c.c, .total = 1 * MIB - i, .chunk = chunks[i] },
		};

		cr_expect(streams_run(s, 2, 10000), "writes of %zu", chunks[i]);
	}
	world_down(w);
}

/* One-byte writes arrive one by one, without waiting for each other. */
EACH_VARIANT(tcp_stream, one_byte_writes_are_answered, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int l;
	struct conn c = start(w, &l);
	int64_t begin = now_ms();

	for (int i = 0; i < 500; i++) {
		char out = (char)i, in;

		cr_assert(!sock_put(c.c, &out, 1) && !sock_get(c.a, &in, 1) && in == out);
		cr_assert(!sock_put(c.a, &in, 1) && !sock_get(c.c, &out, 1) && in == out);
	}
	/* With Nagle's algorithm against delayed acks it would take 40 ms each. */
	cr_expect_lt(now_ms() - begin, 20000);
	world_down(w);
}

/* Many one-byte segments in a row stay in order. */
EACH_VARIANT(tcp_stream, one_byte_segments_are_exact, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int l, on = 1;
	struct conn c = start(w, &l);
	struct stream s[] = {
		{ .from = c.c, .to = c.a, .total = 20000, .chunk = 1, .fin = true },
		{ .from = c.a, .to = c.c, .total = 20000, .chunk = 1, .fin = true },
	};

	setsockopt(c.c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(c.a, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	cr_expect(streams_run(s, 2, 15000));
	world_down(w);
}

/* A connection that goes from questions to bulk and back, again and again. */
EACH_VARIANT(tcp_stream, small_and_bulk_alternate, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int l;
	struct conn c = start(w, &l);

	for (int round = 0; round < 4; round++) {
		struct stream s[] = {
			{ .from = c.c, .to = c.a, .total = 4 * MIB },
			{ .from = c.a, .to = c.c, .total = round % 2 ? 4 * MIB : 100 },
		};

		for (int i = 0; i < 20; i++)
			cr_assert(conn_works(&c));
		cr_assert(streams_run(s, 2, 10000), "round %d", round);
	}
	world_down(w);
}

/* Eight bulk connections at once do not mix. */
EACH_VARIANT(tcp_stream, eight_bulk_connections_are_exact, 30)
{
	struct world *w = world_up(CT_ADDR, v);
	struct stream s[16];
	int l;

	s[0].from = -1;
	for (unsigned i = 0; i < 8; i++) {
		struct conn c = i ? conn_open(w, 8080, l) : start(w, &l);

		s[2 * i] = (struct stream){ c.c, c.a, .total = 4 * MIB + i, .fin = true };
		s[2 * i + 1] = (struct stream){ c.a, c.c, .total = 4 * MIB - i, .fin = true };
	}
	cr_expect(streams_run(s, 16, 25000));
	world_down(w);
}

/* Everything that was sent before close() arrives, also at a slow reader, and then FIN. */
EACH_VARIANT(tcp_stream, close_after_write_loses_nothing, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int l, size = 4 * MIB;
	char buf[65536];
	size_t got = 0;
	ssize_t n;
	struct conn c = start(w, &l);
	static char data[3 * MIB];

	setsockopt(c.c, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	cr_assert(!sock_put(c.c, data, sizeof(data)));
	close_fd(&c.c);
	while ((n = sock_read(c.a, buf, sizeof(buf))) > 0)
		got += (size_t)n;
	cr_expect_eq(n, 0, "%s", strerror((int)-n));
	cr_expect_eq(got, sizeof(data), "%zu bytes arrived", got);
	world_down(w);
}

/* What was sent before the app accepts, and even FIN, is there when it does. */
EACH_VARIANT(tcp_stream, bytes_wait_for_a_late_accept, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80), c, a;
	char buf[16] = "";

	fwd_start(w, ARGS("-t", "8080:80"));
	c = tcp_connect(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	cr_assert_geq(c, 0);
	cr_assert(!sock_put(c, "early", 5));
	close(c);
	cr_assert(fwd_idle(w));
	a = tcp_accept(l, 2000);
	cr_assert_geq(a, 0);
	cr_expect(!sock_get(a, buf, 5) && !strcmp(buf, "early"));
	cr_expect_eq(sock_next(a, 2000), 0);
	world_down(w);
}

/* 1000 connections at once, each with bytes both ways. */
EACH_VARIANT(tcp_stream, thousand_connections_at_once, 30)
{
	struct world *w = world_up(CT_ADDR, v);
	static struct stream s[2000];
	static int fds[1000];
	struct rlimit lim;
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);

	getrlimit(RLIMIT_NOFILE, &lim);
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	if (lim.rlim_max < 4096)
		cr_skip_test("only %lu descriptors allowed", (unsigned long)lim.rlim_max);
	fwd_start(w, ARGS("-t", "8080:80"));
	ns_sockets(&w->client[0], v->fam == V4 ? AF_INET : AF_INET6, SOCK_STREAM, fds, 1000);
	for (unsigned i = 0; i < 1000; i++) {
		struct conn c = { fds[i], -1 };

		cr_assert(!sock_connect(c.c, HOST[v->fam], 8080), "connection %u", i);
		c.a = tcp_accept(l, 5000);
		cr_assert(c.a >= 0, "connection %u: %s", i, fwd_log(w));
		cr_assert(peer_port(c.a) == self_port(c.c), "connection %u", i);
		s[2 * i] = (struct stream){ c.c, c.a, .total = 10000 + i, .fin = true };
		s[2 * i + 1] = (struct stream){ c.a, c.c, .total = 20000 + i, .fin = true };
	}
	cr_expect(streams_run(s, 2000, 20000));
	world_down(w);
}

/* Write until the socket takes no more. */
static void fill(int fd)
{
	static char data[65536];
	int quiet = 0;

	/* What fwd takes meanwhile makes room again: full is what stays full for 50 ms. */
	while (quiet < 5) {
		if (send(fd, data, sizeof(data), MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
			quiet = 0;
		} else {
			usleep(10000);
			quiet++;
		}
	}
}

/* 100 connections that nobody reads from do not hold up another one. */
EACH_VARIANT(tcp_stream, stalled_readers_block_nobody, 30)
{
	struct world *w = world_up(CT_ADDR, v);
	struct conn stalled[100], c;
	int l = tcp_listen(&w->ct, ANY[v->fam], 80), size = 4096;
	int64_t begin;

	fwd_start(w, ARGS("-t", "8080:80"));
	for (unsigned i = 0; i < 100; i++) {
		stalled[i] = conn_open(w, 8080, l);
		setsockopt(stalled[i].c, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
		setsockopt(stalled[i].a, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	}
	/* Half of them from each side; one to the point where nothing fits any more. */
	for (unsigned i = 0; i < 100; i++) {
		static char data[4 * MIB];

		send(i % 2 ? stalled[i].a : stalled[i].c, data, sizeof(data),
		     MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	fill(stalled[0].c);
	begin = now_ms();
	c = conn_open(w, 8080, l);
	for (int i = 0; i < 50; i++)
		cr_assert(conn_works(&c));
	cr_expect_lt(now_ms() - begin, patient(1000));
	cr_expect(fwd_idle(w), "idle while all are stalled");
	world_down(w);
}

/* --threads: each number of workers serves. */
EACH_ENGINE(tcp_stream, any_number_of_threads_serves, 20)
{
	static const char *const threads[] = { "--threads=1", "--threads=2", "--threads=5" };
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, "0.0.0.0", 80);

	for (unsigned t = 0; t < ARRAY_SIZE(threads); t++) {
		struct stream s[20];

		fwd_start(w, ARGS(threads[t], "-t", "8080:80"));
		for (unsigned i = 0; i < 20; i++) {
			struct conn c = conn_open(w, 8080, l);

			cr_assert(conn_works(&c));
			s[i] = (struct stream){ c.c, c.a, .total = 100000 };
		}
		cr_expect(streams_run(s, 20, 10000), "%s", threads[t]);
		world_down(w);
	}
}
