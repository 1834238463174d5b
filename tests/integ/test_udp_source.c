/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams reach the application with the client's address, and answers come back. */

#include "lib.h"

#include <netinet/in.h>

/* A rule that leads host port 8080 to port 80 of the container's loopback. */
static const char *loopback_rule(enum family fam)
{
	return fam == V4 ? "8080:127.0.0.1/80" : "8080:[::1]/80";
}

/* With @rule, the app sees the client's address and port, and each question is answered. */
static void expect_kept_by(struct world *w, const char *rule, int app)
{
	int c = udp_client(&w->client[0], NULL, 0, HOST[w->v->fam], 8080);

	fwd_start(w, ARGS("-d", "-u", rule));
	for (int i = 0; i < 3; i++)
		cr_expect_str_eq(udp_ask(c, app), self_of(c), "%s", fwd_log(w));
	cr_expect(fwd_log_has(w, "source kept"), "%s", fwd_log(w));
	cr_expect(fwd_counts(w, "flows 1 now, 1 ever"), "%s", fwd_summary(w));
	close(c);
	world_down(w);
}

static void expect_kept(struct world *w, int app)
{
	expect_kept_by(w, "8080:80", app);
}

/* An app bound to the wildcard address sees the client. */
EACH_VARIANT(udp_source, wildcard_app_sees_the_client, 10)
{
	struct world *w = world_up(CT_ADDR, v);

	expect_kept(w, udp_app(&w->ct, ANY[v->fam], 80));
}

/* An app bound to the container's own address sees the client. */
EACH_VARIANT(udp_source, app_on_the_containers_address_sees_the_client, 10)
{
	struct world *w = world_up(CT_ADDR, v);

	expect_kept(w, udp_app(&w->ct, CT[v->fam], 80));
}

/* A dual-stack app sees an IPv4 client as IPv4. */
EACH_VARIANT(udp_source, dual_stack_app_sees_the_client, 10)
{
	struct world *w = world_up(CT_ADDR, v);

	expect_kept(w, udp_app(&w->ct, "::", 80));
}

/* An app that answers as its pktinfo says, address and device, is understood. */
EACH_VARIANT(udp_source, app_that_copies_pktinfo_is_understood, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80);

	udp_want_pktinfo(app);
	expect_kept(w, app);
}

/* The same with a dual-stack socket, where IPv4 is told in IPv6's form. */
EACH_VARIANT(udp_source, dual_stack_app_that_copies_pktinfo_is_understood, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, "::", 80);

	udp_want_pktinfo(app);
	expect_kept(w, app);
}

/* An app that takes datagrams from its interface only sees the client. */
EACH_VARIANT(udp_source, app_bound_to_its_device_sees_the_client, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80);

	cr_assert(!setsockopt(app, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5));
	expect_kept(w, app);
}

/* A container with nothing but lo sees the client. */
EACH_VARIANT(udp_source, container_without_network_sees_the_client, 10)
{
	struct world *w = world_up(CT_LO, v);

	expect_kept(w, udp_app(&w->ct, ANY[v->fam], 80));
}

/* There, too, an app that copies pktinfo is understood. */
EACH_VARIANT(udp_source, app_without_network_that_copies_pktinfo_is_understood, 10)
{
	struct world *w = world_up(CT_LO, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80);

	udp_want_pktinfo(app);
	expect_kept(w, app);
}

/* With nothing but lo, an app bound to the loopback address is reached, too. */
EACH_VARIANT(udp_source, loopback_app_without_network_sees_the_client, 10)
{
	struct world *w = world_up(CT_LO, v);

	expect_kept(w, udp_app(&w->ct, LOOP[v->fam], 80));
}

/* A container on a bridge sees the client. */
EACH_VARIANT(udp_source, container_on_a_bridge_sees_the_client, 10)
{
	struct world *w = world_up(CT_BRIDGE, v);

	expect_kept(w, udp_app(&w->ct, ANY[v->fam], 80));
}

/* A container in a user namespace below the user's (keep-id) sees the client. */
EACH_VARIANT(udp_source, container_in_a_nested_user_namespace_sees_the_client, 10)
{
	struct world *w = world_up(CT_NESTED, v);

	expect_kept(w, udp_app(&w->ct, ANY[v->fam], 80));
}

/* An app bound to its loopback address is reached by naming that as the target. */
EACH_VARIANT(udp_source, loopback_app_is_reached_by_explicit_target, 10)
{
	struct world *w = world_up(CT_ADDR, v);

	expect_kept_by(w, loopback_rule(v->fam), udp_app(&w->ct, LOOP[v->fam], 80));
}

/* So is an app bound to no address, which answers from the address that it was asked at. */
EACH_VARIANT(udp_source, wildcard_app_is_reached_by_explicit_loopback_target, 10)
{
	struct world *w = world_up(CT_ADDR, v);

	expect_kept_by(w, loopback_rule(v->fam), udp_app(&w->ct, ANY[v->fam], 80));
}

/* A second address of the container can be the target, whatever the app is bound to. */
EACH_VARIANT(udp_source, second_address_of_the_container_can_be_the_target, 10)
{
	struct world *w = world_up(CT_ADDR, v);

	ns_ip(&w->ct, "addr add 198.18.99.20/24 dev eth0\n"
		      "addr add fd00:99::20/64 dev eth0 nodad\n");
	expect_kept_by(w, v->fam == V4 ? "8080:198.18.99.20/80" : "8080:[fd00:99::20]/80",
		       udp_app(&w->ct, ANY[v->fam], 80));
}

/* What the app keeps to its loopback stays there, unless it is named. */
EACH_VARIANT(udp_source, loopback_app_is_private_otherwise, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, LOOP[v->fam], 80);
	int c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);

	fwd_start(w, ARGS("-u", "8080:80"));
	cr_assert(!udp_put(c, NULL, 0, "x", 1));
	cr_expect(fwd_counts(w, "application not listening: 1"), "%s", fwd_summary(w));
	cr_expect(udp_silent(app));
	world_down(w);
}

/* Each of two clients on two networks, and two on one, are seen as themselves. */
EACH_VARIANT(udp_source, clients_of_two_networks_are_told_apart, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), c[3];

	world_second_client(w);
	fwd_start(w, ARGS("-u", "8080:80"));
	c[0] = udp_client(&w->client[0], CLIENT[v->fam], 4000, HOST[v->fam], 8080);
	c[1] = udp_client(&w->client[1], CLIENT_B[v->fam], 4000, HOST_B[v->fam], 8080);
	c[2] = udp_client(&w->client[0], CLIENT2[v->fam], 4000, HOST[v->fam], 8080);
	for (int i = 0; i < 9; i++)
		cr_expect_str_eq(udp_ask(c[i % 3], app), self_of(c[i % 3]));
	world_down(w);
}

/* Answers leave from the address that the client sent to, whichever of the host's it was. */
EACH_VARIANT(udp_source, answers_come_from_the_address_that_was_asked, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), a, b;

	world_second_client(w);
	fwd_start(w, ARGS("-u", "8080:80"));
	a = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	b = udp_client(&w->client[0], NULL, 0, HOST_B[v->fam], 8080);
	for (int i = 0; i < 3; i++) {
		cr_expect_str_eq(udp_ask(a, app), self_of(a));
		cr_expect_str_eq(udp_ask(b, app), self_of(b));
	}
	world_down(w);
}

/* A client that sends to both addresses from one port has two sessions, and two answers. */
EACH_VARIANT(udp_source, one_client_port_at_two_addresses_is_two_sessions, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80);
	int c = udp_app(&w->client[0], CLIENT[v->fam], 4000);
	const char *to[] = { HOST[v->fam], HOST_B[v->fam] };
	struct udp_in in[2];

	world_second_client(w);
	fwd_start(w, ARGS("-d", "-u", "8080:80"));
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < 2; i++) {
			const struct udp_in *p;

			cr_assert(!udp_put(c, to[i], 8080, to[i], strlen(to[i])));
			p = udp_get(app, 1000);
			cr_assert(p && p->len == strlen(to[i]), "%s", fwd_log(w));
			cr_expect_str_eq(p->ip, CLIENT[v->fam]);
			in[i] = *p;
		}
		/* Each answer says which address was asked: it must come from there. */
		for (int i = 0; i < 2; i++) {
			int k = (i + round) % 2;
			const struct udp_in *p;

			cr_assert(!udp_answer(app, &in[k], to[k], strlen(to[k])));
			p = udp_get(c, 1000);
			cr_assert(p, "no answer from %s\n%s", to[k], fwd_log(w));
			cr_expect_str_eq(p->ip, to[k], "%.*s comes from %s\n%s", (int)p->len,
					 (const char *)p->data, p->ip, fwd_log(w));
		}
	}
	cr_expect(fwd_counts(w, "flows 2 now, 2 ever"), "%s", fwd_summary(w));
	world_down(w);
}

/* A client on the host that uses the host's own address is seen with that. */
EACH_VARIANT(udp_source, host_itself_is_seen_by_its_address, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), c;

	fwd_start(w, ARGS("-u", "8080:80"));
	c = udp_client(&w->host, NULL, 0, HOST[v->fam], 8080);
	cr_expect_str_eq(udp_ask(c, app), endpoint(HOST[v->fam], self_port(c)));
	world_down(w);
}

/* An address that the host gets later is published by a wildcard rule at once. */
EACH_VARIANT(udp_source, address_that_the_host_gets_later_works, 10)
{
	static const char *const later[] = { "198.18.1.200", "fd00:1::200" };
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), c;

	fwd_start(w, ARGS("-u", "8080:80"));
	ns_ip(&w->host, "addr add 198.18.1.200/24 dev eth0\n"
			"addr add fd00:1::200/64 dev eth0 nodad\n");
	c = udp_client(&w->client[0], NULL, 0, later[v->fam], 8080);
	cr_expect_str_eq(udp_ask(c, app), self_of(c));
	world_down(w);
}

/* A link-local client is seen by its link-local address, and answered by its interface. */
EACH_ENGINE(udp_source, link_local_client_is_seen, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, "::", 80), c;
	char host[32];
	const char *seen;

	world_second_client(w); /* so that the route to fe80::/64 is not the only one */
	ns_ip(&w->host, "addr add fe80::77:1/64 dev eth0 nodad\n");
	ns_ip(&w->client[0], "addr add fe80::77:2/64 dev eth0 nodad\n");
	snprintf(host, sizeof(host), "fe80::77:1%%%d", ns_ifindex(&w->client[0], "eth0"));
	fwd_start(w, ARGS("-u", "8080:80"));
	c = udp_client(&w->client[0], NULL, 0, host, 8080);
	for (int i = 0; i < 3; i++) {
		seen = udp_ask(c, app);
		cr_expect(strstr(seen, "[fe80::") == seen, "%s", seen);
		cr_expect_eq(atoi(strrchr(seen, ':') + 1), self_port(c));
	}
	world_down(w);
}

/* An IPv4 client reaches an IPv6-only app, which sees it in the NAT64 prefix. */
EACH_ENGINE(udp_source, ipv4_client_is_mapped_for_an_ipv6_only_app, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = ns_socket(&w->ct, AF_INET6, SOCK_DGRAM), on = 1, c;

	cr_assert(!setsockopt(app, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)));
	cr_assert(!sock_bind(app, "::", 80));
	fwd_start(w, ARGS("--threads", "1", "-u", "8080:80"));
	for (int i = 0; i < 3; i++) {
		c = udp_client(&w->client[0], NULL, 0, HOST[V4], 8080);
		/* The first one finds out. */
		cr_expect(i > 0 || udp_serves(c, app), "%s", fwd_log(w));
		cr_expect_str_eq(udp_ask(c, app), endpoint("64:ff9b::c612:102", self_port(c)));
	}
	world_down(w);
}

/* An IPv6 client reaches an IPv4-only app; its address cannot be shown, and that is said. */
EACH_ENGINE(udp_source, ipv6_client_reaches_an_ipv4_only_app, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, "0.0.0.0", 80), c;

	fwd_start(w, ARGS("-d", "--threads", "1", "-u", "8080:80"));
	for (int i = 0; i < 3; i++) {
		c = udp_client(&w->client[0], NULL, 0, HOST[V6], 8080);
		cr_expect(i > 0 || udp_serves(c, app), "%s", fwd_log(w));
		cr_expect(strchr(udp_ask(c, app), ':'), "%s", fwd_log(w));
	}
	cr_expect(fwd_log_has(w, "source lost"), "%s", fwd_log(w));
	cr_expect_eq(fwd_log_count(w, "warning: "), 1, "%s", fwd_log(w));
	world_down(w);
}

/* Where the namespace has no IPv6, IPv6 clients are served over IPv4. */
EACH_ENGINE(udp_source, namespace_without_ipv6_is_served_over_ipv4, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, "0.0.0.0", 80), c;

	cr_assert(!ns_sysctl(&w->ct, "net/ipv6/conf/all/disable_ipv6", "1"));
	fwd_start(w, ARGS("-u", "8080:80"));
	c = udp_client(&w->client[0], NULL, 0, HOST[V4], 8080);
	cr_expect_str_eq(udp_ask(c, app), self_of(c));
	c = udp_client(&w->client[0], NULL, 0, HOST[V6], 8080);
	cr_expect(udp_serves(c, app), "%s", fwd_log(w));
	world_down(w);
}

/* A client that asks a broadcast address is answered from an address of the host. */
EACH_ENGINE(udp_source, broadcast_is_answered_from_an_address, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, "0.0.0.0", 80), on = 1;
	int c = udp_app(&w->client[0], CLIENT[V4], 4000);
	const struct udp_in *in;

	cr_assert(!setsockopt(c, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on)));
	ns_ip(&w->host, "addr add 198.18.1.9/24 brd 198.18.1.255 dev eth0\n");
	fwd_start(w, ARGS("-u", "8080:80"));
	cr_assert(!udp_put(c, "198.18.1.255", 8080, "who is there", 12));
	in = udp_get(app, 1000);
	cr_assert(in, "%s", fwd_log(w));
	cr_expect_str_eq(endpoint(in->ip, in->port), endpoint(CLIENT[V4], 4000));
	cr_assert(!udp_answer(app, in, "me", 2));
	in = udp_get(c, 1000);
	cr_assert(in, "no answer\n%s", fwd_summary(w));
	cr_expect_str_eq(endpoint(in->ip, in->port), endpoint(HOST[V4], 8080));
	world_down(w);
}

/* Who has no address yet cannot be answered: what he sends does not make fwd answer itself. */
EACH_ENGINE(udp_source, sender_without_address_is_ignored, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, "0.0.0.0", 80), self = udp_app(&w->host, "0.0.0.0", 4000);
	int c, on = 1;

	fwd_start(w, ARGS("--threads", "1", "-u", "8080:80"));
	ns_ip(&w->client[0], "addr flush dev eth0\n");
	c = udp_app(&w->client[0], "0.0.0.0", 4000);
	cr_assert(!setsockopt(c, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on)));
	cr_assert(!setsockopt(c, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5));
	cr_assert(!udp_put(c, "255.255.255.255", 8080, "x", 1));
	cr_expect(fwd_counts(w, "datagrams not sent: 1"), "%s", fwd_summary(w));
	cr_expect(udp_silent(app));
	cr_expect(udp_silent(self));
	world_down(w);
}

/* All the workers' sockets get what is sent to a group: the app is asked once. */
EACH_ENGINE(udp_source, multicast_arrives_once_and_is_answered_from_an_address, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, "::", 80), c;
	char group[32];

	ns_ip(&w->host, "addr add fe80::77:1/64 dev eth0 nodad\n");
	ns_ip(&w->client[0], "addr add fe80::77:2/64 dev eth0 nodad\n");
	fwd_start(w, ARGS("--threads", "4", "-u", "8080:80"));
	c = ns_socket(&w->client[0], AF_INET6, SOCK_DGRAM);
	cr_assert(!sock_bind(c, "::", 4000));
	snprintf(group, sizeof(group), "ff02::1%%%d", ns_ifindex(&w->client[0], "eth0"));
	for (int i = 0; i < 3; i++) {
		const struct udp_in *in;

		cr_assert(!udp_put(c, group, 8080, "who is there", 12));
		in = udp_get(app, 1000);
		cr_assert(in, "%s", fwd_log(w));
		cr_expect_eq(in->port, 4000);
		cr_expect(!strncmp(in->ip, "fe80::", 6), "%s", in->ip);
		cr_assert(!udp_answer(app, in, "me", 2));
		cr_expect(udp_silent(app), "it comes twice\n%s", fwd_summary(w));
		in = udp_get(c, 1000);
		cr_assert(in && in->len == 2, "no answer\n%s", fwd_summary(w));
		cr_expect(!strncmp(in->ip, "fe80::", 6), "answered by %s", in->ip);
		cr_expect_eq(in->port, 8080);
		cr_expect(udp_silent(c), "two answers\n%s", fwd_summary(w));
	}
	world_down(w);
}

/* So do those of a broadcast. */
EACH_ENGINE(udp_source, broadcast_arrives_once, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, "0.0.0.0", 80), on = 1;
	int c = udp_app(&w->client[0], CLIENT[V4], 4000);

	cr_assert(!setsockopt(c, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on)));
	ns_ip(&w->host, "addr add 198.18.1.9/24 brd 198.18.1.255 dev eth0\n");
	fwd_start(w, ARGS("--threads", "4", "-u", "8080:80"));
	for (int i = 0; i < 3; i++) {
		cr_assert(!udp_put(c, "198.18.1.255", 8080, &i, sizeof(i)));
		cr_expect(udp_get(app, 1000), "%s", fwd_log(w));
		cr_expect(udp_silent(app), "it comes twice\n%s", fwd_summary(w));
	}
	world_down(w);
}
