/* SPDX-License-Identifier: Apache-2.0 */
/* What a flood can do: nothing to those who are served. */

#include "lib.h"

#include <netinet/in.h>

#define FLOOD 5000

/* Give client 0 thousands of addresses to send from, and the host no doubt about them. */
static void many_addresses(struct world *w)
{
	ns_ip(&w->client[0], "route add local 198.18.64.0/18 dev lo\n"
			     "route add local fd00:77::/64 dev lo\n");
	ns_ip(&w->host, "route add 198.18.64.0/18 dev eth0\nroute add fd00:77::/64 dev eth0\n");
}

static const char *flood_ip(enum family fam, unsigned i)
{
	static char ip[64];

	if (fam == V4)
		snprintf(ip, sizeof(ip), "198.18.%u.%u", 64 + i / 250, i % 250 + 1);
	else
		snprintf(ip, sizeof(ip), "fd00:77::%x", i + 1);
	return ip;
}

/* One datagram each from @n sources that never come again; the app reads and does not answer. */
static void flood(struct world *w, int app, unsigned n)
{
	enum family fam = w->v->fam;
	int fds[100], on = 1;

	for (unsigned i = 0; i < n; i++) {
		unsigned k = i % ARRAY_SIZE(fds);

		if (k == 0)
			ns_sockets(&w->client[0], fam == V4 ? AF_INET : AF_INET6, SOCK_DGRAM, fds,
				   ARRAY_SIZE(fds));
		setsockopt(fds[k], IPPROTO_IP, IP_FREEBIND, &on, sizeof(on));
		cr_assert(!sock_bind(fds[k], flood_ip(fam, i), 0), "%s", flood_ip(fam, i));
		cr_assert(!udp_put(fds[k], HOST[fam], 8080, "flood", 5));
		close(fds[k]);
		/* Not faster than it is taken, or the kernel would drop it before us. */
		if (k % 50 == 49)
			for (int j = 0; j < 50 && udp_get(app, 200); j++)
				;
	}
}

static unsigned long number_behind(const char *text, const char *mark)
{
	const char *p = strstr(text, mark);

	return p ? strtoul(p + strlen(mark), NULL, 10) : 0;
}

static unsigned long number_before(const char *text, const char *mark)
{
	const char *p = strstr(text, mark);

	while (p && p > text && p[-1] >= '0' && p[-1] <= '9')
		p--;
	return p ? strtoul(p, NULL, 10) : 0;
}

/* A flood of sources that are never heard of again ends no session that was answered. */
EACH_VARIANT(udp_limits, flood_does_not_evict_who_was_answered, 30)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), c[8];
	unsigned long evicted, ever;

	many_addresses(w);
	fwd_start(w, ARGS("--threads", "1", "--max-flows", "100", "-u", "8080:80"));
	for (int i = 0; i < 8; i++) {
		c[i] = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
		/* Half of them are answered once, the others come again. */
		for (int n = 0; n < 1 + i % 2 * 2; n++)
			cr_expect_str_eq(udp_ask(c[i], app), self_of(c[i]));
	}
	flood(w, app, FLOOD);
	cr_expect(fwd_counts(w, "flows 100 now"), "%s", fwd_summary(w));
	ever = number_before(fwd_summary(w), " ever;");
	evicted = number_behind(fwd_summary(w), "ended early, table full: ");
	/* Those that come while others are still being closed may be refused instead. */
	cr_expect(ever >= FLOOD * 9 / 10, "%s", fwd_summary(w));
	cr_expect_eq(evicted, ever - 100, "%s", fwd_summary(w));
	for (int i = 0; i < 8; i++)
		cr_expect_str_eq(udp_ask(c[i], app), self_of(c[i]), "client %d", i);
	cr_expect_eq(number_before(fwd_summary(w), " ever;"), ever, "one was opened again\n%s",
		     fwd_summary(w));
	cr_expect(fwd_idle(w));
	world_down(w);
}

/* Nor does it keep out who connects by TCP, which shares the limit. */
EACH_ENGINE(udp_limits, flood_leaves_room_for_connections, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, "0.0.0.0", 80), l = tcp_listen(&w->ct, "0.0.0.0", 80);
	struct conn c[4];

	many_addresses(w);
	fwd_start(w,
		  ARGS("--threads", "1", "--max-flows", "100", "-u", "8080:80", "-t", "8080:80"));
	flood(w, app, 500);
	cr_expect(fwd_counts(w, "flows 100 now"), "%s", fwd_summary(w));
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		c[i] = conn_open(w, 8080, l);
		cr_expect(conn_works(&c[i]), "connection %u\n%s", i, fwd_summary(w));
	}
	cr_expect(fwd_counts(w, "flows 96 now"), "%s", fwd_summary(w));
	world_down(w);
}

/* Who waits for an answer gets it, however many others are served meanwhile. */
EACH_VARIANT(udp_limits, slow_answer_arrives_while_others_come_and_go, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), slow, c[100];
	const struct udp_in *in;
	struct udp_in question;

	fwd_start(w, ARGS("--threads", "1", "--max-flows", "40", "-u", "8080:80"));
	slow = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	cr_assert(!udp_put(slow, NULL, 0, "slow", 4));
	in = udp_get(app, patient(2000));
	cr_assert_not_null(in);
	question = *in;
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		c[i] = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
		cr_expect_str_eq(udp_ask(c[i], app), self_of(c[i]));
	}
	cr_expect(fwd_counts(w, "ended early, table full: 61"), "%s", fwd_summary(w));
	cr_assert(!udp_answer(app, &question, "late", 4));
	in = udp_get(slow, patient(2000));
	cr_expect(in && in->len == 4, "no answer arrived\n%s", fwd_summary(w));
	world_down(w);
}

/* When all sessions are lasting ones, who comes next is refused, and counted. */
EACH_VARIANT(udp_limits, full_of_lasting_sessions_refuses, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), c[4], more;

	fwd_start(w, ARGS("--max-flows", "4", "-u", "8080:80"));
	for (int i = 0; i < 4; i++) {
		c[i] = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
		for (int n = 0; n < 3; n++)
			cr_expect_str_eq(udp_ask(c[i], app), self_of(c[i]));
	}
	more = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	cr_assert(!udp_put(more, NULL, 0, "x", 1));
	cr_expect(fwd_counts(w, "table full: 1"), "%s", fwd_summary(w));
	cr_expect(udp_silent(app), "one more than --max-flows");
	for (int i = 0; i < 4; i++)
		cr_expect_str_eq(udp_ask(c[i], app), self_of(c[i]));
	cr_expect(strstr(fwd_summary(w), "flows 4 now, 4 ever"), "%s", fwd_summary(w));
	world_down(w);
}

/* A flood costs a bounded amount of memory, and few descriptors. */
EACH_ENGINE(udp_limits, flood_costs_a_bounded_amount, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, "0.0.0.0", 80), fds;
	long rss;

	many_addresses(w);
	fwd_start(w,
		  ARGS("--sandbox=off", "--threads", "1", "--max-flows", "200", "-u", "8080:80"));
	flood(w, app, 1000);
	rss = proc_rss_kb(w->fwd);
	fds = proc_fds(w->fwd);
	flood(w, app, 3000);
	cr_expect_leq(proc_rss_kb(w->fwd), rss + 1024, "%ld kB, before %ld", proc_rss_kb(w->fwd),
		      rss);
	cr_expect(fwd_fds_within(w, fds + 64), "%d, before %d", proc_fds(w->fwd), fds);
	world_down(w);
}
