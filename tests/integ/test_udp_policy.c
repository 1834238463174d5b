/* SPDX-License-Identifier: Apache-2.0 */
/* Loopback clients, and what --source makes of datagrams. */

#include "lib.h"

static const char *loopback_rule(enum family fam)
{
	return fam == V4 ? "8080:127.0.0.1/80" : "8080:[::1]/80";
}

/* A client on the host's loopback is shown as a dummy address, never as a loopback one. */
EACH_VARIANT(udp_policy, loopback_client_is_shown_as_dummy, 10)
{
	static const enum ct_kind kinds[] = { CT_LO, CT_ADDR };
	struct world *w = world_up(kinds[v->fam], v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), c;

	fwd_start(w, ARGS("-u", "8080:80"));
	c = udp_client(&w->host, NULL, 0, LOOP[v->fam], 8080);
	for (int i = 0; i < 3; i++)
		cr_expect_str_eq(udp_ask(c, app), endpoint(DUMMY[v->fam], self_port(c)));
	cr_expect(fwd_counts(w, "1 stand-in"), "%s", fwd_summary(w));
	world_down(w);
}

/* That holds with an explicit target on the container's loopback. */
EACH_VARIANT(udp_policy, loopback_client_is_never_shown_as_loopback, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, LOOP[v->fam], 80), c;

	fwd_start(w, ARGS("-u", loopback_rule(v->fam)));
	c = udp_client(&w->host, NULL, 0, LOOP[v->fam], 8080);
	cr_expect_str_eq(udp_ask(c, app), endpoint(DUMMY[v->fam], self_port(c)));
	world_down(w);
}

/* With --source=off, too, it is not what the app takes for itself. */
EACH_VARIANT(udp_policy, loopback_client_is_not_shown_as_loopback_with_off, 10)
{
	struct world *w = world_up(CT_LO, v);
	int app = udp_app(&w->ct, LOOP[v->fam], 80), c;
	const struct udp_in *in;

	fwd_start(w, ARGS("--source=off", "-u", "8080:80"));
	c = udp_client(&w->host, NULL, 0, LOOP[v->fam], 8080);
	cr_assert(!udp_put(c, NULL, 0, "x", 1));
	in = udp_get(app, 200);
	if (in)
		cr_expect_str_neq(in->ip, LOOP[v->fam]);
	world_down(w);
}

/* All of 127/8 is the host, both as destination and as source. */
EACH_ENGINE(udp_policy, all_of_127_is_loopback, 10)
{
	static const char *const ips[] = { "127.0.0.1", "127.0.4.1", "127.255.255.254" };
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, "0.0.0.0", 80);

	fwd_start(w, ARGS("-u", "8080:80"));
	for (unsigned i = 0; i < ARRAY_SIZE(ips); i++) {
		int c = udp_client(&w->host, ips[(i + 1) % 3], 0, ips[i], 8080);

		cr_expect_str_eq(udp_ask(c, app), endpoint(DUMMY[V4], self_port(c)), "%s", ips[i]);
	}
	world_down(w);
}

/* Two loopback clients with one port are told apart by another one. */
EACH_ENGINE(udp_policy, loopback_clients_with_one_port_are_told_apart, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, "0.0.0.0", 80), a, b;

	fwd_start(w, ARGS("-u", "8080:80"));
	a = udp_client(&w->host, "127.0.0.1", 4000, "127.0.0.1", 8080);
	b = udp_client(&w->host, "127.0.0.2", 4000, "127.0.0.1", 8080);
	for (int i = 0; i < 3; i++) {
		cr_expect(strchr(udp_ask(a, app), ':'), "the first, round %d", i);
		cr_expect(strchr(udp_ask(b, app), ':'), "the second, round %d", i);
	}
	world_down(w);
}

/* With --host-lo-to-ns-lo loopback leads to loopback and looks like it; others do not. */
EACH_VARIANT(udp_policy, host_loopback_leads_to_loopback_on_request, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, LOOP[v->fam], 80), c;

	fwd_start(w, ARGS("--host-lo-to-ns-lo", "-u", "8080:80"));
	c = udp_client(&w->host, NULL, 0, LOOP[v->fam], 8080);
	for (int i = 0; i < 3; i++)
		cr_expect_str_eq(udp_ask(c, app), endpoint(LOOP[v->fam], self_port(c)));
	c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	cr_assert(!udp_put(c, NULL, 0, "x", 1));
	cr_expect(udp_silent(app), "remote clients must not");
	world_down(w);
}

/* With --source=off nothing is kept, and datagrams go both ways all the same. */
EACH_VARIANT(udp_policy, off_sends_as_the_container, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), c[2];
	const char *seen[2];

	fwd_start(w, ARGS("--source=off", "-u", "8080:80"));
	for (int i = 0; i < 2; i++) {
		c[i] = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
		seen[i] = udp_ask(c[i], app);
		cr_expect(strchr(seen[i], ':') && !strstr(seen[i], CLIENT[v->fam]), "%s", seen[i]);
	}
	cr_expect_str_neq(seen[0], seen[1]);
	cr_expect_not(ct_has_route(w, CLIENT[v->fam]));
	cr_expect(fwd_counts(w, "2 lost"), "%s", fwd_summary(w));
	world_down(w);
}

/* With --source=require a datagram whose source can be kept is served. */
EACH_VARIANT(udp_policy, require_serves_what_can_be_kept, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), c;

	fwd_start(w, ARGS("--source=require", "-u", "8080:80"));
	c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	cr_expect_str_eq(udp_ask(c, app), self_of(c));
	world_down(w);
}

/* With --source=require a datagram whose port is taken in there is dropped, and counted. */
EACH_VARIANT(udp_policy, require_refuses_a_taken_port, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 5060), c;

	fwd_start(w, ARGS("--source=require", "-u", "5060"));
	c = udp_client(&w->client[0], CLIENT[v->fam], 5060, HOST[v->fam], 5060);
	cr_assert(!udp_put(c, NULL, 0, "x", 1));
	cr_expect(udp_silent(app));
	cr_expect(fwd_counts(w, "refused 1"), "%s", fwd_summary(w));
	cr_expect(strstr(fwd_summary(w), "source could not be kept: 1"), "%s", fwd_summary(w));
	c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 5060);
	cr_expect_str_eq(udp_ask(c, app), self_of(c));
	world_down(w);
}

/* With --source=require an IPv6 client of an IPv4-only app gets nothing through. */
EACH_ENGINE(udp_policy, require_refuses_another_family, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, "0.0.0.0", 80), c;

	fwd_start(w, ARGS("--source=require", "-u", "8080:80"));
	c = udp_client(&w->client[0], NULL, 0, HOST[V6], 8080);
	for (int i = 0; i < 3; i++) {
		cr_assert(!udp_put(c, NULL, 0, "x", 1));
		cr_expect(udp_silent(app));
	}
	c = udp_client(&w->client[0], NULL, 0, HOST[V4], 8080);
	cr_expect_str_eq(udp_ask(c, app), self_of(c));
	world_down(w);
}
