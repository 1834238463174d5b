/* SPDX-License-Identifier: Apache-2.0 */
/* "auto": the host's ports open and close with what listens in the container. */

#include "lib.h"

struct probe {
	struct world *w;
	int port;
	int listener;
	struct conn c;
};

/* The app behind @port answers a client. */
static bool is_open(void *arg)
{
	struct probe *p = arg;

	p->c.c = tcp_connect(&p->w->client[0], NULL, 0, HOST[p->w->v->fam], p->port);
	if (p->c.c < 0)
		return false;
	p->c.a = tcp_accept(p->listener, 500);
	return p->c.a >= 0;
}

/* Nothing listens on @port of the host: another could take it. */
static bool is_free(void *arg)
{
	struct probe *p = arg;
	const char *ip = HOST[p->w->v->fam];
	int fd = ns_socket(&p->w->host, p->w->v->fam == V4 ? AF_INET : AF_INET6, SOCK_STREAM);
	int err = sock_bind(fd, ip, p->port);

	if (!err)
		err = listen(fd, 1);
	close(fd);
	return !err;
}

/* A port opens within a second after the app listens, and closes as quickly. */
EACH_VARIANT(auto_ports, port_follows_the_app, 15)
{
	struct world *w = world_up(CT_ADDR, v);
	struct probe p = { w, 8080, -1, { -1, -1 } };

	fwd_start(w, ARGS("-t", "auto"));
	for (int i = 0; i < 2; i++) {
		cr_expect(is_free(&p), "open without an app");
		p.listener = tcp_listen(&w->ct, ANY[v->fam], 8080);
		cr_expect(eventually(is_open, &p, 1200), "not open after a second\n%s", fwd_log(w));
		cr_expect_str_eq(peer_of(p.c.a), self_of(p.c.c));
		cr_expect(conn_works(&p.c));
		close(p.listener);
		cr_expect(eventually(is_free, &p, 1200), "still open after a second");
		cr_expect(conn_works(&p.c), "a connection outlives its listener");
		conn_close(&p.c);
	}
	world_down(w);
}

/* What listens already when fwd starts is open when it is ready. */
EACH_VARIANT(auto_ports, what_listens_at_start_is_open, 10)
{
	struct world *w = world_up(CT_LO, v);
	struct probe p = { w, 8080, tcp_listen(&w->ct, ANY[v->fam], 8080), { -1, -1 } };

	fwd_start(w, ARGS("-t", "auto"));
	cr_expect(is_open(&p), "%s", fwd_log(w));
	world_down(w);
}

/* Ranges beside "auto" limit it to those, with their mapping. */
EACH_VARIANT(auto_ports, ranges_limit_it, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	struct probe in = { w, 8080, tcp_listen(&w->ct, ANY[v->fam], 90), { -1, -1 } };
	struct probe out = { w, 8085, tcp_listen(&w->ct, ANY[v->fam], 8085), { -1, -1 } };
	struct probe idle = { w, 8081, -1, { -1, -1 } };

	fwd_start(w, ARGS("-t", "auto,8080-8081:90-91"));
	cr_expect(is_open(&in), "%s", fwd_log(w));
	cr_expect(is_free(&out));
	cr_expect(is_free(&idle));
	world_down(w);
}

/* A port that the host refuses (privileged, in use) does not harm the others. */
EACH_ENGINE(auto_ports, port_that_cannot_be_had_is_left_out, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int privileged = tcp_listen(&w->ct, "0.0.0.0", 80);
	int clash = tcp_listen(&w->ct, "0.0.0.0", 8079);
	int taken = tcp_listen(&w->host, "0.0.0.0", 8079);
	struct probe p = { w, 8080, tcp_listen(&w->ct, "0.0.0.0", 8080), { -1, -1 } };

	cr_assert(privileged >= 0 && clash >= 0 && taken >= 0);
	fwd_start(w, ARGS("-t", "auto"));
	cr_expect(is_open(&p), "%s", fwd_log(w));
	cr_expect(conn_works(&p.c));
	cr_expect(fwd_idle(w));
	world_down(w);
}

/* Many apps that come and go at once end in the right state, without descriptors left over. */
EACH_ENGINE(auto_ports, many_ports_come_and_go, 20)
{
	struct world *w = world_up(CT_LO, v);
	struct probe p = { w, 8000, -1, { -1, -1 } };
	int l[100], fds;

	fwd_start(w, ARGS("--sandbox=off", "-t", "auto"));
	p.port = 9000;
	p.listener = tcp_listen(&w->ct, "0.0.0.0", 9000);
	cr_assert(eventually(is_open, &p, 1200));
	conn_close(&p.c);
	fds = proc_fds(w->fwd);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 100; i++)
			l[i] = tcp_listen(&w->ct, "0.0.0.0", 8000 + i);
		p.port = 8099;
		p.listener = l[99];
		cr_expect(eventually(is_open, &p, 1500), "round %d", round);
		conn_close(&p.c);
		for (int i = 0; i < 100; i++)
			close(l[i]);
		cr_expect(eventually(is_free, &p, 1500), "round %d", round);
	}
	cr_expect(fwd_idle(w));
	cr_expect(fwd_fds_within(w, fds + 64), "%d, before %d", proc_fds(w->fwd), fds);
	world_down(w);
}

/* Sockets in other states than LISTEN, and fwd's own, open nothing. */
EACH_ENGINE(auto_ports, only_listeners_count, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	struct probe p = { w, 8080, tcp_listen(&w->ct, "0.0.0.0", 8080), { -1, -1 } };
	struct probe bound = { w, 8090, -1, { -1, -1 } }, client = { w, 0, -1, { -1, -1 } };
	int fd = ns_socket(&w->ct, AF_INET, SOCK_STREAM);

	cr_assert(!sock_bind(fd, "0.0.0.0", 8090));
	fwd_start(w, ARGS("-t", "auto"));
	cr_assert(is_open(&p));
	client.port = peer_port(p.c.a);
	cr_assert(fwd_idle(w));
	cr_expect(is_free(&bound));
	cr_expect(is_free(&client), "a client's port was opened");
	world_down(w);
}
