/* SPDX-License-Identifier: Apache-2.0 */
/* Which addresses, devices and ports of the host are open, and which are not. */

#include "lib.h"

/* True if the app gets what the client sends to @ip:@port from @ns. */
static bool reached(const struct ns *ns, const char *ip, int port, int listener)
{
	struct conn c = { tcp_connect(ns, NULL, 0, ip, port), -1 };
	bool ok;

	if (c.c < 0)
		return false;
	c.a = tcp_accept(listener, 1000);
	ok = c.a >= 0 && conn_works(&c);
	conn_close(&c);
	return ok;
}

/* Reached as port 80 on 127.0.0.1 of nobody: a port of the host that is free again. */
static bool can_bind(struct world *w, const char *ip, int port)
{
	int fd = ns_socket(&w->host, strchr(ip, ':') ? AF_INET6 : AF_INET, SOCK_STREAM);
	int err = sock_bind(fd, ip, port);

	if (!err)
		err = listen(fd, 1) ? -errno : 0;
	close(fd);
	return err == 0;
}

static void expect_one_line(const struct run *r)
{
	cr_expect_eq(r->status, 1, "status %d: %s", r->status, r->out);
	cr_expect(strstr(r->out, "fwd: ") == r->out, "%s", r->out);
	cr_expect_eq(strchr(r->out, '\n'), r->out + strlen(r->out) - 1, "%s", r->out);
}

/* A rule for one device is reached through that device and through no other. */
EACH_VARIANT(listen, device_rule_opens_that_device_only, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);

	world_second_client(w);
	fwd_start(w, ARGS("-t", v->fam == V4 ? "0.0.0.0%eth0/8080:80" : "::%eth0/8080:80"));
	cr_expect(reached(&w->client[0], HOST[v->fam], 8080, l));
	cr_expect(!reached(&w->client[1], HOST_B[v->fam], 8080, l));
	/* Nor by the address of the first device through the second one. */
	cr_expect(!reached(&w->client[1], HOST[v->fam], 8080, l));
	cr_expect(!reached(&w->host, LOOP[v->fam], 8080, l));
	world_down(w);
}

/* A device without an address means both families; one with an address means that. */
EACH_VARIANT(listen, device_rules_may_go_with_addresses_or_without, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);

	world_second_client(w);
	fwd_start(w, ARGS("-t", "%eth1/8080:80", "-t",
			  v->fam == V4 ? "198.18.1.1%eth0/8081:80" : "[fd00:1::1]%eth0/8081:80"));
	cr_expect(reached(&w->client[1], HOST_B[v->fam], 8080, l));
	cr_expect(!reached(&w->client[0], HOST[v->fam], 8080, l));
	cr_expect(reached(&w->client[0], HOST[v->fam], 8081, l));
	world_down(w);
}

/* The same port on two devices may lead to two ports of the container. */
EACH_VARIANT(listen, devices_lead_to_different_ports, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int a = tcp_listen(&w->ct, ANY[v->fam], 80), b = tcp_listen(&w->ct, ANY[v->fam], 90);

	world_second_client(w);
	fwd_start(w, ARGS("-t", "%eth0/8080:80", "-t", "%eth1/8080:90"));
	cr_expect(reached(&w->client[0], HOST[v->fam], 8080, a));
	cr_expect(reached(&w->client[1], HOST_B[v->fam], 8080, b));
	world_down(w);
}

/* A rule for one address is not reached by another, nor on loopback. */
EACH_VARIANT(listen, address_rule_opens_that_address_only, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);

	world_second_client(w);
	fwd_start(w, ARGS("-t", v->fam == V4 ? "198.18.1.1/8080:80" : "[fd00:1::1]/8080:80", "-t",
			  v->fam == V4 ? "127.0.0.1/8081:80" : "::1/8081:80"));
	cr_expect(reached(&w->client[0], HOST[v->fam], 8080, l));
	cr_expect(tcp_refused(&w->client[1], HOST_B[v->fam], 8080));
	cr_expect(tcp_refused(&w->host, LOOP[v->fam], 8080));
	cr_expect(reached(&w->host, LOOP[v->fam], 8081, l));
	cr_expect(tcp_refused(&w->client[0], HOST[v->fam], 8081));
	world_down(w);
}

/* One port on several addresses of the host may lead to several ports. */
EACH_VARIANT(listen, addresses_lead_to_different_ports, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int a = tcp_listen(&w->ct, ANY[v->fam], 80), b = tcp_listen(&w->ct, ANY[v->fam], 90);

	world_second_client(w);
	fwd_start(w, ARGS("-t", v->fam == V4 ? "198.18.1.1/8080:80" : "[fd00:1::1]/8080:80", "-t",
			  v->fam == V4 ? "198.18.2.1/8080:90" : "fd00:2::1/8080:90"));
	cr_expect(reached(&w->client[0], HOST[v->fam], 8080, a));
	cr_expect(reached(&w->client[1], HOST_B[v->fam], 8080, b));
	world_down(w);
}

/* Each port of a range leads to its own; exclusions and neighbours are closed. */
EACH_VARIANT(listen, range_is_mapped_port_by_port, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l[10];

	for (int i = 0; i < 10; i++)
		l[i] = tcp_listen(&w->ct, ANY[v->fam], 90 + i);
	fwd_start(w, ARGS("-t", "8080-8089:90-99,~8085"));
	for (int i = 0; i < 10; i++)
		cr_expect_eq(reached(&w->client[0], HOST[v->fam], 8080 + i, l[i]), i != 5, "%d", i);
	cr_expect(tcp_refused(&w->client[0], HOST[v->fam], 8079));
	cr_expect(tcp_refused(&w->client[0], HOST[v->fam], 8085));
	cr_expect(tcp_refused(&w->client[0], HOST[v->fam], 8090));
	world_down(w);
}

/* Lists, single ports and several options add up. */
EACH_VARIANT(listen, lists_and_options_add_up, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int a = tcp_listen(&w->ct, ANY[v->fam], 8080), b = tcp_listen(&w->ct, ANY[v->fam], 8082);
	int c = tcp_listen(&w->ct, ANY[v->fam], 80);

	fwd_start(w, ARGS("-t", "8080,8082-8083", "--tcp-ports=65535:80", "-t", "none"));
	cr_expect(reached(&w->client[0], HOST[v->fam], 8080, a));
	cr_expect(reached(&w->client[0], HOST[v->fam], 8082, b));
	cr_expect(tcp_refused(&w->client[0], HOST[v->fam], 8081));
	cr_expect(reached(&w->client[0], HOST[v->fam], 65535, c));
	world_down(w);
}

/* Only exclusions leave all the others open. */
EACH_VARIANT(listen, exclusions_alone_mean_the_rest, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 8080);

	fwd_start(w, ARGS("-t", "~1-8079,~8082-65535"));
	cr_expect(reached(&w->client[0], HOST[v->fam], 8080, l));
	cr_expect(tcp_refused(&w->client[0], HOST[v->fam], 8081));
	cr_expect(can_bind(w, HOST[v->fam], 8082));
	world_down(w);
}

/* A target may be an address of the container, with a port or without. */
EACH_VARIANT(listen, target_address_is_used, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int a = tcp_listen(&w->ct, CT[v->fam], 80), b = tcp_listen(&w->ct, LOOP[v->fam], 8081);

	fwd_start(w, v->fam == V4 ? ARGS("-t", "8080:198.18.99.2/80", "-t", "8081:127.0.0.1")
				  : ARGS("-t", "8080:[fd00:99::2]/80", "-t", "8081:[::1]"));
	cr_expect(reached(&w->client[0], HOST[v->fam], 8080, a));
	cr_expect(reached(&w->client[0], HOST[v->fam], 8081, b));
	world_down(w);
}

/* A port in use: the message names address and port, and nothing half-bound is left. */
EACH_VARIANT(listen, port_in_use_fails_and_leaves_nothing, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int taken = tcp_listen(&w->host, HOST[v->fam], 8082);
	char pid_path[64];
	struct run r;

	r = fwd_fails(w, ARGS("-t", "8080-8083:80-83"));
	expect_one_line(&r);
	cr_expect(strstr(r.out, "Address already in use"), "%s", r.out);
	cr_expect(strstr(r.out, "8082"), "%s", r.out);
	for (int port = 8080; port < 8084; port++)
		cr_expect_eq(can_bind(w, HOST[v->fam], port), port != 8082, "%d", port);
	snprintf(pid_path, sizeof(pid_path), "%s/pid.1", w->dir);
	cr_expect(access(pid_path, F_OK) && errno == ENOENT, "a pid file is left");
	cr_expect_eq(tcp_accept(taken, 0), -ETIMEDOUT);
}

/* A second fwd on the same port is refused, although fwd shares ports among its threads. */
EACH_VARIANT(listen, second_instance_on_a_port_is_refused, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	pid_t first = fwd_start(w, ARGS("-t", "8080:80"));
	struct run r = fwd_fails(w, ARGS("-t", "8080:90"));

	expect_one_line(&r);
	cr_expect(strstr(r.out, "Address already in use") && strstr(r.out, "8080"), "%s", r.out);
	for (int i = 0; i < 10; i++)
		cr_expect(reached(&w->client[0], HOST[v->fam], 8080, l));
	w->fwd = first;
	world_down(w);
}

/* The same port twice on one command line is refused, too. */
EACH_ENGINE(listen, port_given_twice_is_refused, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	struct run r = fwd_fails(w, ARGS("-t", "8080:80", "-t", "8080:90"));

	cr_expect_eq(r.status, 1, "status %d: %s", r.status, r.out);
	cr_expect(strstr(r.out, "8080"), "%s", r.out);
	cr_expect(can_bind(w, HOST[V4], 8080));
}

/* 0.0.0.0 and [::] are two rules that do not get in each other's way. */
EACH_VARIANT(listen, both_wildcards_are_accepted_together, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int a = tcp_listen(&w->ct, ANY[v->fam], 80), b = tcp_listen(&w->ct, ANY[v->fam], 90);

	fwd_start(w, ARGS("-t", "0.0.0.0/8080:80", "-t", "[::]/8080:90"));
	cr_expect(reached(&w->client[0], HOST[v->fam], 8080, v->fam == V4 ? a : b));
	cr_expect(tcp_refused(&w->client[0], HOST[v->fam], 8081));
	world_down(w);
}

/* A rule with the wildcard of one family leaves the other one closed. */
EACH_VARIANT(listen, wildcard_of_one_family_is_that_family, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, "::", 80);

	fwd_start(w, ARGS("-t", v->fam == V4 ? "0.0.0.0/8080:80" : "[::]/8080:80"));
	cr_expect(reached(&w->client[0], HOST[v->fam], 8080, l));
	cr_expect(tcp_refused(&w->client[0], HOST[!v->fam], 8080));
	world_down(w);
}

/* -4 and -6 open that family only. */
EACH_VARIANT(listen, family_options_open_that_family_only, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, "::", 80);

	fwd_start(w, ARGS(v->fam == V4 ? "-4" : "-6", "-t", "8080:80"));
	cr_expect(reached(&w->client[0], HOST[v->fam], 8080, l));
	cr_expect(tcp_refused(&w->client[0], HOST[!v->fam], 8080));
	world_down(w);
}

/* An unknown device is named, and so is the reason. */
EACH_ENGINE(listen, unknown_device_is_named, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	struct run r = fwd_fails(w, ARGS("-t", "0.0.0.0%nope0/8080:80"));

	expect_one_line(&r);
	cr_expect(strstr(r.out, "nope0") && strcasestr(r.out, "no such device"), "%s", r.out);
	cr_expect(can_bind(w, HOST[V4], 8080));
}

/* A port that needs a privilege is named, with what to do about it. */
EACH_ENGINE(listen, privileged_port_is_explained, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	struct run r = fwd_fails(w, ARGS("-t", "80"));

	expect_one_line(&r);
	cr_expect(strstr(r.out, "80") && strstr(r.out, "ip_unprivileged_port_start"), "%s", r.out);
	cr_assert(!ns_sysctl(&w->host, "net/ipv4/ip_unprivileged_port_start", "80"));
	fwd_start(w, ARGS("-t", "80"));
	world_down(w);
}

/* --freebind listens on an address that comes later; without it that is an error. */
EACH_VARIANT(listen, freebind_waits_for_an_address, 10)
{
	static const char *const later[] = { "198.18.1.200", "fd00:1::200" };
	const char *spec = v->fam == V4 ? "198.18.1.200/8080:80" : "[fd00:1::200]/8080:80";
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	struct run r = fwd_fails(w, ARGS("-t", spec));

	expect_one_line(&r);
	cr_expect(strstr(r.out, later[v->fam]), "%s", r.out);
	fwd_start(w, ARGS("--freebind", "-t", spec));
	ns_ip(&w->host, v->fam == V4 ? "addr add 198.18.1.200/24 dev eth0\n"
				     : "addr add fd00:1::200/64 dev eth0 nodad\n");
	cr_expect(reached(&w->client[0], later[v->fam], 8080, l));
	world_down(w);
}

/* A port is free as soon as fwd has ended, whatever connections it had. */
EACH_VARIANT(listen, port_is_free_after_the_end, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);

	for (int i = 0; i < 3; i++) {
		struct conn c;

		fwd_start(w, ARGS("-t", "8080:80"));
		c = conn_open(w, 8080, l);
		cr_expect(conn_works(&c));
		world_down(w);
		conn_close(&c);
	}
	cr_expect(can_bind(w, ANY[v->fam], 8080));
}
