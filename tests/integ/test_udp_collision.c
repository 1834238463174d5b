/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the client's address or port is taken inside the container: the port is
 * changed where the kernel leaves no choice, that is said, and nobody gets what
 * another was answered.
 */

#include "lib.h"

/* The app sees the client's address with another port, each answer arrives, and it is said. */
static void expect_port_changed(struct world *w, int c, int app)
{
	const char *first = udp_ask(c, app);
	char want[80];

	snprintf(want, sizeof(want), w->v->fam == V4 ? "%s:" : "[%s]:", CLIENT[w->v->fam]);
	cr_expect(strstr(first, want) == first, "%s", first);
	cr_expect_str_neq(first, self_of(c));
	for (int i = 0; i < 3; i++)
		cr_expect_str_eq(udp_ask(c, app), first);
	cr_expect(fwd_log_has(w, "port changed"), "%s", fwd_log(w));
	cr_expect(fwd_log_has(w, "warning: "), "%s", fwd_log(w));
	cr_expect(fwd_counts(w, "1 port changed"), "%s", fwd_summary(w));
}

/* A port that is used at both ends (SIP) and that a wildcard app has is changed, and told. */
EACH_VARIANT(udp_collision, symmetric_port_of_a_wildcard_app_is_changed, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 5060), c;

	fwd_start(w, ARGS("-d", "-u", "5060"));
	c = udp_client(&w->client[0], CLIENT[v->fam], 5060, HOST[v->fam], 5060);
	expect_port_changed(w, c, app);
	world_down(w);
}

/* The same in a container without network, whose only address is the loopback one. */
EACH_VARIANT(udp_collision, symmetric_port_without_network_is_changed, 10)
{
	struct world *w = world_up(CT_LO, v);
	int app = udp_app(&w->ct, ANY[v->fam], 5060), c;

	fwd_start(w, ARGS("-d", "-u", "5060"));
	c = udp_client(&w->client[0], CLIENT[v->fam], 5060, HOST[v->fam], 5060);
	expect_port_changed(w, c, app);
	world_down(w);
}

static void expect_kept(struct world *w, int app)
{
	int c;

	fwd_start(w, ARGS("-d", "-u", "5060"));
	c = udp_client(&w->client[0], CLIENT[w->v->fam], 5060, HOST[w->v->fam], 5060);
	for (int i = 0; i < 3; i++)
		cr_expect_str_eq(udp_ask(c, app), self_of(c), "%s", fwd_log(w));
	world_down(w);
}

/* It is kept if the app lets others use its port (SO_REUSEADDR). */
EACH_VARIANT(udp_collision, symmetric_port_of_a_reusable_app_is_kept, 10)
{
	struct world *w = world_up(CT_ADDR, v);

	expect_kept(w, udp_app_reusable(&w->ct, ANY[v->fam], 5060));
}

/* It is kept if the app is bound to the container's address. */
EACH_VARIANT(udp_collision, symmetric_port_of_a_bound_app_is_kept, 10)
{
	struct world *w = world_up(CT_ADDR, v);

	expect_kept(w, udp_app(&w->ct, CT[v->fam], 5060));
}

/* One client port to two published ports of the container is kept at both. */
EACH_VARIANT(udp_collision, one_client_port_to_two_targets_is_kept, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int a80 = udp_app(&w->ct, ANY[v->fam], 80), a90 = udp_app(&w->ct, ANY[v->fam], 90);
	int c = udp_app(&w->client[0], CLIENT[v->fam], 4000);
	const int apps[] = { a80, a90 };

	fwd_start(w, ARGS("-u", "8080:80", "-u", "8090:90"));
	for (int i = 0; i < 6; i++) {
		const struct udp_in *in;
		int port = 8080 + i % 2 * 10;

		cr_assert(!udp_put(c, HOST[v->fam], port, &i, sizeof(i)));
		in = udp_get(apps[i % 2], 1000);
		cr_assert(in, "%s", fwd_summary(w));
		cr_expect_str_eq(endpoint(in->ip, in->port), endpoint(CLIENT[v->fam], 4000));
		cr_assert(!udp_answer(apps[i % 2], in, &i, sizeof(i)));
		in = udp_get(c, 1000);
		cr_assert(in && in->port == port && !memcmp(in->data, &i, sizeof(i)), "%s",
			  fwd_summary(w));
	}
	cr_expect(strstr(fwd_summary(w), "1 kept, 0 port changed"), "%s", fwd_summary(w));
	world_down(w);
}

/* Two published ports that lead to one app give one client port two sessions, each its own. */
EACH_VARIANT(udp_collision, two_ports_to_one_target_are_told_apart, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80);
	int c = udp_app(&w->client[0], CLIENT[v->fam], 4000);
	struct udp_in in[2];

	fwd_start(w, ARGS("-u", "8080:80", "-u", "8081:80"));
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 2; i++) {
			const struct udp_in *p;

			cr_assert(!udp_put(c, HOST[v->fam], 8080 + i, &i, sizeof(i)));
			p = udp_get(app, 1000);
			cr_assert(p, "%s", fwd_summary(w));
			cr_expect_str_eq(p->ip, CLIENT[v->fam]);
			in[i] = *p;
		}
		for (int i = 0; i < 2; i++) {
			int k = (i + round) % 2;
			const struct udp_in *p;

			cr_assert(!udp_answer(app, &in[k], &k, sizeof(k)));
			p = udp_get(c, 1000);
			cr_assert(p, "%s", fwd_summary(w));
			cr_expect_eq(p->port, 8080 + k, "the answer for %d comes from %d", 8080 + k,
				     p->port);
		}
	}
	world_down(w);
}

/* An app that sets SO_REUSEADDR can open a port that a client uses. */
EACH_VARIANT(udp_collision, app_can_open_a_clients_port, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), c, late;

	fwd_start(w, ARGS("-u", "8080:80"));
	c = udp_client(&w->client[0], CLIENT[v->fam], 4000, HOST[v->fam], 8080);
	cr_expect_str_eq(udp_ask(c, app), self_of(c));
	late = udp_app_reusable(&w->ct, ANY[v->fam], 4000);
	cr_expect_geq(late, 0);
	cr_expect_str_eq(udp_ask(c, app), self_of(c));
	world_down(w);
}

/* Give client 0 the container's own address, routed back to it by the host. */
static void copy_address(struct world *w)
{
	ns_ip(&w->client[0], "addr add 198.18.99.2/32 dev eth0\n"
			     "addr add fd00:99::2/128 dev eth0 nodad\n");
	ns_ip(&w->host, "route add 198.18.99.2/32 dev eth0\n"
			"route add fd00:99::2/128 dev eth0\n");
}

/* A client whose address equals the container's is kept. */
EACH_VARIANT(udp_collision, client_with_the_containers_address_is_kept, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), c;

	copy_address(w);
	fwd_start(w, ARGS("-u", "8080:80"));
	c = udp_client(&w->client[0], CT[v->fam], 4000, HOST[v->fam], 8080);
	for (int i = 0; i < 3; i++)
		cr_expect_str_eq(udp_ask(c, app), self_of(c), "%s", fwd_summary(w));
	world_down(w);
}

/* If it uses the target's port, too, and nobody listens, it must not get its own words back. */
EACH_VARIANT(udp_collision, client_does_not_meet_itself, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int c;

	copy_address(w);
	fwd_start(w, ARGS("-u", "8080"));
	c = udp_client(&w->client[0], CT[v->fam], 8080, HOST[v->fam], 8080);
	for (int i = 0; i < 3; i++)
		cr_assert(!udp_put(c, NULL, 0, "hello", 5));
	cr_expect(udp_silent(c), "its own datagram came back");
	cr_expect(fwd_idle(w));
	world_down(w);
}

/* Where the kernel chooses the port, it may fall on the target's: nobody meets himself then. */
EACH_VARIANT(udp_collision, nobody_meets_himself_by_chance, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int c[60];

	/* Few more ports than clients to choose from, and the target is one of them. */
	cr_assert(!ns_sysctl(&w->ct, "net/ipv4/ip_local_port_range", "8050 8119"));
	fwd_start(w, ARGS("--source=off", "-u", "8085"));
	udp_clients(&w->client[0], HOST[v->fam], 8085, c, ARRAY_SIZE(c));
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		cr_assert(!udp_put(c[i], NULL, 0, "hello", 5));
	cr_expect(udp_silent(c[0]));
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		cr_expect(!udp_get(c[i], 0), "client %u gets its own datagram", i);
	cr_expect(fwd_idle(w));
	world_down(w);
}

/* The first changed port of a rule is a warning; all of them are counted. */
EACH_ENGINE(udp_collision, warning_comes_once_for_each_rule, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int a = udp_app(&w->ct, "0.0.0.0", 5060), b = udp_app(&w->ct, "0.0.0.0", 5070), c;

	world_second_client(w);
	fwd_start(w, ARGS("-u", "5060", "-u", "5070"));
	c = udp_client(&w->client[0], CLIENT[V4], 5060, HOST[V4], 5060);
	cr_expect(strchr(udp_ask(c, a), ':'));
	c = udp_client(&w->client[0], CLIENT2[V4], 5060, HOST[V4], 5060);
	cr_expect(strchr(udp_ask(c, a), ':'));
	c = udp_client(&w->client[1], CLIENT_B[V4], 5060, HOST_B[V4], 5060);
	cr_expect(strchr(udp_ask(c, a), ':'));
	c = udp_client(&w->client[0], CLIENT[V4], 5070, HOST[V4], 5070);
	cr_expect(strchr(udp_ask(c, b), ':'));
	cr_expect(fwd_counts(w, "3 port changed"), "%s", fwd_summary(w));
	cr_expect_eq(fwd_log_count(w, "warning: "), 2, "%s", fwd_log(w));
	world_down(w);
}
