/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the client's address or port is taken inside the container: every row
 * of the table of collisions in docs/design.md, and what --source makes of it.
 */

#include "lib.h"

/* The app sees the client's address with another port, and the log says so. */
static void expect_port_changed(struct world *w, struct conn *c)
{
	cr_expect_str_eq(peer_ip(c->a), CLIENT[w->v->fam]);
	cr_expect_neq(peer_port(c->a), self_port(c->c));
	cr_expect(conn_works(c));
	cr_expect(fwd_log_has(w, "port changed"), "%s", fwd_log(w));
}

/* A second connection with the same address, port and target gets another port. */
EACH_VARIANT(tcp_collision, same_four_tuple_changes_the_port, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	struct conn a, b;

	fwd_start(w, ARGS("-d", "-t", "8080:80", "-t", "8081:80"));
	a = conn_open_from(&w->client[0], CLIENT[v->fam], 4000, HOST[v->fam], 8080, l);
	b = conn_open_from(&w->client[0], CLIENT[v->fam], 4000, HOST[v->fam], 8081, l);
	cr_expect_str_eq(peer_of(a.a), self_of(a.c));
	expect_port_changed(w, &b);
	cr_expect(conn_works(&a));
	world_down(w);
}

/* One client address and port to two published ports of the container keeps both. */
EACH_VARIANT(tcp_collision, one_client_port_to_two_targets_is_kept, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l80 = tcp_listen(&w->ct, ANY[v->fam], 80), l90 = tcp_listen(&w->ct, ANY[v->fam], 90);
	struct conn a, b;

	fwd_start(w, ARGS("-t", "8080:80", "-t", "8090:90"));
	a = conn_open_from(&w->client[0], CLIENT[v->fam], 4000, HOST[v->fam], 8080, l80);
	b = conn_open_from(&w->client[0], CLIENT[v->fam], 4000, HOST[v->fam], 8090, l90);
	cr_expect_str_eq(peer_of(a.a), self_of(a.c));
	cr_expect_str_eq(peer_of(b.a), self_of(b.c));
	cr_expect(conn_works(&a) && conn_works(&b));
	world_down(w);
}

/* A port that the client has just used is served again at once, with its address. */
EACH_VARIANT(tcp_collision, port_is_reused_at_once, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);

	fwd_start(w, ARGS("-d", "-t", "8080:80", "-t", "8081:80"));
	for (int i = 0; i < 2; i++) {
		struct conn c = conn_open_from(&w->client[0], CLIENT[v->fam], 4000, HOST[v->fam],
					       8080 + i, l);
		bool kept = peer_port(c.a) == 4000;

		cr_expect_str_eq(peer_ip(c.a), CLIENT[v->fam]);
		cr_expect(conn_works(&c));
		/* The client's side closes first, so the socket inside has to wait. */
		close_fd(&c.c);
		cr_expect_eq(sock_next(c.a, 2000), 0);
		close_fd(&c.a);
		cr_expect(kept || fwd_log_has(w, "port changed"), "%s", fwd_log(w));
	}
	world_down(w);
}

/* The same, with the app closing first: nothing waits on the client's side of the container. */
EACH_VARIANT(tcp_collision, port_is_kept_after_the_app_closed_first, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);

	fwd_start(w, ARGS("-d", "-t", "8080:80", "-t", "8081:80"));
	for (int i = 0; i < 2; i++) {
		struct conn c = conn_open_from(&w->client[0], CLIENT[v->fam], 4000, HOST[v->fam],
					       8080 + i, l);

		cr_expect_str_eq(peer_ip(c.a), CLIENT[v->fam]);
		cr_expect(conn_works(&c));
		close_fd(&c.a);
		cr_expect_eq(sock_next(c.c, 2000), 0);
		close_fd(&c.c);
	}
	world_down(w);
}

/* A client port that a wildcard listener in the container has is changed. */
EACH_VARIANT(tcp_collision, port_of_a_wildcard_listener_is_changed, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 8080);
	struct conn c;

	fwd_start(w, ARGS("-d", "-t", "8080"));
	c = conn_open_from(&w->client[0], CLIENT[v->fam], 8080, HOST[v->fam], 8080, l);
	expect_port_changed(w, &c);
	world_down(w);
}

/* If the listener is bound to the container's address, the same port is kept. */
EACH_VARIANT(tcp_collision, port_of_a_bound_listener_is_kept, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, CT[v->fam], 8080);
	struct conn c;

	fwd_start(w, ARGS("-d", "-t", "8080"));
	c = conn_open_from(&w->client[0], CLIENT[v->fam], 8080, HOST[v->fam], 8080, l);
	cr_expect_str_eq(peer_of(c.a), self_of(c.c));
	cr_expect(conn_works(&c));
	world_down(w);
}

/* An app that sets SO_REUSEADDR can listen on a port that a client uses. */
EACH_VARIANT(tcp_collision, app_can_listen_on_a_clients_port, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80), late;
	struct conn c;

	fwd_start(w, ARGS("-t", "8080:80"));
	c = conn_open_from(&w->client[0], CLIENT[v->fam], 4000, HOST[v->fam], 8080, l);
	late = tcp_listen(&w->ct, ANY[v->fam], 4000);
	cr_expect_geq(late, 0);
	cr_expect(conn_works(&c));
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
EACH_VARIANT(tcp_collision, client_with_the_containers_address_is_kept, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	struct conn c;

	copy_address(w);
	fwd_start(w, ARGS("-t", "8080:80"));
	c = conn_open_from(&w->client[0], CT[v->fam], 4000, HOST[v->fam], 8080, l);
	cr_expect_str_eq(peer_of(c.a), endpoint(CT[v->fam], 4000));
	cr_expect(conn_works(&c));
	world_down(w);
}

/* If it uses the target's port, too, and nobody listens, it must not meet itself. */
EACH_VARIANT(tcp_collision, client_does_not_meet_itself, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int c, event;

	copy_address(w);
	fwd_start(w, ARGS("-t", "8080"));
	c = tcp_connect(&w->client[0], CT[v->fam], 8080, HOST[v->fam], 8080);
	if (c >= 0) {
		/* Who met himself would read his own word. */
		event = sock_put(c, "hello", 5);
		if (!event)
			event = sock_next(c, 2000);
		cr_expect(event == -ECONNRESET || event == -EPIPE, "got %d", event);
	} else {
		cr_expect(c == -ECONNREFUSED || c == -ECONNRESET, "%s", strerror(-c));
	}
	world_down(w);
}

/* A container without network has no port to spare for itself, either: no self-connects. */
EACH_VARIANT(tcp_collision, nobody_meets_himself_on_loopback, 20)
{
	struct world *w = world_up(CT_LO, v);

	/* Few ports to choose from, and the target is one of them. */
	cr_assert(!ns_sysctl(&w->ct, "net/ipv4/ip_local_port_range", "8080 8089"));
	fwd_start(w, ARGS("--source=off", "-t", "8085"));
	for (int i = 0; i < 40; i++)
		cr_expect(tcp_refused(&w->client[0], HOST[v->fam], 8085));
	world_down(w);
}

/* With --source=require a connection whose port cannot be kept is reset, and counted. */
EACH_VARIANT(tcp_collision, require_refuses_a_taken_port, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 8080), c;
	struct conn good;

	fwd_start(w, ARGS("--source=require", "-t", "8080"));
	c = tcp_connect(&w->client[0], CLIENT[v->fam], 8080, HOST[v->fam], 8080);
	if (c >= 0)
		cr_expect_eq(sock_next(c, 2000), -ECONNRESET);
	else
		cr_expect(c == -ECONNREFUSED || c == -ECONNRESET, "%s", strerror(-c));
	cr_expect_eq(tcp_accept(l, 50), -ETIMEDOUT);
	cr_expect(fwd_counts(w, "refused 1"), "%s", fwd_summary(w));
	good = conn_open(w, 8080, l);
	cr_expect_str_eq(peer_of(good.a), self_of(good.c));
	world_down(w);
}

/* With --source=require an IPv6 client of an IPv4-only app is reset. */
EACH_ENGINE(tcp_collision, require_refuses_another_family, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, "0.0.0.0", 80);
	struct conn c;

	fwd_start(w, ARGS("--source=require", "-t", "8080:80"));
	cr_expect(tcp_refused(&w->client[0], HOST[V6], 8080));
	cr_expect_eq(tcp_accept(l, 50), -ETIMEDOUT);
	c = conn_open(w, 8080, l);
	cr_expect(conn_works(&c));
	world_down(w);
}

/* The first changed port of a rule is a warning; all of them are counted. */
EACH_ENGINE(tcp_collision, warning_comes_once_for_each_rule, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l80 = tcp_listen(&w->ct, "0.0.0.0", 8080), l90 = tcp_listen(&w->ct, "0.0.0.0", 8090);
	const char *sum;

	fwd_start(w, ARGS("-t", "8080", "-t", "8090"));
	for (int i = 0; i < 3; i++) {
		/* A reset leaves no port waiting, so the same one can be used again. */
		struct conn a = conn_open_from(&w->client[0], CLIENT[V4], 8080, HOST[V4], 8080,
					       l80);
		struct conn b = conn_open_from(&w->client[0], CLIENT[V4], 8090, HOST[V4], 8090,
					       l90);

		cr_expect(conn_works(&a) && conn_works(&b));
		sock_reset(a.c);
		sock_reset(b.c);
	}
	sum = fwd_summary(w);
	cr_expect(strstr(sum, "3 port changed"), "%s", sum);
	cr_expect_eq(fwd_log_count(w, "warning: "), 2, "%s", fwd_log(w));
	world_down(w);
}
