/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: how they begin, how long they last, and that nothing of them is left. */

#include "lib.h"

#include <time.h>

static char before[65536], after[65536];

/* The routing of the container is as ns_routing() had it in @before. */
static bool routing_is_back(void *arg)
{
	struct world *w = arg;

	ns_routing(&w->ct, after, sizeof(after));
	return !strcmp(before, after);
}

/* An idle session ends, its socket and routes with it; the next datagram opens another. */
EACH_VARIANT(udp_session, idle_session_leaves_nothing_behind, 15)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), c, fds = 0;

	fwd_start(w,
		  ARGS("--sandbox=off", "--threads", "1", "--udp-timeout", "2", "-u", "8080:80"));
	ns_routing(&w->ct, before, sizeof(before));
	c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	for (int i = 0; i < 2; i++) {
		cr_expect_str_eq(udp_ask(c, app), self_of(c));
		cr_expect(ct_has_route(w, CLIENT[v->fam]), "%s", before);
		cr_expect(udp_all_ended(w), "%s", fwd_summary(w));
		cr_expect(eventually(routing_is_back, w, 1000), "%s\nwas\n%s", after, before);
		if (i > 0)
			cr_expect(fwd_fds_within(w, fds), "%d descriptors, before %d",
				  proc_fds(w->fwd), fds);
		fds = proc_fds(w->fwd);
	}
	cr_expect(fwd_counts(w, "flows 0 now, 2 ever"), "%s", fwd_summary(w));
	cr_expect(fwd_idle(w));
	world_down(w);
}

/* 500 sessions that end give all their descriptors and routes back. */
EACH_ENGINE(udp_session, descriptors_of_many_sessions_come_back, 20)
{
	static int c[500];
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, "0.0.0.0", 80), first, fds;

	fwd_start(w,
		  ARGS("--sandbox=off", "--threads", "1", "--udp-timeout", "1", "-u", "8080:80"));
	ns_routing(&w->ct, before, sizeof(before));
	first = udp_client(&w->client[0], NULL, 0, HOST[V4], 8080);
	cr_expect(strchr(udp_ask(first, app), ':'));
	cr_expect(udp_all_ended(w), "%s", fwd_summary(w));
	fds = proc_fds(w->fwd);
	udp_clients(&w->client[0], HOST[V4], 8080, c, ARRAY_SIZE(c));
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		cr_expect_str_eq(udp_ask(c[i], app), self_of(c[i]));
	cr_expect(udp_all_ended(w), "%s", fwd_summary(w));
	cr_expect(eventually(routing_is_back, w, 1000), "%s\nwas\n%s", after, before);
	/* Sockets that are kept ready may be more by a batch. */
	cr_expect(fwd_fds_within(w, fds + 32), "%d, before %d", proc_fds(w->fwd), fds);
	cr_expect(fwd_idle(w));
	world_down(w);
}

struct kept_up {
	struct world *w;
	int c, app;
	const char *until; /* in the summary */
	bool broken;
};

/* Use the session until the summary has what is waited for. */
static bool kept_up(void *arg)
{
	struct kept_up *k = arg;

	k->broken |= strcmp(udp_ask(k->c, k->app), self_of(k->c)) != 0;
	return strstr(fwd_summary(k->w), k->until) != NULL;
}

/* Of two sessions of one client, one ends: the route stays until the other ends, too. */
EACH_VARIANT(udp_session, route_stays_until_the_last_session_ends, 15)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), c;
	struct kept_up k = { w, -1, app, "flows 1 now, 2 ever", false };

	fwd_start(w, ARGS("--threads", "1", "--udp-timeout", "1", "-u", "8080:80"));
	ns_routing(&w->ct, before, sizeof(before));
	c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	k.c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	cr_expect_str_eq(udp_ask(c, app), self_of(c));
	cr_expect_str_eq(udp_ask(k.c, app), self_of(k.c));
	cr_expect(eventually(kept_up, &k, 5000), "%s", fwd_summary(w));
	cr_expect_not(k.broken);
	cr_expect(ct_has_route(w, CLIENT[v->fam]));
	cr_expect_str_eq(udp_ask(k.c, app), self_of(k.c));
	cr_expect(udp_all_ended(w), "%s", fwd_summary(w));
	cr_expect(eventually(routing_is_back, w, 1000), "%s\nwas\n%s", after, before);
	world_down(w);
}

static bool one_left(void *arg)
{
	return strstr(fwd_summary(arg), "flows 1 now, 3 ever") != NULL;
}

/* Sessions without an answer, or with one, end first; one that goes on has its own time. */
EACH_ENGINE(udp_session, lasting_session_has_a_time_of_its_own, 15)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, "0.0.0.0", 80), c[3];

	fwd_start(w, ARGS("--udp-timeout", "1,100", "-u", "8080:80"));
	for (int i = 0; i < 3; i++)
		c[i] = udp_client(&w->client[0], NULL, 0, HOST[V4], 8080);
	cr_expect_str_eq(udp_tell(c[0], app), self_of(c[0]));
	cr_expect_str_eq(udp_ask(c[1], app), self_of(c[1]));
	for (int i = 0; i < 3; i++)
		cr_expect_str_eq(udp_ask(c[2], app), self_of(c[2]));
	cr_expect(eventually(one_left, w, 5000), "%s", fwd_summary(w));
	cr_expect_str_eq(udp_ask(c[2], app), self_of(c[2]));
	cr_expect(fwd_counts(w, "flows 1 now, 3 ever"), "%s", fwd_summary(w));
	world_down(w);
}

/* A client from a new port each time is served each time, with that port. */
EACH_VARIANT(udp_session, roaming_client_is_served, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), c[100];

	fwd_start(w, ARGS("-u", "8080:80"));
	for (int batch = 0; batch < 10; batch++) {
		udp_clients(&w->client[0], HOST[v->fam], 8080, c, ARRAY_SIZE(c));
		for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
			cr_assert_str_eq(udp_ask(c[i], app), self_of(c[i]), "%s", fwd_summary(w));
			if (batch < 9)
				close(c[i]);
		}
	}
	cr_expect(strstr(fwd_summary(w), "source 1000 kept") ||
			  strstr(fwd_summary(w), "0 port changed"),
		  "%s", fwd_summary(w));
	cr_expect(fwd_idle(w));
	world_down(w);
}

/* A datagram in vain ends the session; when the app has come, the next one is served. */
EACH_VARIANT(udp_session, app_that_comes_later_gets_the_next_datagram, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int c, app;

	fwd_start(w, ARGS("--threads", "1", "-u", "8080:80"));
	c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	cr_assert(!udp_put(c, NULL, 0, "x", 1));
	cr_expect(fwd_counts(w, "application not listening: 1"), "%s", fwd_summary(w));
	cr_expect(udp_all_ended(w), "%s", fwd_summary(w));
	cr_expect_not(ct_has_route(w, CLIENT[v->fam]));
	app = udp_app(&w->ct, ANY[v->fam], 80);
	cr_expect_str_eq(udp_ask(c, app), self_of(c), "%s", fwd_summary(w));
	cr_expect(fwd_idle(w));
	world_down(w);
}

/* So many datagrams were refused. */
static unsigned long refused(struct world *w)
{
	static const char mark[] = "not listening: ";
	const char *p = strstr(fwd_summary(w), mark);

	return p ? strtoul(p + strlen(mark), NULL, 10) : 0;
}

struct vain {
	struct world *w;
	unsigned long was;
};

static bool refused_more(void *arg)
{
	struct vain *v = arg;

	return refused(v->w) > v->was;
}

static bool told(void *arg)
{
	struct kept_up *k = arg;

	return udp_serves(k->c, k->app);
}

/* A client that goes on sending meets the app again after its restart, and is seen as before. */
EACH_VARIANT(udp_session, restarted_app_is_met_again, 15)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), c;
	struct kept_up k = { .w = w };

	fwd_start(w, ARGS("-u", "8080:80"));
	c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	for (unsigned missed = 1; missed < 4; missed++) {
		cr_expect_str_eq(udp_ask(c, app), self_of(c), "after %u in vain\n%s", missed - 1,
				 fwd_summary(w));
		close(app);
		for (unsigned i = 0; i < missed; i++) {
			struct vain in_vain = { w, refused(w) };

			cr_assert(!udp_put(c, NULL, 0, "x", 1));
			cr_expect(eventually(refused_more, &in_vain, 2000), "%s", fwd_summary(w));
		}
		app = udp_app(&w->ct, ANY[v->fam], 80);
		k.c = c;
		k.app = app;
		cr_assert(eventually(told, &k, 3000), "%s", fwd_summary(w));
	}
	world_down(w);
}

/* While the app is away, many datagrams cost no more than their own work. */
EACH_VARIANT(udp_session, datagrams_in_vain_leave_nothing, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int c, app, fds;

	fwd_start(w, ARGS("--sandbox=off", "--threads", "1", "-u", "8080:80"));
	ns_routing(&w->ct, before, sizeof(before));
	c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	for (int i = 0; i < 500; i++)
		cr_assert(!udp_put(c, NULL, 0, "x", 1));
	cr_expect(udp_all_ended(w), "%s", fwd_summary(w));
	fds = proc_fds(w->fwd);
	for (int i = 0; i < 500; i++)
		cr_assert(!udp_put(c, NULL, 0, "x", 1));
	cr_expect(udp_all_ended(w), "%s", fwd_summary(w));
	cr_expect(fwd_fds_within(w, fds + 32), "%d, before %d", proc_fds(w->fwd), fds);
	cr_expect(eventually(routing_is_back, w, 1000), "%s\nwas\n%s", after, before);
	cr_expect(fwd_idle(w));
	app = udp_app(&w->ct, ANY[v->fam], 80);
	cr_expect(udp_serves(c, app), "%s", fwd_summary(w));
	world_down(w);
}

/* When the container is killed, fwd ends, and its port is free. */
EACH_VARIANT(udp_session, end_of_the_container_ends_fwd, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), c;
	pid_t pid;

	fwd_start(w, ARGS("-u", "8080:80"));
	c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	cr_expect_str_eq(udp_ask(c, app), self_of(c));
	cr_assert(!kill(w->ct_pid, SIGKILL));
	pid = w->fwd;
	w->fwd = 0;
	cr_expect_eq(proc_wait(pid, 3000), 0, "%s", fwd_log(w));
	cr_expect_geq(udp_app(&w->host, ANY[v->fam], 8080), 0);
}

/* The end of fwd takes its rules and routes with it, with sessions open. */
EACH_VARIANT(udp_session, end_leaves_no_rule_or_route, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), c[20];

	ns_routing(&w->ct, before, sizeof(before));
	fwd_start(w, ARGS("-u", "8080:80", "-u", "8090-8099:90-99"));
	ns_routing(&w->ct, after, sizeof(after));
	cr_expect(strstr(after, "sport 90-99") && strstr(after, "sport 80"), "%s", after);
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		c[i] = udp_client(&w->client[0], i % 2 ? CLIENT[v->fam] : CLIENT2[v->fam], 0,
				  HOST[v->fam], 8080);
		cr_expect_str_eq(udp_ask(c[i], app), self_of(c[i]));
	}
	world_down(w);
	cr_expect(routing_is_back(w), "%s\nwas\n%s", after, before);
}

/* A killed fwd cannot clean up; the next one does, and serves at once. */
EACH_ENGINE(udp_session, next_start_cleans_up_after_a_kill, 15)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, "0.0.0.0", 80), c;

	ns_routing(&w->ct, before, sizeof(before));
	for (int i = 0; i < 3; i++) {
		/* Another port: the kernel may take a moment to free the one of the dead. */
		const char *const rules[] = { "8080:80", "8081:80", "8082:80" };

		fwd_start(w, ARGS("-u", rules[i]));
		c = udp_client(&w->client[0], NULL, 0, HOST[V4], 8080 + i);
		cr_expect_str_eq(udp_ask(c, app), self_of(c));
		if (i < 2)
			cr_expect_eq(fwd_stop(w, SIGKILL), WAIT_SIGNAL + SIGKILL);
	}
	world_down(w);
	cr_expect(routing_is_back(w), "%s\nwas\n%s", after, before);
}

static bool moved(void *arg)
{
	struct kept_up *k = arg;

	return strstr(fwd_summary(k->w), "flows 0 now") != NULL;
}

/* When the container gets another address, sessions start anew, and the old routes go. */
EACH_VARIANT(udp_session, new_address_of_the_container_leaves_no_old_routes, 15)
{
	struct world *w = world_up(CT_LO, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), c;
	struct kept_up k = { .w = w };

	fwd_start(w, ARGS("--threads", "1", "--udp-timeout", "1", "-u", "8080:80"));
	c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	cr_expect_str_eq(udp_ask(c, app), self_of(c));
	ns_ip(&w->ct, "link add eth0 type veth peer name far\n"
		      "link set far up\n"
		      "addr add 198.18.99.2/24 dev eth0\n"
		      "addr add fd00:99::2/64 dev eth0 nodad\n"
		      "link set eth0 up\n");
	cr_expect(eventually(moved, &k, 3000), "%s", fwd_summary(w));
	cr_expect_not(ct_has_route(w, CLIENT[v->fam]), "a route of before is left");
	cr_expect_str_eq(udp_ask(c, app), self_of(c), "%s", fwd_summary(w));
	cr_expect(udp_all_ended(w), "%s", fwd_summary(w));
	cr_expect_not(ct_has_route(w, CLIENT[v->fam]), "a route is left");
	world_down(w);
}
