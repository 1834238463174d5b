/* SPDX-License-Identifier: Apache-2.0 */
/* The application sees who the client is, on every kind of container and listener. */

#include "lib.h"

#include <net/if.h>
#include <netinet/in.h>

/* Publish port 8080 as 80, connect, and expect the app to see the client's address and port. */
static void expect_kept(struct world *w, int listener)
{
	struct conn c;

	fwd_start(w, ARGS("-d", "-t", "8080:80"));
	c = conn_open(w, 8080, listener);
	cr_expect_str_eq(peer_of(c.a), self_of(c.c));
	cr_expect_str_eq(peer_ip(c.a), CLIENT[w->v->fam]);
	cr_expect(conn_works(&c));
	cr_expect(fwd_log_has(w, "source kept"), "%s", fwd_log(w));
	conn_close(&c);
	world_down(w);
}

/* An app bound to the wildcard address sees the client. */
EACH_VARIANT(tcp_source, wildcard_app_sees_the_client, 10)
{
	struct world *w = world_up(CT_ADDR, v);

	expect_kept(w, tcp_listen(&w->ct, ANY[v->fam], 80));
}

/* An app bound to the container's own address sees the client. */
EACH_VARIANT(tcp_source, app_on_the_containers_address_sees_the_client, 10)
{
	struct world *w = world_up(CT_ADDR, v);

	expect_kept(w, tcp_listen(&w->ct, CT[v->fam], 80));
}

/* A dual-stack app sees an IPv4 client as IPv4. */
EACH_VARIANT(tcp_source, dual_stack_app_sees_the_client, 10)
{
	struct world *w = world_up(CT_ADDR, v);

	expect_kept(w, tcp_listen(&w->ct, "::", 80));
}

/* An app that takes connections from its interface only sees the client. */
EACH_VARIANT(tcp_source, app_bound_to_its_device_sees_the_client, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);

	cr_assert(!setsockopt(l, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5));
	expect_kept(w, l);
}

/* A container with nothing but lo sees the client. */
EACH_VARIANT(tcp_source, container_without_network_sees_the_client, 10)
{
	struct world *w = world_up(CT_LO, v);

	expect_kept(w, tcp_listen(&w->ct, ANY[v->fam], 80));
}

/* With nothing but lo, an app bound to the loopback address is reached, too. */
EACH_VARIANT(tcp_source, loopback_app_without_network_sees_the_client, 10)
{
	struct world *w = world_up(CT_LO, v);

	expect_kept(w, tcp_listen(&w->ct, LOOP[v->fam], 80));
}

/* A container on a bridge sees the client. */
EACH_VARIANT(tcp_source, container_on_a_bridge_sees_the_client, 10)
{
	struct world *w = world_up(CT_BRIDGE, v);

	expect_kept(w, tcp_listen(&w->ct, ANY[v->fam], 80));
}

/* A container in a user namespace below the user's (keep-id) sees the client. */
EACH_VARIANT(tcp_source, container_in_a_nested_user_namespace_sees_the_client, 10)
{
	struct world *w = world_up(CT_NESTED, v);

	expect_kept(w, tcp_listen(&w->ct, ANY[v->fam], 80));
}

/* An app bound to its loopback address is reached by naming that as the target. */
EACH_VARIANT(tcp_source, loopback_app_is_reached_by_explicit_target, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, LOOP[v->fam], 80);
	struct conn c;

	fwd_start(w, ARGS("-t", v->fam == V4 ? "8080:127.0.0.1/80" : "8080:[::1]/80"));
	c = conn_open(w, 8080, l);
	cr_expect_str_eq(peer_of(c.a), self_of(c.c));
	cr_expect(conn_works(&c));
	conn_close(&c);
	world_down(w);
}

/* Without that, what the app keeps to its loopback stays there. */
EACH_VARIANT(tcp_source, loopback_app_is_private_otherwise, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, LOOP[v->fam], 80);

	fwd_start(w, ARGS("-t", "8080:80"));
	cr_expect(tcp_refused(&w->client[0], HOST[v->fam], 8080));
	cr_expect_eq(tcp_accept(l, 0), -ETIMEDOUT);
	world_down(w);
}

/* Each of two clients on two networks is seen as itself. */
EACH_VARIANT(tcp_source, clients_of_two_networks_are_told_apart, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	struct conn a, b, c;

	world_second_client(w);
	fwd_start(w, ARGS("-t", "8080:80"));
	a = conn_open(w, 8080, l);
	b = conn_open_from(&w->client[1], NULL, 0, HOST_B[v->fam], 8080, l);
	c = conn_open_from(&w->client[0], CLIENT2[v->fam], 0, HOST[v->fam], 8080, l);
	cr_expect_str_eq(peer_of(a.a), self_of(a.c));
	cr_expect_str_eq(peer_of(b.a), self_of(b.c));
	cr_expect_str_eq(peer_ip(b.a), CLIENT_B[v->fam]);
	cr_expect_str_eq(peer_of(c.a), self_of(c.c));
	cr_expect(conn_works(&a) && conn_works(&b) && conn_works(&c));
	world_down(w);
}

/* A client on the host that uses the host's own address is seen with that. */
EACH_VARIANT(tcp_source, host_itself_is_seen_by_its_address, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	struct conn c;

	fwd_start(w, ARGS("-t", "8080:80"));
	c = conn_open_from(&w->host, NULL, 0, HOST[v->fam], 8080, l);
	cr_expect_str_eq(peer_of(c.a), endpoint(HOST[v->fam], self_port(c.c)));
	cr_expect(conn_works(&c));
	world_down(w);
}

/* A client on the host's loopback is shown as a dummy address, never as a loopback one. */
EACH_VARIANT(tcp_source, loopback_client_is_shown_as_dummy, 10)
{
	static const enum ct_kind kinds[] = { CT_LO, CT_ADDR };
	struct world *w = world_up(kinds[v->fam], v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	struct conn c;

	fwd_start(w, ARGS("-d", "-t", "8080:80"));
	c = conn_open_from(&w->host, NULL, 0, LOOP[v->fam], 8080, l);
	cr_expect_str_eq(peer_of(c.a), endpoint(DUMMY[v->fam], self_port(c.c)));
	cr_expect(conn_works(&c));
	world_down(w);
}

/* That holds with an explicit target on the container's loopback, and without transparency. */
EACH_VARIANT(tcp_source, loopback_client_is_never_shown_as_loopback, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, LOOP[v->fam], 80);
	struct conn c;

	fwd_start(w, ARGS("-t", v->fam == V4 ? "8080:127.0.0.1/80" : "8080:[::1]/80"));
	c = conn_open_from(&w->host, NULL, 0, LOOP[v->fam], 8080, l);
	cr_expect_str_eq(peer_ip(c.a), DUMMY[v->fam]);
	world_down(w);

	fwd_start(w,
		  ARGS("--source=off", "-t", v->fam == V4 ? "8081:127.0.0.1/80" : "8081:[::1]/80"));
	c.c = tcp_connect(&w->host, NULL, 0, LOOP[v->fam], 8081);
	c.a = tcp_accept(l, 1000);
	if (c.a >= 0)
		cr_expect_str_neq(peer_ip(c.a), LOOP[v->fam]);
	world_down(w);
}

/* With --host-lo-to-ns-lo loopback leads to loopback and looks like it. */
EACH_VARIANT(tcp_source, host_loopback_leads_to_loopback_on_request, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, LOOP[v->fam], 80);
	struct conn c;

	fwd_start(w, ARGS("--host-lo-to-ns-lo", "-t", "8080:80"));
	c = conn_open_from(&w->host, NULL, 0, LOOP[v->fam], 8080, l);
	cr_expect_str_eq(peer_ip(c.a), LOOP[v->fam]);
	cr_expect(conn_works(&c));
	cr_expect(tcp_refused(&w->client[0], HOST[v->fam], 8080), "remote clients must not");
	world_down(w);
}

/* All of 127/8 is the host, both as destination and as source. */
EACH_ENGINE(tcp_source, all_of_127_is_loopback, 10)
{
	static const char *const ips[] = { "127.0.0.1", "127.0.4.1", "127.255.255.254" };
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, "0.0.0.0", 80);

	fwd_start(w, ARGS("-t", "8080:80"));
	for (unsigned i = 0; i < ARRAY_SIZE(ips); i++) {
		struct conn c = conn_open_from(&w->host, ips[(i + 1) % 3], 0, ips[i], 8080, l);

		cr_expect_str_eq(peer_ip(c.a), DUMMY[V4], "%s: %s", ips[i], peer_ip(c.a));
		cr_expect(conn_works(&c), "%s", ips[i]);
		conn_close(&c);
	}
	world_down(w);
}

/* A link-local client is seen by its link-local address. */
EACH_ENGINE(tcp_source, link_local_client_is_seen, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, "::", 80);
	char host[32];
	struct conn c;

	ns_ip(&w->host, "addr add fe80::77:1/64 dev eth0 nodad\n");
	ns_ip(&w->client[0], "addr add fe80::77:2/64 dev eth0 nodad\n");
	snprintf(host, sizeof(host), "fe80::77:1%%%d", ns_ifindex(&w->client[0], "eth0"));
	fwd_start(w, ARGS("-t", "8080:80"));
	c = conn_open_from(&w->client[0], NULL, 0, host, 8080, l);
	cr_expect(strstr(peer_ip(c.a), "fe80::") == peer_ip(c.a), "%s", peer_ip(c.a));
	cr_expect_eq(peer_port(c.a), self_port(c.c));
	cr_expect(conn_works(&c));
	world_down(w);
}

/* An IPv4 client reaches an IPv6-only app, which sees it in the NAT64 prefix. */
EACH_ENGINE(tcp_source, ipv4_client_is_mapped_for_an_ipv6_only_app, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = ns_socket(&w->ct, AF_INET6, SOCK_STREAM), on = 1;

	cr_assert(!setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)));
	cr_assert(!sock_bind(l, "::", 80) && !listen(l, 16));
	fwd_start(w, ARGS("-t", "8080:80"));
	for (int i = 0; i < 3; i++) {
		struct conn c = conn_open(w, 8080, l);

		cr_expect_str_eq(peer_of(c.a), endpoint("64:ff9b::c612:102", self_port(c.c)));
		cr_expect(conn_works(&c));
	}
	world_down(w);
}

/* An IPv6 client reaches an IPv4-only app; its address cannot be shown, and that is said. */
EACH_ENGINE(tcp_source, ipv6_client_reaches_an_ipv4_only_app, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, "0.0.0.0", 80);

	fwd_start(w, ARGS("-d", "-t", "8080:80"));
	for (int i = 0; i < 3; i++) {
		struct conn c = conn_open_from(&w->client[0], NULL, 0, HOST[V6], 8080, l);

		cr_expect_str_neq(peer_ip(c.a), "127.0.0.1");
		cr_expect(conn_works(&c));
		conn_close(&c);
	}
	cr_expect(fwd_log_has(w, "source lost"), "%s", fwd_log(w));
	cr_expect_eq(fwd_log_count(w, "warning: "), 1, "%s", fwd_log(w));
	world_down(w);
}

/* Where the namespace has no IPv6, IPv6 clients are served over IPv4. */
EACH_ENGINE(tcp_source, namespace_without_ipv6_is_served_over_ipv4, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, "0.0.0.0", 80);
	struct conn c;

	cr_assert(!ns_sysctl(&w->ct, "net/ipv6/conf/all/disable_ipv6", "1"));
	fwd_start(w, ARGS("-t", "8080:80"));
	c = conn_open(w, 8080, l);
	cr_expect_str_eq(peer_of(c.a), self_of(c.c));
	c = conn_open_from(&w->client[0], NULL, 0, HOST[V6], 8080, l);
	cr_expect(conn_works(&c));
	world_down(w);
}

/* The app may come back on another family at any time. */
EACH_ENGINE(tcp_source, family_of_the_app_may_change, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l, on = 1;
	struct conn c;

	fwd_start(w, ARGS("-t", "8080:80"));
	for (int i = 0; i < 4; i++) {
		l = ns_socket(&w->ct, i % 2 ? AF_INET : AF_INET6, SOCK_STREAM);
		if (i % 2 == 0)
			setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
		cr_assert(!sock_bind(l, i % 2 ? "0.0.0.0" : "::", 80) && !listen(l, 16));
		c = conn_open(w, 8080, l);
		cr_expect(conn_works(&c), "round %d", i);
		cr_expect_eq(peer_port(c.a), self_port(c.c));
		conn_close(&c);
		close(l);
		cr_expect(tcp_refused(&w->client[0], HOST[V4], 8080));
	}
	world_down(w);
}

/* An app that had to be reached over the other family is shown the address again when it can be. */
EACH_ENGINE(tcp_source, address_is_kept_again_when_the_app_allows, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, "0.0.0.0", 80);
	struct conn c;

	fwd_start(w, ARGS("--threads", "1", "-t", "8080:80"));
	c = conn_open_from(&w->client[0], NULL, 0, HOST[V6], 8080, l);
	cr_expect(conn_works(&c));
	conn_close(&c);
	close(l);
	l = tcp_listen(&w->ct, "::", 80);
	for (int i = 0; i < 3; i++) {
		c = conn_open_from(&w->client[0], NULL, 0, HOST[V6], 8080, l);
		cr_expect_str_eq(peer_of(c.a), self_of(c.c));
		conn_close(&c);
	}
	world_down(w);
}

/* With --source=off nothing is kept, and connections work all the same. */
EACH_VARIANT(tcp_source, off_connects_as_the_container, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	struct conn c;

	fwd_start(w, ARGS("--source=off", "-t", "8080:80"));
	c = conn_open(w, 8080, l);
	cr_expect_str_neq(peer_ip(c.a), CLIENT[v->fam]);
	cr_expect_str_neq(peer_ip(c.a), LOOP[v->fam]);
	cr_expect(conn_works(&c));
	world_down(w);
}

/* With --source=require a connection that can be kept is served. */
EACH_VARIANT(tcp_source, require_serves_what_can_be_kept, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	struct conn c;

	fwd_start(w, ARGS("--source=require", "-t", "8080:80"));
	c = conn_open(w, 8080, l);
	cr_expect_str_eq(peer_of(c.a), self_of(c.c));
	cr_expect(conn_works(&c));
	world_down(w);
}

/* An address that the host gets later is published by a wildcard rule at once. */
EACH_VARIANT(tcp_source, address_that_the_host_gets_later_works, 10)
{
	static const char *const later[] = { "198.18.1.200", "fd00:1::200" };
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	struct conn c;

	fwd_start(w, ARGS("-t", "8080:80"));
	ns_ip(&w->host, v->fam == V4 ? "addr add 198.18.1.200/24 dev eth0\n"
				     : "addr add fd00:1::200/64 dev eth0 nodad\n");
	c = conn_open_from(&w->client[0], NULL, 0, later[v->fam], 8080, l);
	cr_expect_str_eq(peer_of(c.a), self_of(c.c));
	cr_expect(conn_works(&c));
	world_down(w);
}

struct late {
	struct world *w;
	int listener;
	struct conn c;
};

static bool late_connects(void *arg)
{
	struct late *l = arg;

	l->c.c = tcp_connect(&l->w->client[0], NULL, 0, HOST[l->w->v->fam], 8080);
	if (l->c.c < 0)
		return false;
	l->c.a = tcp_accept(l->listener, 200);
	if (l->c.a < 0)
		close(l->c.c);
	return l->c.a >= 0;
}

/* A container that gets its address later (podman network connect) is reached by it. */
EACH_VARIANT(tcp_source, address_that_the_container_gets_later_works, 10)
{
	struct world *w = world_up(CT_LO, v);
	struct late l = { w, -1, { -1, -1 } };

	fwd_start(w, ARGS("-t", "8080:80"));
	ns_ip(&w->ct, "link add eth0 type veth peer name far\n"
		      "link set far up\n"
		      "addr add 198.18.99.2/24 dev eth0\n"
		      "addr add fd00:99::2/64 dev eth0 nodad\n"
		      "link set eth0 up\n");
	l.listener = tcp_listen(&w->ct, CT[v->fam], 80);
	cr_assert(eventually(late_connects, &l, 3000), "%s", fwd_log(w));
	cr_expect_str_eq(peer_of(l.c.a), self_of(l.c.c));
	cr_expect(conn_works(&l.c));
	world_down(w);
}
