/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets that a service manager has opened: LISTEN_FDS, as systemd.socket(5) has it. */

#include "lib.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>

/* As systemd opens a ListenDatagram=. */
static int udp_bound(const struct ns *ns, const char *ip, int port)
{
	int fd = ns_socket(ns, strchr(ip, ':') ? AF_INET6 : AF_INET, SOCK_DGRAM);

	cr_assert(!udp_bind(fd, ip, port));
	return fd;
}

/* A connection from client 0 to HOST:@port, as the app at @listener sees it. */
static void expect_served(struct world *w, int port, int listener)
{
	struct conn c = conn_open(w, port, listener);

	cr_expect_str_eq(peer_of(c.a), self_of(c.c));
	cr_expect(conn_works(&c));
	conn_close(&c);
}

/* A port below 1024 that the service manager has opened leads where its name says. */
EACH_VARIANT(passed, name_says_the_port, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = tcp_listen(&w->ct, ANY[v->fam], 8000);
	int s = tcp_listen(&w->host, HOST[v->fam], 443);

	spawn_pass(&s, 1, "8000");
	fwd_start(w, ARGS("-d"));
	expect_served(w, 443, app);
	world_down(w);
}

/* A socket whose name is that of its unit leads to the port that it is bound to. */
EACH_VARIANT(passed, other_names_lead_to_the_same_port, 20)
{
	struct world *w = world_up(CT_LO, v);
	int app = tcp_listen(&w->ct, ANY[v->fam], 8080);
	int s = tcp_listen(&w->host, ANY[v->fam], 8080);

	spawn_pass(&s, 1, "fwd@web.socket");
	fwd_start(w, ARGS("-d"));
	expect_served(w, 8080, app);
	world_down(w);
}

/* A name with an address, and --listen-fd, which wins, lead to that address alone. */
EACH_VARIANT(passed, targets_may_have_addresses, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = tcp_listen(&w->ct, LOOP[v->fam], 80);
	int s[2] = { tcp_listen(&w->host, HOST[v->fam], 8080),
		     tcp_listen(&w->host, HOST[v->fam], 8081) };

	spawn_pass(s, 2, v->fam == V4 ? "127.0.0.1/80:web" : "0:web");
	fwd_start(w, ARGS("--listen-fd", "web=127.0.0.1/1", "--listen-fd",
			  v->fam == V4 ? "web=127.0.0.1/80" : "web=::1/80", "--listen-fd",
			  v->fam == V4 ? "127.0.0.1/80=127.0.0.1/80" : "0=[::1]/80"));
	expect_served(w, 8080, app);
	expect_served(w, 8081, app);
	world_down(w);
}

/* One socket on [::] serves both families; the log names it as -t would be written. */
EACH_ENGINE(passed, dual_stack_socket_serves_both_families, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = tcp_listen(&w->ct, "::", 80);
	int s = ns_socket(&w->host, AF_INET6, SOCK_STREAM), off = 0;

	cr_assert(!setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)));
	cr_assert(!sock_bind(s, "::", 80) && !listen(s, 64));
	spawn_pass(&s, 1, NULL);
	fwd_start(w, ARGS("--threads=3"));
	for (int fam = V4; fam <= V6; fam++) {
		struct conn c = conn_open_from(&w->client[0], NULL, 0, HOST[fam], 80, app);

		cr_expect_str_eq(peer_of(c.a), self_of(c.c));
		conn_close(&c);
	}
	cr_expect(fwd_counts(w, "tcp 80: flows 0 now, 2 ever"), "%s", fwd_log(w));
	world_down(w);
}

/* BindToDevice= is the service manager's: what does not come by it never arrives. */
EACH_VARIANT(passed, device_of_the_socket_counts, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = tcp_listen(&w->ct, ANY[v->fam], 80);
	int s = ns_socket(&w->host, v->fam == V4 ? AF_INET : AF_INET6, SOCK_STREAM);

	world_second_client(w);
	cr_assert(!setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 4));
	cr_assert(!sock_bind(s, ANY[v->fam], 8080) && !listen(s, 64));
	spawn_pass(&s, 1, "80");
	fwd_start(w, ARGS("-d"));
	expect_served(w, 8080, app);
	cr_expect_lt(tcp_connect(&w->client[1], NULL, 0, HOST_B[v->fam], 8080), 0);
	cr_expect(strstr(fwd_summary(w), "%eth0/8080:80: flows"), "%s", fwd_log(w));
	world_down(w);
}

/* Datagrams: sessions, the client's address, and answers from where they were sent to. */
EACH_VARIANT(passed, udp_works_as_with_u, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 53);
	int s = udp_bound(&w->host, ANY[v->fam], 53);
	int c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 53), c2;

	spawn_pass(&s, 1, "53");
	fwd_start(w, ARGS("--threads=3"));
	cr_expect_str_eq(udp_ask(c, app), self_of(c));
	c2 = udp_client(&w->client[0], CLIENT2[v->fam], 0, HOST[v->fam], 53);
	cr_expect_str_eq(udp_ask(c2, app), self_of(c2));
	cr_expect_str_eq(udp_ask(c, app), self_of(c));
	world_down(w);
}

/* Passed sockets and -t and -u go together. */
EACH_ENGINE(passed, ports_of_our_own_may_be_added, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = tcp_listen(&w->ct, "::", 80), dns = udp_app(&w->ct, "::", 53);
	int s[2] = { tcp_listen(&w->host, "0.0.0.0", 8080), udp_bound(&w->host, "0.0.0.0", 53) };
	int c = udp_client(&w->client[0], NULL, 0, HOST[V4], 53);
	int c2 = udp_client(&w->client[0], NULL, 0, HOST[V4], 5353);

	spawn_pass(s, 2, "80:53");
	fwd_start(w, ARGS("-t", "8081:80", "-u", "5353:53"));
	expect_served(w, 8080, app);
	expect_served(w, 8081, app);
	cr_expect_str_eq(udp_ask(c, dns), self_of(c));
	cr_expect_str_eq(udp_ask(c2, dns), self_of(c2));
	cr_expect(fwd_log_has(w, "ready: 4 ports"), "%s", fwd_log(w));
	world_down(w);
}

/* How often the threads of fwd have slept, but for the main one; their number. */
static unsigned thread_sleeps(pid_t pid, unsigned long ret[8])
{
	char path[64], text[4096], *p;
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	cr_assert(d, "%s", path);
	for (struct dirent *e = readdir(d); e && n < 8; e = readdir(d)) {
		int tid = atoi(e->d_name);

		snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid, tid);
		if (tid <= 0 || tid == pid || read_file(path, text, sizeof(text)) <= 0)
			continue;
		/* Workers are named after their engine; a sanitizer has a thread of its own. */
		if (strncmp(text, "Name:\tfwd-", 10) != 0)
			continue;
		p = strstr(text, "\nvoluntary_ctxt_switches:");
		cr_assert(p);
		ret[n++] = strtoul(p + 25, NULL, 10);
	}
	closedir(d);
	return n;
}

/* Each thread gets its share of the connections of one socket. */
EACH_VARIANT(passed, connections_are_dealt_out_to_all_threads, 30)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = tcp_listen(&w->ct, ANY[v->fam], 80);
	int s = tcp_listen(&w->host, ANY[v->fam], 8080);
	struct conn c[40];
	unsigned long before[8], after[8];

	spawn_pass(&s, 1, "80");
	fwd_start(w, ARGS("--threads=4"));
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		c[i] = conn_open(w, 8080, app);
	cr_assert_eq(thread_sleeps(w->fwd, before), 4);
	/* Whoever has a connection wakes up for its bytes, and nobody else does. */
	for (unsigned n = 0; n < 10; n++)
		for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
			cr_expect(conn_works(&c[i]));
	cr_assert_eq(thread_sleeps(w->fwd, after), 4);
	for (unsigned i = 0; i < 4; i++)
		cr_expect_geq(after[i] - before[i], 20, "%lu", after[i] - before[i]);
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		conn_close(&c[i]);
	world_down(w);
}

/* ------------------------------------------------------------ whose the socket is */

/* After SIGTERM the socket listens as before: who comes then waits, and is served by the next. */
EACH_VARIANT(passed, socket_outlives_us_and_clients_wait_in_it, 30)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = tcp_listen(&w->ct, ANY[v->fam], 80);
	int s = tcp_listen(&w->host, ANY[v->fam], 8080);

	for (int i = 0; i < 5; i++) {
		struct conn waits = { tcp_connect(&w->client[0], NULL, 0, HOST[v->fam], 8080), -1 };

		cr_assert(waits.c >= 0, "refused: %s", strerror(-waits.c));
		spawn_pass(&s, 1, "80");
		fwd_start(w, ARGS("--threads=2"));
		waits.a = tcp_accept(app, 5000);
		cr_assert(waits.a >= 0);
		cr_expect_str_eq(peer_of(waits.a), self_of(waits.c));
		cr_expect(conn_works(&waits));
		expect_served(w, 8080, app);
		world_down(w);
		cr_expect_eq(sock_next(waits.c, 1000), -ECONNRESET);
		conn_close(&waits);
	}
}

/* The same for datagrams. */
EACH_VARIANT(passed, datagrams_wait_in_the_socket, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 53);
	int s = udp_bound(&w->host, ANY[v->fam], 53);

	for (int i = 0; i < 3; i++) {
		int c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 53);
		const struct udp_in *in;

		cr_assert(!udp_put(c, NULL, 0, "early", 5));
		spawn_pass(&s, 1, "53");
		fwd_start(w, ARGS("--threads=2", "-d"));
		in = udp_get(app, 5000);
		cr_assert(in && in->len == 5 && !memcmp(in->data, "early", 5));
		cr_expect_str_eq(endpoint(in->ip, in->port), self_of(c));
		cr_expect_str_eq(udp_ask(c, app), self_of(c), "%s", fwd_log(w));
		world_down(w);
		close(c);
	}
}

/* When the container ends we end, and the socket stays as it is. */
EACH_ENGINE(passed, socket_outlives_the_container, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int s = tcp_listen(&w->host, "0.0.0.0", 8080), c;
	pid_t fwd;

	spawn_pass(&s, 1, "80");
	fwd = fwd_start(w, ARGS("-d"));
	kill(w->ct_pid, SIGKILL);
	cr_expect_eq(proc_wait(fwd, 5000), 0, "%s", fwd_log(w));
	w->fwd = 0;
	c = tcp_connect(&w->client[0], NULL, 0, HOST[V4], 8080);
	cr_expect(c >= 0, "refused: %s", strerror(-c));
	cr_expect(tcp_accept(s, 1000) >= 0);
}

/* A client process that connects all the time, and counts what was refused. */
static pid_t hammer_start(struct world *w, int stop, int report)
{
	pid_t pid = fork();

	cr_assert(pid >= 0);
	if (pid == 0) {
		unsigned refused = 0, n = 0;
		char ignored;

		while (recv(stop, &ignored, 1, MSG_DONTWAIT) < 0) {
			int fd = tcp_connect(&w->client[0], NULL, 0, HOST[w->v->fam], 8080);

			/* A port that the kernel gives twice within a minute is no matter. */
			refused += fd == -ECONNREFUSED;
			n += fd >= 0;
			if (fd >= 0)
				sock_reset(fd);
		}
		_exit(write(report, (unsigned[]){ refused, n }, 2 * sizeof(unsigned)) < 0);
	}
	guard_pid(pid);
	return pid;
}

/* Restarted again and again while clients connect: none is refused. */
EACH_VARIANT(passed, nobody_is_refused_while_we_restart, 60)
{
	struct world *w = world_up(CT_ADDR, v);
	int s = ns_socket(&w->host, v->fam == V4 ? AF_INET : AF_INET6, SOCK_STREAM);
	int stop[2], report[2];
	unsigned got[2] = { 0 };
	pid_t hammer;

	tcp_listen(&w->ct, ANY[v->fam], 80);
	cr_assert(!sock_bind(s, ANY[v->fam], 8080) && !listen(s, 4096));
	cr_assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stop) &&
		  !pipe2(report, O_CLOEXEC));
	hammer = hammer_start(w, stop[1], report[1]);
	for (int i = 0; i < 10; i++) {
		spawn_pass(&s, 1, "80");
		fwd_start(w, ARGS("--threads=2"));
		world_down(w);
	}
	cr_assert(write(stop[0], "", 1) == 1);
	cr_assert_eq(read(report[0], got, sizeof(got)), (ssize_t)sizeof(got));
	cr_expect_eq(proc_wait(hammer, 5000), 0);
	cr_expect_eq(got[0], 0, "%u of %u were refused", got[0], got[0] + got[1]);
	cr_expect_gt(got[1], 0);
}

/* ------------------------------------------------------------ what cannot be used */

static void expect_refused(struct world *w, struct args a, const char *text)
{
	struct run r = fwd_fails(w, a);

	cr_expect_eq(r.status, 1, "status %d: %s", r.status, r.out);
	cr_expect(strstr(r.out, text), "not '%s': %s", text, r.out);
	cr_expect_eq(strchr(r.out, '\n'), r.out + strlen(r.out) - 1, "%s", r.out);
}

/* Each socket that is of no use is named, with the reason, in one line. */
EACH_ENGINE(passed, unusable_sockets_are_explained, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int unbound = ns_socket(&w->host, AF_INET, SOCK_STREAM);
	int local = ns_socket(&w->host, AF_UNIX, SOCK_STREAM);
	int udp = ns_socket(&w->host, AF_INET, SOCK_DGRAM);
	int listener = tcp_listen(&w->host, "0.0.0.0", 8080), null = open("/dev/null", O_RDWR);
	int connected = tcp_connect(&w->host, NULL, 0, "127.0.0.1", 8080);
	int client = udp_client(&w->host, NULL, 0, "127.0.0.1", 9);
	const struct {
		int fd;
		const char *name, *text;
	} bad[] = {
		{ local, "a", "socket 3, 'a', of the service manager is neither TCP nor UDP" },
		{ null, "a", "is not a socket" },
		{ unbound, "a", "does not listen" },
		{ connected, "connection", "a connection cannot be taken over" },
		{ udp, "a", "is not bound to a port" },
		{ client, "a", "is connected" },
		{ listener, "0", "port '0' is not a number from 1 to 65535" },
		{ listener, "127.0.0.1/80,81", "has a target that is not [ADDRESS/]PORT" },
		{ listener, "127.0.0.1/80-90", "maps to a range of another length" },
		{ listener, "localhost/80", "'localhost' is not an IP address" },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		spawn_pass(&bad[i].fd, 1, bad[i].name);
		expect_refused(w, ARGS("-d"), bad[i].text);
	}
	spawn_pass(&listener, 1, "http");
	expect_refused(w, ARGS("--listen-fd", "https=443"), "has passed no socket of that name");
	spawn_pass(&listener, 1, "http");
	expect_refused(w, ARGS("--listen-fd", "https"), "is not NAME=TARGET");
	expect_refused(w, ARGS("-d"), "nothing to forward");
}

/* What was passed to another process is not ours. */
EACH_ENGINE(passed, sockets_of_another_process_are_left_alone, 20)
{
	struct world *w = world_up(CT_ADDR, v);

	setenv("LISTEN_PID", "1", 1);
	setenv("LISTEN_FDS", "1", 1);
	expect_refused(w, ARGS("-d"), "nothing to forward");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
}

/* A command gets neither the sockets nor the environment that speaks of them. */
EACH_ENGINE(passed, command_does_not_inherit_them, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int s = tcp_listen(&w->host, "0.0.0.0", 8080);
	struct run r;

	spawn_pass(&s, 1, "80");
	r = fwd_run(w,
		    ARGS("-q", "--", "sh", "-c",
			 "echo \"<$LISTEN_FDS$LISTEN_PID$LISTEN_FDNAMES>\"; ls -l /proc/self/fd"));
	cr_expect_eq(r.status, 0, "%s", r.out);
	cr_expect(strstr(r.out, "<>"), "%s", r.out);
	cr_expect(!strstr(r.out, "socket:"), "%s", r.out);
}

/* ------------------------------------------------------------ systemd's own */

/* Started by systemd-socket-activate(1) on the first connection, which is served. */
EACH_VARIANT(passed, systemd_starts_us_on_demand, 30)
{
	struct world *w = world_up(CT_ADDR, v);
	int app = tcp_listen(&w->ct, ANY[v->fam], 80);
	char engine[32], pid[16], addr[32];
	const char *argv[] = { "systemd-socket-activate",
			       "--listen",
			       addr,
			       "--fdname=80",
			       fwd_path(),
			       "-f",
			       engine,
			       pid,
			       NULL };
	struct proc p;
	struct conn c = { -1, -1 };

	if (system("command -v systemd-socket-activate >/dev/null") != 0)
		cr_skip_test("systemd-socket-activate(1) is not installed");
	snprintf(engine, sizeof(engine), "--engine=%s", v->engine);
	snprintf(pid, sizeof(pid), "%d", w->ct_pid);
	snprintf(addr, sizeof(addr), "%s", endpoint(ANY[v->fam], 443));
	p = ns_spawn(&w->host, SPAWN_CAPS | SPAWN_CAPTURE, argv);
	for (int i = 0; i < 500 && c.c < 0; i++) {
		c.c = tcp_connect(&w->client[0], NULL, 0, HOST[v->fam], 443);
		if (c.c < 0)
			usleep(10000);
	}
	cr_assert(c.c >= 0, "%s", strerror(-c.c));
	c.a = tcp_accept(app, 10000);
	cr_assert(c.a >= 0);
	cr_expect_str_eq(peer_of(c.a), self_of(c.c));
	cr_expect(conn_works(&c));
	kill(p.pid, SIGTERM);
	cr_expect_eq(proc_wait(p.pid, 5000), 0);
}
