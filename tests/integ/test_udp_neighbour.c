/* SPDX-License-Identifier: Apache-2.0 */
/* While clients are active, the container's own traffic goes where it always went. */

#include "lib.h"

/* A container on a bridge with an active client of its port 80. */
struct scene {
	struct world *w;
	int app, c;
};

static struct scene scene_up(const struct variant *v)
{
	struct scene s = { .w = world_up(CT_BRIDGE, v) };

	s.app = udp_app(&s.w->ct, ANY[v->fam], 80);
	fwd_start(s.w, ARGS("-u", "8080:80"));
	s.c = udp_client(&s.w->client[0], NULL, 0, HOST[v->fam], 8080);
	cr_expect_str_eq(udp_ask(s.c, s.app), self_of(s.c), "%s", fwd_log(s.w));
	return s;
}

/* The client is still served, and fwd is stopped. */
static void scene_down(struct scene *s)
{
	cr_expect_str_eq(udp_ask(s->c, s->app), self_of(s->c));
	world_down(s->w);
}

/* A neighbour that sends to the published port directly is seen as itself, and answered. */
EACH_VARIANT(udp_neighbour, neighbour_is_served_directly, 10)
{
	struct scene s = scene_up(v);
	struct ns n = world_neighbour(s.w);
	int c = udp_client(&n, NULL, 0, CT[v->fam], 80);

	for (int i = 0; i < 3; i++) {
		cr_expect_str_eq(udp_ask(c, s.app), endpoint(NEIGHBOUR[v->fam], self_port(c)));
		cr_expect_str_eq(udp_ask(s.c, s.app), self_of(s.c));
	}
	cr_expect(fwd_counts(s.w, "flows 1 now, 1 ever"), "%s", fwd_summary(s.w));
	scene_down(&s);
}

/* What the app sends from the published port to others leaves by the network. */
EACH_VARIANT(udp_neighbour, app_can_send_from_its_port_to_others, 10)
{
	struct scene s = scene_up(v);
	int far = udp_app(&s.w->mid, ANY[v->fam], 53);
	const struct udp_in *in;

	for (int i = 0; i < 3; i++) {
		cr_assert(!udp_put(s.app, BRIDGE[v->fam], 53, "ask", 3));
		in = udp_get(far, 1000);
		cr_assert(in, "it does not arrive");
		cr_expect_str_eq(endpoint(in->ip, in->port), endpoint(CT[v->fam], 80));
		cr_assert(!udp_answer(far, in, "tell", 4));
		in = udp_get(s.app, 1000);
		cr_assert(in && in->len == 4, "the answer does not arrive");
		cr_expect_str_eq(endpoint(in->ip, in->port), endpoint(BRIDGE[v->fam], 53));
	}
	scene_down(&s);
}

/* Give the far side of the bridge the client's address, as if the client were behind it. */
static int client_behind_the_bridge(struct world *w, int port)
{
	ns_ip(&w->mid, "addr add 198.18.1.2/32 dev lo\n"
		       "addr add fd00:1::2/128 dev lo nodad\n"
		       "link set lo up\n");
	return udp_app(&w->mid, CLIENT[w->v->fam], port);
}

/* From another port the container reaches an active client's address by its network, as ever. */
EACH_VARIANT(udp_neighbour, other_ports_reach_the_clients_address, 10)
{
	struct scene s = scene_up(v);
	int far = client_behind_the_bridge(s.w, 53);
	int own = udp_client(&s.w->ct, NULL, 0, CLIENT[v->fam], 53);

	cr_expect(udp_serves(own, far)); /* the first may be lost to neighbour discovery */
	cr_expect_str_eq(udp_ask(own, far), endpoint(CT[v->fam], self_port(own)));
	scene_down(&s);
}

/* So does TCP, from the published port itself. */
EACH_VARIANT(udp_neighbour, tcp_reaches_the_clients_address, 10)
{
	struct scene s = scene_up(v);
	struct conn c;
	int l;

	close(client_behind_the_bridge(s.w, 53));
	l = tcp_listen(&s.w->mid, CLIENT[v->fam], 53);
	c = conn_open_from(&s.w->ct, CT[v->fam], 80, CLIENT[v->fam], 53, l);
	cr_expect(conn_works(&c));
	cr_expect_str_eq(peer_of(c.a), endpoint(CT[v->fam], 80));
	scene_down(&s);
}

static bool no_route(void *arg)
{
	struct world *w = arg;

	return !ct_has_route(w, CLIENT[w->v->fam]);
}

/* When a client's session has ended, the published port reaches its address by the network, too. */
EACH_VARIANT(udp_neighbour, nothing_is_left_of_a_client_that_has_gone, 15)
{
	struct world *w = world_up(CT_BRIDGE, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), c, far;
	const struct udp_in *in;

	fwd_start(w, ARGS("--udp-timeout", "1", "-u", "8080:80"));
	far = client_behind_the_bridge(w, 53);
	c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	cr_expect_str_eq(udp_ask(c, app), self_of(c));
	cr_expect(udp_all_ended(w), "%s", fwd_summary(w));
	cr_expect(eventually(no_route, w, 1000));
	cr_assert(!udp_put(app, CLIENT[v->fam], 53, "ask", 3));
	in = udp_get(far, 1000);
	cr_assert(in, "it does not arrive");
	cr_expect_str_eq(endpoint(in->ip, in->port), endpoint(CT[v->fam], 80));
	world_down(w);
}
