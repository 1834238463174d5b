/* SPDX-License-Identifier: Apache-2.0 */
/* A real name server, asked by a real client: its log says who asked. */

#include "lib.h"

#include <poll.h>

static char server_log[65536];

static bool installed(const char *program)
{
	char path[64];

	snprintf(path, sizeof(path), "/usr/sbin/%s", program);
	if (!access(path, X_OK))
		return true;
	snprintf(path, sizeof(path), "/usr/bin/%s", program);
	return !access(path, X_OK);
}

/* Read what the server says until it has said @text; false after patient(3000) ms. */
static bool server_says(struct proc *p, const char *text)
{
	int64_t end = now_ms() + patient(3000);
	size_t len = strlen(server_log);

	for (int64_t now = now_ms(); !strstr(server_log, text) && now < end; now = now_ms()) {
		struct pollfd pfd = { p->out, POLLIN, 0 };
		ssize_t n;

		if (poll(&pfd, 1, (int)(end - now)) != 1)
			break;
		n = read(p->out, server_log + len, sizeof(server_log) - len - 1);
		if (n <= 0)
			break;
		len += (size_t)n;
		server_log[len] = 0;
	}
	return strstr(server_log, text) != NULL;
}

/* Start dnsmasq in the container; @how: one option more. */
static struct proc server_start(struct world *w, const char *how)
{
	const char *const argv[] = { "/usr/sbin/dnsmasq",
				     "--no-daemon",
				     "--log-queries=extra",
				     "--no-resolv",
				     "--no-hosts",
				     "--conf-file=/dev/null",
				     "--port=53",
				     "--address=/fwd.test/192.0.2.7",
				     how,
				     NULL };
	struct proc p;

	if (!installed("dnsmasq"))
		cr_skip_test("dnsmasq is not installed (Debian: dnsmasq-base)");
	if (!installed("dig"))
		cr_skip_test("dig is not installed (Debian: bind9-dnsutils)");
	p = ns_spawn(&w->ct, SPAWN_CAPS | SPAWN_CAPTURE, argv);
	cr_assert(server_says(&p, "started, version"), "%s", server_log);
	return p;
}

/* Ask for fwd.test from @bind ("address#port"), by UDP or TCP; what dig prints. */
static const char *dig(struct world *w, const char *bind, const char *how)
{
	static char out[4096];
	char server[64];
	const char *const argv[] = { "dig",	 "-b",	   bind,       server, "-p",	   "5353",
				     "fwd.test", "+short", "+tries=1", how,    "+time=20", NULL };
	struct proc p;

	snprintf(server, sizeof(server), "@%s", HOST[w->v->fam]);
	p = ns_spawn(&w->client[0], SPAWN_CAPTURE, argv);
	out[0] = 0;
	proc_output(&p, out, sizeof(out), 5000);
	proc_wait(p.pid, 1000);
	return out;
}

static void expect_client_logged(struct world *w, const char *how)
{
	struct proc p = server_start(w, how);

	fwd_start(w, ARGS("-u", "5353:53", "-t", "5353:53"));
	for (int i = 0; i < 4; i++) {
		char bind[80], logged[80];
		const char *out;

		snprintf(bind, sizeof(bind), "%s#%d", CLIENT[w->v->fam], 4000 + i);
		snprintf(logged, sizeof(logged), "%s/%d query[A] fwd.test", CLIENT[w->v->fam],
			 4000 + i);
		out = dig(w, bind, i < 3 ? "+notcp" : "+tcp");
		cr_expect(strstr(out, "192.0.2.7"), "%s\n%s\n%s", out, server_log, fwd_log(w));
		cr_expect(server_says(&p, logged), "%s is not in\n%s", logged, server_log);
	}
	world_down(w);
	kill(p.pid, SIGKILL);
	proc_wait(p.pid, 1000);
}

/* A name server on the wildcard address, which copies pktinfo, knows its clients. */
EACH_VARIANT(udp_dns, name_server_knows_its_clients, 15)
{
	expect_client_logged(world_up(CT_ADDR, v), "--local-ttl=1");
}

/* So does one that binds each address, in a container on a bridge. */
EACH_VARIANT(udp_dns, name_server_on_its_addresses_knows_its_clients, 15)
{
	expect_client_logged(world_up(CT_BRIDGE, v), "--bind-interfaces");
}
