/* SPDX-License-Identifier: Apache-2.0 */
/* What happens at limits, and what is left behind after a lot of work: nothing. */

#include "lib.h"

#include <dirent.h>
#include <sys/resource.h>

#define SHORT_CONNS 20000
#define BATCH	    250

/* Descriptors of fwd, of which this many are pipes; skips where they cannot be seen. */
static int count_fds(struct world *w, int *ret_pipes)
{
	char path[300], link[64];
	int n = 0;
	DIR *d;

	*ret_pipes = 0;
	snprintf(path, sizeof(path), "/proc/%d/fd", w->fwd);
	d = opendir(path);
	if (!d)
		cr_skip_test("%s: %s", path, strerror(errno));
	for (struct dirent *e = readdir(d); e; e = readdir(d)) {
		ssize_t len;

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/fd/%s", w->fwd, e->d_name);
		len = readlink(path, link, sizeof(link) - 1);
		n++;
		*ret_pipes += len > 5 && !strncmp(link, "pipe:", 5);
	}
	closedir(d);
	return n;
}

/* One batch of connect, question, answer, close; who closes first alternates. */
static void short_batch(struct world *w, int listener, unsigned round)
{
	int fds[BATCH];

	ns_sockets(&w->client[0], w->v->fam == V4 ? AF_INET : AF_INET6, SOCK_STREAM, fds, BATCH);
	for (unsigned i = 0; i < BATCH; i++) {
		struct conn c = { fds[i], -1 };
		char byte = 'x';

		cr_assert(!sock_connect(c.c, HOST[w->v->fam], 8080), "%u, %u: %s", round, i,
			  strerror(errno));
		c.a = tcp_accept(listener, 5000);
		cr_assert(c.a >= 0, "%u, %u\n%s", round, i, fwd_log(w));
		cr_assert(!sock_put(c.c, &byte, 1) && !sock_get(c.a, &byte, 1));
		cr_assert(!sock_put(c.a, &byte, 1) && !sock_get(c.c, &byte, 1));
		if (i % 4 == 0)
			sock_reset(steal_fd(&c.c));
		else if (i % 4 == 1)
			sock_reset(steal_fd(&c.a));
		else if (i % 4 == 2)
			close_fd(&c.a);
		conn_close(&c);
	}
}

/* 20000 short connections leave no descriptor, pipe, memory, route or rule behind. */
EACH_ENGINE(tcp_limits, short_connections_leak_nothing, 60)
{
	static char before[65536], after[65536];
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, "0.0.0.0", 80), fds, pipes, fds_end, pipes_end;
	long rss;

	/* So that the ports of 20000 closed connections can be used again. */
	ns_sysctl(&w->client[0], "net/ipv4/tcp_tw_reuse", "1");
	ns_sysctl(&w->client[0], "net/ipv4/ip_local_port_range", "1024 65535");
	fwd_start(w, ARGS("--sandbox=off", "-t", "8080:80"));
	short_batch(w, l, 0);
	cr_expect(fwd_counts(w, "flows 0 now"), "%s", fwd_summary(w));
	fds = count_fds(w, &pipes);
	ns_routing(&w->ct, before, sizeof(before));
	for (unsigned i = 1; i < SHORT_CONNS / BATCH / 2; i++)
		short_batch(w, l, i);
	rss = proc_rss_kb(w->fwd);
	for (unsigned i = SHORT_CONNS / BATCH / 2; i < SHORT_CONNS / BATCH; i++)
		short_batch(w, l, i);
	cr_expect(fwd_counts(w, "flows 0 now"), "%s", fwd_summary(w));
	cr_expect_lt(proc_rss_kb(w->fwd), rss + 1024, "%ld kB after half of them, now %ld", rss,
		     proc_rss_kb(w->fwd));
	fds_end = count_fds(w, &pipes_end);
	/* Pools may be fuller than they were. */
	cr_expect_leq(fds_end, fds + 64, "%d descriptors, before %d", fds_end, fds);
	cr_expect_leq(pipes_end, pipes + 8, "%d pipes, before %d", pipes_end, pipes);
	ns_routing(&w->ct, after, sizeof(after));
	cr_expect_str_eq(before, after);
	cr_expect(fwd_idle(w));
	world_down(w);
}

/* An idle connection holds two descriptors and no pipe, also after it has moved bulk. */
EACH_ENGINE(tcp_limits, idle_connection_holds_two_descriptors, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, "0.0.0.0", 80), fds, pipes, fds_end, pipes_end;
	static struct stream s[200];
	struct conn c;

	fwd_start(w, ARGS("--sandbox=off", "-t", "8080:80"));
	c = conn_open(w, 8080, l);
	cr_assert(conn_works(&c));
	fds = count_fds(w, &pipes);
	for (unsigned i = 0; i < 200; i++) {
		c = conn_open(w, 8080, l);
		s[i] = (struct stream){ c.c, c.a, .total = 300000 };
	}
	cr_assert(streams_run(s, 200, 10000));
	cr_assert(fwd_idle(w));
	fds_end = count_fds(w, &pipes_end);
	cr_expect_leq(fds_end, fds + 2 * 200 + 96, "%d descriptors, before %d", fds_end, fds);
	cr_expect_leq(pipes_end, pipes + 4 * 32, "%d pipes, before %d", pipes_end, pipes);
	world_down(w);
}

/* A full table refuses at once, counts, and takes new connections when there is room. */
EACH_VARIANT(tcp_limits, full_table_refuses, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	struct conn c[4], d;

	fwd_start(w, ARGS("--max-flows", "4", "-t", "8080:80"));
	for (int i = 0; i < 4; i++)
		c[i] = conn_open(w, 8080, l);
	for (int i = 0; i < 3; i++)
		cr_expect(tcp_refused(&w->client[0], HOST[v->fam], 8080));
	cr_expect_eq(tcp_accept(l, 50), -ETIMEDOUT);
	cr_expect(fwd_counts(w, "refused 3"), "%s", fwd_summary(w));
	cr_expect(conn_works(&c[3]));
	cr_expect(fwd_idle(w));
	sock_reset(c[0].c);
	cr_expect_eq(sock_next(c[0].a, 2000), -ECONNRESET);
	d = conn_open(w, 8080, l);
	cr_expect(conn_works(&d));
	world_down(w);
}

/* Out of descriptors, fwd waits without spinning, and goes on when there are some. */
EACH_VARIANT(tcp_limits, descriptors_used_up_pause_accepting, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80), pipes, waiting[20], served = 0;
	struct conn first;
	struct rlimit lim;

	fwd_start(w, ARGS("--sandbox=off", "--threads", "1", "-t", "8080:80"));
	first = conn_open(w, 8080, l);
	cr_assert(conn_works(&first) && fwd_idle(w)); /* its pools are full now */
	lim.rlim_cur = lim.rlim_max = (rlim_t)count_fds(w, &pipes) + 12;
	cr_assert(!prlimit(w->fwd, RLIMIT_NOFILE, &lim, NULL), "%s", strerror(errno));

	/* More than fit; the kernel completes the handshakes of those that wait. */
	for (unsigned i = 0; i < ARRAY_SIZE(waiting); i++) {
		waiting[i] = tcp_connect(&w->client[0], NULL, 0, HOST[v->fam], 8080);
		cr_assert_geq(waiting[i], 0);
	}
	cr_expect(fwd_idle(w), "out of descriptors\n%s", fwd_log(w));
	cr_expect(conn_works(&first), "what there is must go on");

	/* Each that ends makes room, until all have had their turn, served or refused. */
	for (int round = 0; round < 200 && served < (int)ARRAY_SIZE(waiting); round++) {
		int a = tcp_accept(l, 100);

		if (a >= 0)
			sock_reset(a);
		served = 0;
		for (unsigned i = 0; i < ARRAY_SIZE(waiting); i++)
			served += sock_next(waiting[i], 0) != -EAGAIN;
	}
	cr_expect_eq(served, ARRAY_SIZE(waiting), "%d of %zu\n%s", served, ARRAY_SIZE(waiting),
		     fwd_log(w));
	cr_expect(conn_works(&first));
	first = conn_open(w, 8080, l);
	cr_expect(conn_works(&first), "a new connection afterwards");
	cr_expect(fwd_idle(w));
	world_down(w);
}

/* No error leaves fwd busy. */
EACH_ENGINE(tcp_limits, idle_after_every_error, 30)
{
	struct world *w = world_up(CT_ADDR, v);
	static char data[4 << 20];
	int l = tcp_listen(&w->ct, "0.0.0.0", 80);
	struct conn c[8];

	cr_assert(geteuid() != 0);
	fwd_start(w, ARGS("-t", "8080:80", "-t", "8081:81"));
	cr_expect(fwd_idle(w), "after start");
	cr_expect(tcp_refused(&w->client[0], HOST[V4], 8081));
	cr_expect(fwd_idle(w), "after a refused connection");
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		c[i] = conn_open(w, 8080, l);
	shutdown(c[0].c, SHUT_WR);
	shutdown(c[1].a, SHUT_WR);
	cr_expect(fwd_idle(w), "half-closed");
	shutdown(c[2].c, SHUT_RD);
	send(c[2].a, data, sizeof(data), MSG_DONTWAIT | MSG_NOSIGNAL);
	cr_expect(fwd_idle(w), "a client that shut down reading");
	send(c[3].c, data, sizeof(data), MSG_DONTWAIT | MSG_NOSIGNAL);
	send(c[3].a, data, sizeof(data), MSG_DONTWAIT | MSG_NOSIGNAL);
	cr_expect(fwd_idle(w), "nobody reads");
	shutdown(c[3].c, SHUT_WR);
	shutdown(c[3].a, SHUT_WR);
	cr_expect(fwd_idle(w), "FIN behind data that nobody reads");
	sock_reset(c[3].c);
	cr_expect(fwd_idle(w), "RST towards data that nobody reads");
	sock_reset(c[0].a);
	sock_reset(c[1].c);
	cr_expect(fwd_idle(w), "RST after half-close");
	send(c[4].c, data, sizeof(data), MSG_DONTWAIT | MSG_NOSIGNAL);
	sock_reset(c[4].c);
	cr_expect(fwd_idle(w), "RST behind data that nobody reads");
	send(c[5].c, "!", 1, MSG_OOB);
	cr_expect(fwd_idle(w), "urgent data");
	cr_expect(conn_works(&c[7]));
	world_down(w);
}

/* A range of 1000 ports starts quickly and serves its first and its last. */
EACH_ENGINE(tcp_limits, thousand_ports_are_published, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int first = tcp_listen(&w->ct, "0.0.0.0", 20000);
	int last = tcp_listen(&w->ct, "0.0.0.0", 20999);
	int64_t begin = now_ms();
	struct conn c;

	fwd_start(w, ARGS("-t", "10000-10999:20000-20999"));
	cr_expect_lt(now_ms() - begin, patient(2000));
	cr_expect_lt(proc_rss_kb(w->fwd), 32 * 1024, "%ld kB", proc_rss_kb(w->fwd));
	c = conn_open(w, 10000, first);
	cr_expect(conn_works(&c));
	c = conn_open(w, 10999, last);
	cr_expect(conn_works(&c));
	cr_expect(fwd_idle(w));
	world_down(w);
}

/* Under a burst of connects beyond the backlog of the app nobody is forgotten. */
EACH_VARIANT(tcp_limits, burst_of_connects_is_served, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80), fds[500];
	struct conn c = { -1, -1 };

	fwd_start(w, ARGS("-t", "8080:80"));
	ns_sockets(&w->client[0], v->fam == V4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK,
		   fds, ARRAY_SIZE(fds));
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
		cr_assert(!sock_connect(fds[i], HOST[v->fam], 8080));
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
		c.a = tcp_accept(l, 5000);
		cr_assert(c.a >= 0, "%u\n%s", i, fwd_log(w));
	}
	world_down(w);
}
