/* SPDX-License-Identifier: Apache-2.0 */
/* Which UDP ports of the host are open, and what they lead to. */

#include "lib.h"

/* Nobody has @port of the host: what is sent there is refused by the kernel. */
static bool is_closed(const struct ns *from, const char *ip, int port)
{
	int c = udp_client(from, NULL, 0, ip, port);
	bool refused = !udp_put(c, NULL, 0, "x", 1) && !udp_get(c, 1000) && errno == ECONNREFUSED;

	close(c);
	return refused;
}

/* A client of @port is served by @app. */
static bool leads_to(struct world *w, int port, int app)
{
	int c = udp_client(&w->client[0], NULL, 0, HOST[w->v->fam], port);
	const char *seen = udp_ask(c, app);
	bool ok = !strcmp(seen, self_of(c));

	if (!ok)
		fprintf(stderr, "port %d: %s\n", port, seen);
	close(c);
	return ok;
}

/* A range is mapped port by port, without what is excluded. */
EACH_VARIANT(udp_ports, range_is_mapped, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int first = udp_app(&w->ct, ANY[v->fam], 7000), last = udp_app(&w->ct, ANY[v->fam], 7004);
	int left_out = udp_app(&w->ct, ANY[v->fam], 7002);

	fwd_start(w, ARGS("-u", "9000-9004:7000-7004,~9002"));
	cr_expect(leads_to(w, 9000, first), "%s", fwd_log(w));
	cr_expect(leads_to(w, 9004, last), "%s", fwd_log(w));
	cr_expect(is_closed(&w->client[0], HOST[v->fam], 9002));
	cr_expect(is_closed(&w->client[0], HOST[v->fam], 9005));
	cr_expect(udp_silent(left_out));
	world_down(w);
}

/* TCP and UDP of one number are two ports, served by one process. */
EACH_VARIANT(udp_ports, tcp_and_udp_share_a_number, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80), l = tcp_listen(&w->ct, ANY[v->fam], 80);
	struct conn c;

	fwd_start(w, ARGS("-t", "8080:80", "-u", "8080:80"));
	c = conn_open(w, 8080, l);
	for (int i = 0; i < 3; i++) {
		cr_expect(leads_to(w, 8080, app), "%s", fwd_log(w));
		cr_expect(conn_works(&c));
		cr_expect_str_eq(peer_of(c.a), self_of(c.c));
	}
	cr_expect(fwd_counts(w, "tcp 8080:80: flows 1 now"), "%s", fwd_summary(w));
	cr_expect(strstr(fwd_summary(w), "udp 8080:80: flows 3 now"), "%s", fwd_summary(w));
	world_down(w);
}

/* A rule of one host address is not open at another. */
EACH_VARIANT(udp_ports, rule_of_an_address_is_open_there_only, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80);
	char rule[64];

	world_second_client(w);
	snprintf(rule, sizeof(rule), v->fam == V4 ? "%s/8080:80" : "[%s]/8080:80", HOST[v->fam]);
	fwd_start(w, ARGS("-u", rule));
	cr_expect(leads_to(w, 8080, app), "%s", fwd_log(w));
	cr_expect(is_closed(&w->client[1], HOST_B[v->fam], 8080));
	world_down(w);
}

/* A rule of one interface is not open at another, whichever address is asked. */
EACH_VARIANT(udp_ports, rule_of_a_device_is_open_there_only, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80);

	world_second_client(w);
	fwd_start(w, ARGS("-u", v->fam == V4 ? "0.0.0.0%eth0/8080:80" : "[::]%eth0/8080:80"));
	cr_expect(leads_to(w, 8080, app), "%s", fwd_log(w));
	cr_expect(is_closed(&w->client[1], HOST_B[v->fam], 8080));
	cr_expect(is_closed(&w->client[1], HOST[v->fam], 8080));
	cr_expect(udp_silent(app));
	world_down(w);
}

/* A port that is in use is refused with a line that says which, and nothing else is opened. */
EACH_VARIANT(udp_ports, port_in_use_is_refused, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int holder = udp_app(&w->host, ANY[v->fam], 8081);
	struct run r;

	r = fwd_fails(w, ARGS("-u", "8080:80", "-u", "8081:81"));
	cr_expect_eq(r.status, 1);
	cr_expect(strstr(r.out, "fwd: cannot listen on udp") && strstr(r.out, "8081") &&
			  strstr(r.out, "Address already in use"),
		  "%s", r.out);
	cr_expect(is_closed(&w->client[0], HOST[v->fam], 8080));
	/* One that lets others have its port lets us in no more than the others. */
	close(holder);
	holder = udp_app_reusable(&w->host, ANY[v->fam], 8081);
	r = fwd_fails(w, ARGS("-u", "8081:81"));
	cr_expect_eq(r.status, 1, "%s", r.out);
}

/* So is one that another fwd has, which is not disturbed. */
EACH_VARIANT(udp_ports, second_instance_is_refused, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80);
	struct run r;

	fwd_start(w, ARGS("-u", "8080:80"));
	r = fwd_fails(w, ARGS("-u", "8080:80"));
	cr_expect_eq(r.status, 1);
	cr_expect(strstr(r.out, "Address already in use"), "%s", r.out);
	cr_expect(leads_to(w, 8080, app));
	world_down(w);
}

/* Two instances on one container serve it side by side; the end of one spares the other. */
EACH_VARIANT(udp_ports, two_instances_share_a_container, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80);
	int c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8081);
	pid_t first, second;

	first = fwd_start(w, ARGS("-u", "8080:80"));
	second = fwd_start(w, ARGS("-u", "8081:80"));
	cr_expect_str_eq(udp_ask(c, app), self_of(c));
	cr_expect(leads_to(w, 8080, app));
	cr_expect_str_eq(udp_ask(c, app), self_of(c));
	w->fwd = first;
	world_down(w);
	cr_expect_str_eq(udp_ask(c, app), self_of(c));
	cr_expect(leads_to(w, 8081, app));
	w->fwd = second;
	world_down(w);
}

/* Many ports have one socket each, and each is served. */
EACH_ENGINE(udp_ports, thousand_ports_are_published, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int first = udp_app(&w->ct, "0.0.0.0", 20000), last = udp_app(&w->ct, "0.0.0.0", 20999);
	int64_t begin = now_ms();

	fwd_start(w, ARGS("-u", "10000-10999:20000-20999"));
	cr_expect_lt(now_ms() - begin, patient(2000));
	cr_expect(leads_to(w, 10000, first), "%s", fwd_log(w));
	cr_expect(leads_to(w, 10999, last), "%s", fwd_log(w));
	cr_expect(fwd_idle(w));
	world_down(w);
}

/*
 * The kernel takes no rule for the last port (fib_rule_port_range_valid()). The
 * app is answered all the same, or the start fails and says why, or a warning does.
 */
EACH_VARIANT(udp_ports, last_port_is_not_silently_broken, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 65535), c;

	fwd_start(w, ARGS("-u", "8080:65535"));
	c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	cr_expect(strchr(udp_ask(c, app), ':') || fwd_log_count(w, "warning: ") > 0, "%s",
		  fwd_log(w));
	world_down(w);
}

/* A range that has it, too, works up to the port before. */
EACH_VARIANT(udp_ports, range_up_to_the_last_port_works, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 65534), last = udp_app(&w->ct, ANY[v->fam], 65535);
	int c;

	fwd_start(w, ARGS("-u", "65530-65535"));
	cr_expect(leads_to(w, 65534, app), "%s", fwd_log(w));
	c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 65535);
	cr_expect(strchr(udp_ask(c, last), ':') || fwd_log_count(w, "warning: ") > 0, "%s",
		  fwd_log(w));
	world_down(w);
}

/* ---------------------------------------------------------------- auto */

struct probe {
	struct world *w;
	int port, app, c;
};

/* Nobody has the port: we could take it. Asking would be answered too rarely (icmp_ratelimit). */
static bool is_free(void *arg)
{
	struct probe *p = arg;
	int fd = ns_socket(&p->w->host, p->w->v->fam == V4 ? AF_INET : AF_INET6, SOCK_DGRAM);
	int err = udp_bind(fd, HOST[p->w->v->fam], p->port);

	close(fd);
	return !err;
}

static bool is_open(void *arg)
{
	return !is_free(arg);
}

/* A port opens within a second after the app has bound it, and closes as quickly. */
EACH_VARIANT(udp_ports, auto_follows_the_app, 15)
{
	struct world *w = world_up(CT_ADDR, v);
	struct probe p = { w, 8080, -1, -1 };

	fwd_start(w, ARGS("-u", "auto"));
	for (int i = 0; i < 2; i++) {
		cr_expect(is_free(&p), "open without an app");
		p.app = udp_app(&w->ct, ANY[v->fam], 8080);
		cr_expect(eventually(is_open, &p, 1200), "not open after a second\n%s", fwd_log(w));
		cr_expect(leads_to(w, 8080, p.app), "%s", fwd_log(w));
		close(p.app);
		cr_expect(eventually(is_free, &p, 1500), "still open after a second\n%s",
			  fwd_log(w));
	}
	cr_expect(fwd_idle(w));
	world_down(w);
}

/* What is bound to the container's loopback is not published, nor what fwd has in there. */
EACH_VARIANT(udp_ports, auto_opens_only_what_is_reached, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 8080), c;
	struct probe own = { w, 8090, udp_app(&w->ct, LOOP[v->fam], 8090), -1 };
	struct probe client = { w, 4000, -1, -1 };

	cr_assert_geq(own.app, 0);
	fwd_start(w, ARGS("-u", "auto"));
	cr_expect(leads_to(w, 8080, app), "%s", fwd_log(w));
	c = udp_client(&w->client[0], NULL, 4000, HOST[v->fam], 8080);
	cr_expect_str_eq(udp_ask(c, app), self_of(c));
	/* A port that opens after it: then the list has been read again. */
	client.app = udp_app(&w->ct, ANY[v->fam], 8081);
	client.port = 8081;
	cr_expect(eventually(is_open, &client, 1500), "%s", fwd_log(w));
	client.port = 4000;
	cr_expect(is_free(&client), "a client's port was opened\n%s", fwd_log(w));
	cr_expect(is_free(&own), "the loopback app's port was opened\n%s", fwd_log(w));
	world_down(w);
}
