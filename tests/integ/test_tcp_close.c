/* SPDX-License-Identifier: Apache-2.0 */
/* FIN is passed on as FIN, RST as RST, both after the data; and nothing waits for ever. */

#include "lib.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>

static struct conn start(struct world *w, int *ret_listener)
{
	*ret_listener = tcp_listen(&w->ct, ANY[w->v->fam], 80);
	fwd_start(w, ARGS("-d", "-t", "8080:80"));
	return conn_open(w, 8080, *ret_listener);
}

/* Read until the end: 0 or -errno, with the number of bytes. */
static int read_to_end(int fd, size_t *ret_got)
{
	static char buf[65536];
	ssize_t n;

	*ret_got = 0;
	while ((n = sock_read(fd, buf, sizeof(buf))) > 0)
		*ret_got += (size_t)n;
	return (int)n;
}

/* A client that has finished its question still gets the whole answer. */
EACH_VARIANT(tcp_close, client_half_close_gets_the_answer, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l;
	struct conn c = start(w, &l);

	cr_assert(passes(c.c, c.a, "question"));
	shutdown(c.c, SHUT_WR);
	cr_expect_eq(sock_next(c.a, 2000), 0);
	cr_expect(passes(c.a, c.c, "late answer"));
	cr_expect(passes(c.a, c.c, "and more"));
	close_fd(&c.a);
	cr_expect_eq(sock_next(c.c, 2000), 0);
	world_down(w);
}

/* An app that has said all it has to say can still listen. */
EACH_VARIANT(tcp_close, app_half_close_gets_the_rest, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l;
	struct conn c = start(w, &l);

	cr_assert(passes(c.a, c.c, "greeting"));
	shutdown(c.a, SHUT_WR);
	cr_expect_eq(sock_next(c.c, 2000), 0);
	cr_expect(passes(c.c, c.a, "upload"));
	cr_expect(passes(c.c, c.a, "and more"));
	close_fd(&c.c);
	cr_expect_eq(sock_next(c.a, 2000), 0);
	world_down(w);
}

/* The half that stays open carries bulk. */
EACH_VARIANT(tcp_close, half_closed_connection_carries_bulk, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int l;
	struct conn c = start(w, &l), d = conn_open(w, 8080, l);
	struct stream s[] = {
		{ .from = c.a, .to = c.c, .total = 8 << 20, .fin = true },
		{ .from = d.c, .to = d.a, .total = 8 << 20, .fin = true },
	};

	shutdown(c.c, SHUT_WR);
	shutdown(d.a, SHUT_WR);
	cr_expect_eq(sock_next(c.a, 2000), 0);
	cr_expect_eq(sock_next(d.c, 2000), 0);
	cr_expect(streams_run(s, 2, 15000));
	world_down(w);
}

/* FIN from the client, with nothing wrong, is EOF and not an error at the app. */
EACH_VARIANT(tcp_close, fin_is_not_turned_into_reset, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l;
	struct conn c = start(w, &l), d = conn_open(w, 8080, l);

	cr_assert(conn_works(&c) && conn_works(&d));
	close_fd(&c.c);
	cr_expect_eq(sock_next(c.a, 2000), 0);
	cr_expect_eq(sock_put(c.a, "", 0), 0);
	close_fd(&d.a);
	cr_expect_eq(sock_next(d.c, 2000), 0);
	world_down(w);
}

/* RST from the client comes to the app after the data before it. */
EACH_VARIANT(tcp_close, client_reset_follows_the_data, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l;
	struct conn c = start(w, &l);
	char buf[8] = "";

	cr_assert(conn_works(&c));
	cr_assert(!sock_put(c.c, "last", 4));
	sock_reset(c.c);
	cr_expect(!sock_get(c.a, buf, 4) && !strcmp(buf, "last"), "%s", fwd_log(w));
	cr_expect_eq(sock_next(c.a, 2000), -ECONNRESET);
	world_down(w);
}

/* RST from the app comes to the client after the data before it. */
EACH_VARIANT(tcp_close, app_reset_follows_the_data, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l;
	struct conn c = start(w, &l);
	char buf[8] = "";

	cr_assert(conn_works(&c));
	cr_assert(!sock_put(c.a, "last", 4));
	sock_reset(c.a);
	cr_expect(!sock_get(c.c, buf, 4) && !strcmp(buf, "last"), "%s", fwd_log(w));
	cr_expect_eq(sock_next(c.c, 2000), -ECONNRESET);
	world_down(w);
}

/* RST of an idle connection is passed on at once, either way. */
EACH_VARIANT(tcp_close, reset_of_an_idle_connection_is_passed_on, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l;
	struct conn c = start(w, &l), d = conn_open(w, 8080, l), e = conn_open(w, 8080, l);

	sock_reset(c.c);
	cr_expect_eq(sock_next(c.a, 1000), -ECONNRESET);
	sock_reset(d.a);
	cr_expect_eq(sock_next(d.c, 1000), -ECONNRESET);
	cr_expect(conn_works(&e), "another connection must not mind");
	world_down(w);
}

/* RST after FIN is still RST: the other half had not ended. */
EACH_VARIANT(tcp_close, reset_after_half_close_is_passed_on, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l;
	struct conn c = start(w, &l), d = conn_open(w, 8080, l);

	shutdown(c.c, SHUT_WR);
	cr_expect_eq(sock_next(c.a, 1000), 0);
	sock_reset(c.a);
	cr_expect_eq(sock_next(c.c, 1000), -ECONNRESET);

	shutdown(d.c, SHUT_WR);
	cr_expect_eq(sock_next(d.a, 1000), 0);
	sock_reset(d.c);
	/* The app has read EOF: it learns of the RST when it writes. */
	struct pollfd p = { d.a, 0, 0 };
	cr_expect_eq(poll(&p, 1, 2000), 1);
	cr_expect(p.revents & POLLERR, "revents %x", p.revents);
	world_down(w);
}

/* A client that resets with a lot under way: the app sees a part, then RST, never FIN. */
EACH_VARIANT(tcp_close, reset_in_bulk_is_never_fin, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	static char data[1 << 20];
	int l, end;
	struct conn c = start(w, &l), d = conn_open(w, 8080, l);
	size_t got;

	send(c.c, data, sizeof(data), MSG_DONTWAIT);
	send(d.a, data, sizeof(data), MSG_DONTWAIT);
	sock_reset(c.c);
	sock_reset(d.a);
	end = read_to_end(c.a, &got);
	cr_expect_eq(end, -ECONNRESET, "app: %d after %zu bytes", end, got);
	end = read_to_end(d.c, &got);
	cr_expect_eq(end, -ECONNRESET, "client: %d after %zu bytes", end, got);
	cr_expect(fwd_idle(w));
	world_down(w);
}

/* A client that goes away without reading its answer ends the app's connection. */
EACH_VARIANT(tcp_close, client_gone_in_mid_transfer_ends_the_app, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	static char data[65536];
	int l, err = 0;
	struct conn c = start(w, &l);
	int64_t end = now_ms() + 3000;

	cr_assert(!sock_put(c.a, data, sizeof(data)));
	cr_expect_gt(sock_next(c.c, 1000), 0);
	close_fd(&c.c); /* with unread data: the kernel sends RST, as for a killed process */
	while (!err && now_ms() < end)
		err = sock_put(c.a, data, sizeof(data));
	cr_expect(err == -ECONNRESET || err == -EPIPE, "send gives %d", err);
	cr_expect(fwd_idle(w));
	world_down(w);
}

/* A client process that is killed in a bulk transfer ends the app's connection. */
EACH_VARIANT(tcp_close, killed_client_ends_the_app, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	static char data[65536];
	int l, err = 0;
	struct conn c = start(w, &l);
	pid_t pid = fork();
	int64_t end = now_ms() + 3000;

	if (pid == 0) {
		while (sock_put(c.c, data, sizeof(data)) == 0)
			;
		_exit(0);
	}
	guard_pid(pid);
	close_fd(&c.c);
	cr_assert(!sock_get(c.a, data, sizeof(data)));
	cr_assert(!kill(pid, SIGKILL));
	cr_expect_eq(proc_wait(pid, 2000), WAIT_SIGNAL + SIGKILL);
	/* An app that reads and writes, as an echo server does. */
	while (!err && now_ms() < end) {
		if (recv(c.a, data, sizeof(data), MSG_DONTWAIT) < 0 && errno != EAGAIN)
			err = -errno;
		else if (send(c.a, data, sizeof(data), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
			 errno != EAGAIN)
			err = -errno;
	}
	cr_expect(err == -ECONNRESET || err == -EPIPE, "send gives %d", err);
	world_down(w);
}

/* Accept and reset until the pipe says that it is enough; tell how many there were. */
_Noreturn static void reset_all(int listener, int from, int to)
{
	struct pollfd p[] = { { listener, POLLIN, 0 }, { from, POLLIN, 0 } };
	int n = 0;

	while (poll(p, 2, 5000) > 0) {
		if (p[0].revents) {
			sock_reset(tcp_accept(listener, 0));
			n++;
		} else if (p[1].revents) {
			break;
		}
	}
	_exit(write(to, &n, sizeof(n)) != sizeof(n));
}

/* An app that resets what it has just accepted is not tried again by another address. */
EACH_VARIANT(tcp_close, app_that_resets_at_once_is_asked_once, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, "::", 80), enough[2], result[2], n = 0, bad = 0;
	pid_t app;

	cr_assert(!pipe2(enough, O_CLOEXEC) && !pipe2(result, O_CLOEXEC));
	fwd_start(w, ARGS("-t", "8080:80"));
	app = fork();
	if (app == 0)
		reset_all(l, enough[0], result[1]);
	guard_pid(app);
	for (int i = 0; i < 300; i++) {
		int c = tcp_connect(&w->client[0], NULL, 0, HOST[v->fam], 8080);

		bad += c >= 0 ? sock_next(c, 2000) != -ECONNRESET : c != -ECONNRESET;
		if (c >= 0)
			close(c);
	}
	cr_expect_eq(bad, 0, "%d clients were not reset", bad);
	cr_assert(write(enough[1], "", 1) == 1);
	cr_assert(read(result[0], &n, sizeof(n)) == sizeof(n));
	cr_expect_eq(n, 300, "the app was asked %d times\n%s", n, fwd_summary(w));
	cr_expect(fwd_counts(w, " 0 lost"), "%s", fwd_summary(w));
	world_down(w);
}

/* Where no app listens, the client is told at once. */
EACH_VARIANT(tcp_close, closed_port_is_refused_at_once, 10)
{
	struct world *w = world_up(CT_ADDR, v);

	fwd_start(w, ARGS("-t", "8080:80"));
	for (int i = 0; i < 20; i++)
		cr_expect(tcp_refused(&w->client[0], HOST[v->fam], 8080));
	cr_expect(tcp_refused(&w->host, LOOP[v->fam], 8080));
	cr_expect(fwd_idle(w));
	world_down(w);
}

/* The same without a network, where the refusal has to come over lo. */
EACH_VARIANT(tcp_close, closed_port_without_network_is_refused_at_once, 10)
{
	struct world *w = world_up(CT_LO, v);

	fwd_start(w, ARGS("-t", "8080:80"));
	cr_expect(tcp_refused(&w->client[0], HOST[v->fam], 8080));
	cr_expect(tcp_refused(&w->host, LOOP[v->fam], 8080));
	world_down(w);
}

/* An app that comes up later is served at once; one that goes away is refused again. */
EACH_VARIANT(tcp_close, app_may_come_and_go, 10)
{
	struct world *w = world_up(CT_ADDR, v);

	fwd_start(w, ARGS("-t", "8080:80"));
	for (int i = 0; i < 5; i++) {
		int l;
		struct conn c;

		cr_expect(tcp_refused(&w->client[0], HOST[v->fam], 8080));
		l = tcp_listen(&w->ct, ANY[v->fam], 80);
		c = conn_open(w, 8080, l);
		cr_expect(conn_works(&c));
		conn_close(&c);
		close(l);
	}
	world_down(w);
}

/* An app whose backlog is full times out, and the client is reset. */
EACH_VARIANT(tcp_close, app_that_does_not_answer_times_out, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen_backlog(&w->ct, ANY[v->fam], 80, 0), c;
	int64_t begin, took;

	/* No accept(2): from now on SYNs are dropped. */
	for (int i = 0; i < 4; i++)
		tcp_connect_start(&w->ct, NULL, 0, CT[v->fam], 80);
	fwd_start(w, ARGS("--connect-timeout", "1", "-t", "8080:80"));
	begin = now_ms();
	c = tcp_connect(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	cr_expect(c == -ECONNRESET || c == -ECONNREFUSED ||
			  (c >= 0 && sock_next(c, 4000) == -ECONNRESET),
		  "%d", c);
	took = now_ms() - begin;
	cr_expect(took > 700 && took < patient(2500), "reset after %d ms", (int)took);
	cr_expect(fwd_counts(w, "did not answer: 1"), "%s", fwd_summary(w));
	cr_expect(fwd_idle(w));
	close(l);
	world_down(w);
}

/* Stopping while a connect is under way leaves nothing waiting. */
EACH_VARIANT(tcp_close, stop_ends_a_pending_connect, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen_backlog(&w->ct, ANY[v->fam], 80, 0), c;

	for (int i = 0; i < 4; i++)
		tcp_connect_start(&w->ct, NULL, 0, CT[v->fam], 80);
	fwd_start(w, ARGS("-t", "8080:80"));
	c = tcp_connect(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	cr_assert_geq(c, 0);
	cr_expect(fwd_idle(w));
	world_down(w);
	cr_expect_eq(sock_next(c, 1000), -ECONNRESET);
	close(l);
}

/* A client that gives up while the connect is under way costs nothing. */
EACH_VARIANT(tcp_close, client_that_gives_up_early_is_forgotten, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen_backlog(&w->ct, ANY[v->fam], 80, 0), c;

	for (int i = 0; i < 4; i++)
		tcp_connect_start(&w->ct, NULL, 0, CT[v->fam], 80);
	fwd_start(w, ARGS("--connect-timeout", "1", "-t", "8080:80"));
	c = tcp_connect(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	cr_assert_geq(c, 0);
	sock_reset(c);
	cr_expect(fwd_idle(w));
	usleep(1200 * 1000); /* past the time-out, which is what is tested */
	cr_expect(fwd_counts(w, "flows 0 now"), "%s", fwd_summary(w));
	close(l);
	world_down(w);
}

/* A half-closed connection without traffic ends after the time-out, for both sides. */
EACH_VARIANT(tcp_close, half_closed_connection_times_out, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	struct conn c, d, open;
	int64_t begin;
	struct pollfd p;

	fwd_start(w, ARGS("--half-closed-timeout", "1", "-t", "8080:80"));
	c = conn_open(w, 8080, l);
	d = conn_open(w, 8080, l);
	open = conn_open(w, 8080, l);
	begin = now_ms();
	shutdown(c.c, SHUT_WR);
	shutdown(d.a, SHUT_WR);
	cr_expect_eq(sock_next(c.c, 3000), -ECONNRESET);
	cr_expect_eq(sock_next(d.a, 3000), -ECONNRESET);
	cr_expect(now_ms() - begin > 700 && now_ms() - begin < patient(2500), "after %d ms",
		  (int)(now_ms() - begin));
	p = (struct pollfd){ c.a, 0, 0 };
	cr_expect_eq(poll(&p, 1, 1000), 1);
	cr_expect(conn_works(&open), "an open connection must stay");
	cr_expect(fwd_counts(w, "half-closed time-out: 2"), "%s", fwd_summary(w));
	world_down(w);
}

/* With traffic it lives on. */
EACH_ENGINE(tcp_close, half_closed_connection_with_traffic_stays, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	struct conn c;

	fwd_start(w, ARGS("--half-closed-timeout", "1", "-t", "8080:80"));
	c = conn_open(w, 8080, l);
	shutdown(c.c, SHUT_WR);
	for (int i = 0; i < 5; i++) {
		usleep(500 * 1000); /* pauses are what is tested */
		cr_assert(passes(c.a, c.c, "still there"), "after %d ms", 500 * (i + 1));
	}
	world_down(w);
}

/* Reset on both sides at the same time, and half-closes that cross, leave nothing behind. */
EACH_VARIANT(tcp_close, crossing_ends_leave_nothing, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int l;
	struct conn c = start(w, &l);

	for (int i = 0; i < 100; i++) {
		struct conn d = conn_open(w, 8080, l);

		switch (i % 5) {
		case 0:
			sock_reset(d.c);
			sock_reset(d.a);
			break;
		case 1:
			shutdown(d.c, SHUT_WR);
			shutdown(d.a, SHUT_WR);
			conn_close(&d);
			break;
		case 2:
			shutdown(d.c, SHUT_RD);
			sock_put(d.a, "nobody reads this", 17);
			conn_close(&d);
			break;
		case 3:
			shutdown(d.c, SHUT_WR);
			sock_reset(d.a);
			close(d.c);
			break;
		default:
			conn_close(&d);
		}
	}
	cr_expect(conn_works(&c));
	cr_expect(fwd_idle(w));
	cr_expect(fwd_counts(w, "flows 1 now"), "%s", fwd_summary(w));
	world_down(w);
}
