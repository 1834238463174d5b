/* SPDX-License-Identifier: Apache-2.0 */
/* From going to the background to leaving nothing behind. */

#include "lib.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>

static char before[65536], after[65536];

/* The pid file has fwd's pid and a newline, and goes when fwd goes. */
EACH_ENGINE(lifecycle, pid_file_is_written_and_removed, 10)
{
	struct world *w = world_up(CT_LO, v);
	char path[64], text[32], want[32];
	int l = tcp_listen(&w->ct, "0.0.0.0", 80);
	pid_t pid = fwd_start(w, ARGS("-t", "8080:80"));
	struct conn c = conn_open(w, 8080, l);

	snprintf(path, sizeof(path), "%s/pid.1", w->dir);
	cr_assert(read_file(path, text, sizeof(text)) > 0);
	snprintf(want, sizeof(want), "%d\n", pid);
	cr_expect_str_eq(text, want);
	cr_expect(conn_works(&c));
	world_down(w);
	cr_expect(access(path, F_OK) && errno == ENOENT);
}

/* While it runs it holds a lock on the pid file, by which it can be told from its successors. */
EACH_ENGINE(lifecycle, pid_file_is_locked, 10)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct world *w = world_up(CT_LO, v);
	pid_t pid = fwd_start(w, ARGS("-t", "8080:80"));
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/pid.1", w->dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert(fd >= 0 && !fcntl(fd, F_GETLK, &lock));
	cr_expect(lock.l_type == F_WRLCK && lock.l_pid == pid, "%d: %d", lock.l_type, lock.l_pid);
	world_down(w);
	lock.l_type = F_WRLCK;
	cr_assert(!fcntl(fd, F_GETLK, &lock));
	cr_expect_eq(lock.l_type, F_UNLCK);
	close(fd);
}

/* In the background fwd has a session of its own, no terminal and no inherited descriptor. */
EACH_ENGINE(lifecycle, daemon_is_detached, 10)
{
	struct world *w = world_up(CT_LO, v);
	int leak[2], kept;
	char path[64], cwd[64] = "";
	struct pollfd p;

	/* What the caller's caller forgot to mark close-on-exec (Podman passes such on). */
	cr_assert(!pipe(leak));
	kept = leak[1];
	fwd_start(w, ARGS("-t", "8080"));
	cr_expect_neq(getsid(w->fwd), getsid(0));
	snprintf(path, sizeof(path), "/proc/%d/cwd", w->fwd);
	if (readlink(path, cwd, sizeof(cwd) - 1) > 0)
		cr_expect_str_eq(cwd, "/");
	close(kept);
	p = (struct pollfd){ leak[0], POLLIN, 0 };
	/* The guard closed its copy when it started; only fwd could hold one now. */
	cr_expect_eq(poll(&p, 1, 1000), 1, "a leaked descriptor is still open");
	world_down(w);
}

/* --ready-fd is told "1" and closed; the end of --exit-fd ends fwd, and what is written does not. */
EACH_ENGINE(lifecycle, pipes_say_ready_and_end, 10)
{
	struct world *w = world_up(CT_LO, v);
	char ready_arg[16], exit_arg[16], text[8] = "";
	int l = tcp_listen(&w->ct, "0.0.0.0", 80);
	int ready[2], end[2];
	pid_t pid;

	cr_assert(!pipe(ready) && !pipe(end));
	fcntl(ready[0], F_SETFD, FD_CLOEXEC);
	fcntl(end[1], F_SETFD, FD_CLOEXEC);
	snprintf(ready_arg, sizeof(ready_arg), "%d", ready[1]);
	snprintf(exit_arg, sizeof(exit_arg), "%d", end[0]);
	pid = fwd_start(w, ARGS("-t", "8080:80", "--ready-fd", ready_arg, "--exit-fd", exit_arg));
	close(ready[1]);
	close(end[0]);
	cr_expect_eq(read(ready[0], text, sizeof(text)), 1);
	cr_expect_str_eq(text, "1");
	cr_expect_eq(read(ready[0], text, sizeof(text)), 0, "still open");

	cr_assert_eq(write(end[1], "x", 1), 1);
	struct conn c = conn_open(w, 8080, l);

	cr_expect(conn_works(&c));
	cr_expect(proc_alive(pid));
	w->fwd = 0;
	close(end[1]);
	cr_expect_eq(proc_wait(pid, 3000), 0, "%s", fwd_log(w));
	cr_expect(fwd_log_has(w, "end of file on --exit-fd"));
	cr_expect_eq(sock_next(c.c, 1000), -ECONNRESET);
}

/* SIGTERM resets the connections there are and takes everything back from the container. */
EACH_VARIANT(lifecycle, sigterm_leaves_the_container_as_it_was, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	struct conn c[20];

	ns_routing(&w->ct, before, sizeof(before));
	fwd_start(w, ARGS("-t", "8080:80"));
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		c[i] = conn_open(w, 8080, l);
		cr_expect(conn_works(&c[i]));
	}
	ns_routing(&w->ct, after, sizeof(after));
	cr_expect_str_neq(before, after, "where are the rules?");
	world_down(w);
	ns_routing(&w->ct, after, sizeof(after));
	cr_expect_str_eq(before, after);
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		cr_expect_eq(sock_next(c[i].c, 1000), -ECONNRESET);
		cr_expect_eq(sock_next(c[i].a, 1000), -ECONNRESET);
	}
}

/* Everything that fwd puts there says whose it is. */
EACH_ENGINE(lifecycle, rules_and_routes_carry_our_protocol, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	char *save = NULL;
	unsigned ours = 0;

	ns_routing(&w->ct, before, sizeof(before));
	fwd_start(w, ARGS("-t", "8080:80"));
	ns_routing(&w->ct, after, sizeof(after));
	for (char *line = strtok_r(after, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		/* The rule that the kernel makes for local tables is numbered anew, if at all. */
		if (strstr(before, line))
			continue;
		ours++;
		cr_expect(strstr(line, "proto 102") || strstr(line, "fwd"), "%s", line);
	}
	cr_expect_geq(ours, 2);
	world_down(w);
}

/* The kernel takes a moment to close what a killed process had in its ring. */
static bool port_free(void *arg)
{
	struct world *w = arg;
	int fd = ns_socket(&w->host, AF_INET6, SOCK_STREAM);
	int err = sock_bind(fd, "::", 8080);

	if (!err)
		err = listen(fd, 1);
	close(fd);
	return !err;
}

/* A killed fwd cannot clean up; the next one does. */
EACH_ENGINE(lifecycle, next_start_cleans_up_after_a_kill, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, "0.0.0.0", 80);
	struct conn c;

	ns_routing(&w->ct, before, sizeof(before));
	for (int i = 0; i < 3; i++) {
		fwd_start(w, ARGS("-t", "8080:80"));
		c = conn_open(w, 8080, l);
		cr_expect_str_eq(peer_of(c.a), self_of(c.c));
		conn_close(&c);
		cr_expect_eq(fwd_stop(w, SIGKILL), WAIT_SIGNAL + SIGKILL);
		cr_assert(eventually(port_free, w, 1000));
	}
	fwd_start(w, ARGS("-t", "8080:80"));
	c = conn_open(w, 8080, l);
	cr_expect_str_eq(peer_of(c.a), self_of(c.c));
	conn_close(&c);
	world_down(w);
	ns_routing(&w->ct, after, sizeof(after));
	cr_expect_str_eq(before, after);
}

struct pids {
	pid_t v[8];
	unsigned n;
};

static bool all_gone(void *arg)
{
	const struct pids *p = arg;

	for (unsigned i = 0; i < p->n; i++)
		if (proc_alive(p->v[i]))
			return false;
	return true;
}

/* If the main process is killed, its agent does not stay behind in the container. */
EACH_ENGINE(lifecycle, agent_does_not_outlive_a_kill, 10)
{
	struct world *w = world_up(CT_LO, v);
	char path[64], children[256], *save = NULL;
	struct pids p = { .n = 0 };

	fwd_start(w, ARGS("-t", "8080"));
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", w->fwd, w->fwd);
	cr_assert(read_file(path, children, sizeof(children)) >= 0);
	for (char *t = strtok_r(children, " ", &save); t && p.n < 8; t = strtok_r(NULL, " ", &save))
		p.v[p.n++] = atoi(t);
	cr_expect_eq(fwd_stop(w, SIGKILL), WAIT_SIGNAL + SIGKILL);
	cr_expect(eventually(all_gone, &p, 1000));
}

/* If the agent is killed, fwd does not pretend to work. */
EACH_ENGINE(lifecycle, loss_of_the_agent_is_not_silent, 10)
{
	struct world *w = world_up(CT_LO, v);
	char path[64], children[256];
	pid_t pid;

	fwd_start(w, ARGS("-t", "8080"));
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", w->fwd, w->fwd);
	cr_assert(read_file(path, children, sizeof(children)) > 0);
	cr_assert(!kill(atoi(children), SIGKILL));
	pid = w->fwd;
	w->fwd = 0;
	cr_expect_eq(proc_wait(pid, 2000), 1, "%s", fwd_log(w));
	cr_expect(strstr(fwd_log(w), "error: "), "%s", fwd_log(w));
	cr_expect(tcp_refused(&w->client[0], HOST[V4], 8080));
}

/* Wait for fwd to end by itself, with 0, within 2 s. */
static void expect_ends(struct world *w)
{
	int64_t begin = now_ms();
	pid_t pid = w->fwd;
	char path[64];

	w->fwd = 0;
	cr_expect_eq(proc_wait(pid, 3000), 0, "%s", fwd_log(w));
	cr_expect_lt(now_ms() - begin, patient(2000), "after %d ms", (int)(now_ms() - begin));
	snprintf(path, sizeof(path), "%s/pid.1", w->dir);
	cr_expect(access(path, F_OK), "the pid file is still there");
}

static void kill_ct(struct world *w)
{
	cr_assert(!kill(w->ct_pid, SIGKILL));
	cr_assert_eq(proc_wait(w->ct_pid, 2000), WAIT_SIGNAL + SIGKILL);
}

/* When the container's process ends, so does fwd, its connections are reset, its port is free. */
EACH_VARIANT(lifecycle, end_of_the_process_ends_fwd, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80), again;
	struct conn c;

	fwd_start(w, ARGS("-t", "8080:80"));
	c = conn_open(w, 8080, l);
	cr_expect(conn_works(&c));
	kill_ct(w);
	expect_ends(w);
	cr_expect_eq(sock_next(c.c, 1000), -ECONNRESET);
	again = tcp_listen(&w->host, ANY[v->fam], 8080);
	cr_expect_geq(again, 0);
}

/* The same when it was named by a path in /proc. */
EACH_ENGINE(lifecycle, end_of_a_proc_path_ends_fwd, 10)
{
	struct world *w = world_up(CT_LO, v);
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", w->ct_pid);
	fwd_start_at(w, ARGS("-t", "8080:80"), ARGS("--netns", path));
	kill_ct(w);
	expect_ends(w);
}

/* When its mount is lifted and its file removed, fwd frees the port at once, then ends. */
EACH_ENGINE(lifecycle, unmount_and_unlink_end_fwd, 10)
{
	struct world *w = world_up(CT_LO, v);
	char path[64];

	snprintf(path, sizeof(path), "%s/netns", w->dir);
	netns_mount(w, &w->ct, path);
	fwd_start_at(w, ARGS("-t", "8080:80"), ARGS("--netns", path));
	netns_unmount(w, path);
	expect_ends(w);
	cr_expect_geq(tcp_listen(&w->host, "0.0.0.0", 8080), 0);
}

static int lift_inside(void *path)
{
	return umount2(path, MNT_DETACH) ? -errno : 0;
}

/* A mount that is lifted from a file that stays is noticed, too. */
EACH_ENGINE(lifecycle, unmount_alone_ends_fwd, 10)
{
	struct world *w = world_up(CT_LO, v);
	char path[64];

	snprintf(path, sizeof(path), "%s/netns", w->dir);
	netns_mount(w, &w->ct, path);
	fwd_start_at(w, ARGS("-t", "8080:80"), ARGS("--netns", path));
	cr_assert_eq(ns_call(&w->host, lift_inside, path), 0);
	expect_ends(w);
}

/* The end of the container in a bulk transfer ends it for the client, and ends fwd. */
EACH_VARIANT(lifecycle, end_in_mid_transfer_is_passed_on, 10)
{
	static char data[8 << 20];
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80), next;
	struct conn c;

	fwd_start(w, ARGS("-t", "8080:80"));
	c = conn_open(w, 8080, l);
	send(c.a, data, sizeof(data), MSG_DONTWAIT);
	send(c.c, data, sizeof(data), MSG_DONTWAIT);
	cr_assert(!sock_get(c.c, data, 65536));
	kill_ct(w);
	expect_ends(w);
	while ((next = (int)sock_read(c.c, data, sizeof(data))) > 0)
		;
	cr_expect_eq(next, -ECONNRESET, "%d", next);
}

/* A namespace that lives by its mount alone does not end before that. */
EACH_ENGINE(lifecycle, mounted_namespace_without_process_is_served, 10)
{
	struct world *w = world_up(CT_LO, v);
	char path[64];
	struct conn c;
	int l;

	w->ct = ns_new_net(&w->ct);
	ns_ip(&w->ct, "link set lo up\n");
	snprintf(path, sizeof(path), "%s/netns", w->dir);
	netns_mount(w, &w->ct, path);
	fwd_start_at(w, ARGS("-t", "8080:80"), ARGS("--netns", path));
	l = tcp_listen(&w->ct, "0.0.0.0", 80);
	c = conn_open(w, 8080, l);
	cr_expect(conn_works(&c));
	cr_expect(fwd_idle(w));
	netns_unmount(w, path);
	expect_ends(w);
}

static bool link_gone(void *arg)
{
	struct world *w = arg;
	static const char *const argv[] = { "ip", "link", "show", "ct0", NULL };
	struct proc p = ns_spawn(&w->mid, SPAWN_CAPS | SPAWN_CAPTURE, argv);
	char out[512] = "";

	proc_output(&p, out, sizeof(out), 1000);
	return proc_wait(p.pid, 1000) == 1;
}

/* Nothing of fwd keeps a container's network alive when the container has gone. */
EACH_ENGINE(lifecycle, containers_network_goes_with_it, 15)
{
	struct world *w = world_up(CT_BRIDGE, v);
	int l = tcp_listen(&w->ct, "0.0.0.0", 80);
	struct conn c;

	fwd_start(w, ARGS("-t", "8080:80"));
	c = conn_open(w, 8080, l);
	cr_expect(conn_works(&c));
	conn_close(&c);
	close(l);
	close_fd(&w->ct.net);
	kill_ct(w);
	expect_ends(w);
	/* The veth's end on the bridge vanishes with the namespace of the other one. */
	cr_expect(eventually(link_gone, w, 5000));
}

/* An app that is killed in a bulk transfer: its client is told. */
EACH_VARIANT(lifecycle, killed_app_ends_its_clients, 15)
{
	struct world *w = world_up(CT_ADDR, v);
	static char data[65536];
	int l = tcp_listen(&w->ct, ANY[v->fam], 80), next;
	struct conn c = { -1, -1 };
	pid_t app;
	size_t got = 0;

	fwd_start(w, ARGS("-t", "8080:80"));
	app = fork();
	if (app == 0) {
		c.a = tcp_accept(l, 5000);
		while (sock_put(c.a, data, sizeof(data)) == 0)
			;
		_exit(1);
	}
	guard_pid(app);
	close(l);
	c.c = tcp_connect(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	cr_assert(!sock_get(c.c, data, sizeof(data)));
	cr_assert(!kill(app, SIGKILL));
	cr_expect_eq(proc_wait(app, 1000), WAIT_SIGNAL + SIGKILL);
	while ((next = (int)sock_read(c.c, data, sizeof(data))) > 0 && got < (64 << 20))
		got += (size_t)next;
	cr_expect(next == 0 || next == -ECONNRESET, "%d", next);
	cr_expect(tcp_refused(&w->client[0], HOST[v->fam], 8080), "nobody listens any more");
	cr_expect(fwd_idle(w));
	world_down(w);
}

/* Two instances on one container work side by side; the end of one spares the other. */
EACH_VARIANT(lifecycle, two_instances_share_a_container, 15)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	pid_t first, second;
	struct conn a, b;

	ns_routing(&w->ct, before, sizeof(before));
	first = fwd_start(w, ARGS("-t", "8080:80"));
	second = fwd_start(w, ARGS("-t", "8081:80"));
	a = conn_open(w, 8080, l);
	b = conn_open(w, 8081, l);
	cr_expect_str_eq(peer_of(a.a), self_of(a.c));
	cr_expect_str_eq(peer_of(b.a), self_of(b.c));
	w->fwd = first;
	world_down(w);
	cr_expect(conn_works(&b), "the end of the first broke a connection of the second");
	conn_close(&b);
	b = conn_open(w, 8081, l);
	cr_expect_str_eq(peer_of(b.a), self_of(b.c));
	cr_expect(conn_works(&b));
	w->fwd = second;
	world_down(w);
	ns_routing(&w->ct, after, sizeof(after));
	cr_expect_str_eq(before, after);
}

/* The summary after SIGUSR1 counts flows, bytes and what became of addresses. */
EACH_ENGINE(lifecycle, sigusr1_writes_a_summary, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, "0.0.0.0", 80);
	struct conn c[3];
	const char *sum;

	fwd_start(w, ARGS("-t", "8080:80", "-t", "8081:81"));
	for (int i = 0; i < 3; i++) {
		c[i] = conn_open(w, 8080, l);
		cr_expect(passes(c[i].c, c[i].a, "hello") && passes(c[i].a, c[i].c, "you"));
	}
	cr_expect(tcp_refused(&w->client[0], HOST[V4], 8081));
	sock_reset(c[0].c);
	cr_expect_eq(sock_next(c[0].a, 1000), -ECONNRESET);
	cr_expect(fwd_counts(w, "tcp 8080:80: flows 2 now, 3 ever"), "%s", fwd_summary(w));
	sum = fwd_summary(w);
	cr_expect(strstr(sum, "bytes 15 in, 9 out"), "%s", sum);
	cr_expect(strstr(sum, "source 3 kept"), "%s", sum);
	cr_expect(strstr(sum, "tcp 8081:81: flows 0 now"), "%s", sum);
	cr_expect(strstr(sum, "refused 1"), "%s", sum);
	cr_expect(strstr(sum, "application not listening: 1"), "%s", sum);
	cr_expect(strstr(sum, "reset by client: 1"), "%s", sum);
	world_down(w);
}

static long file_size(const char *path)
{
	static char text[1 << 20];

	return read_file(path, text, sizeof(text));
}

/* The log file stays below its limit, keeps its newest lines, and only whole lines. */
EACH_ENGINE(lifecycle, log_file_keeps_to_its_size, 15)
{
	struct world *w = world_up(CT_LO, v);
	int l = tcp_listen(&w->ct, "0.0.0.0", 80), port = 0;
	char path[64], last[32];
	const char *log;

	fwd_start(w, ARGS("-d", "--log-size", "8192", "-t", "8080:80"));
	snprintf(path, sizeof(path), "%s/log.1", w->dir);
	for (int i = 0; i < 300; i++) {
		struct conn c = conn_open(w, 8080, l);

		port = self_port(c.c);
		sock_reset(c.c);
		close(c.a);
		cr_assert_leq(file_size(path), 8192, "after %d connections: %ld", i,
			      file_size(path));
	}
	snprintf(last, sizeof(last), ":%d ", port);
	cr_expect(fwd_log_has(w, last), "%s", fwd_log(w));
	log = fwd_log(w);
	cr_expect_gt(strlen(log), 2000);
	cr_expect(log[0] == '2' && strchr(log, 'T'), "does not begin with a line: %.40s", log);
	cr_expect_eq(log[strlen(log) - 1], '\n');
	world_down(w);
}

/* The log file of another run is added to. */
EACH_ENGINE(lifecycle, log_file_is_appended_to, 10)
{
	struct world *w = world_up(CT_LO, v);
	char path[64];

	snprintf(path, sizeof(path), "%s/own.log", w->dir);
	for (int i = 0; i < 2; i++) {
		fwd_start(w, ARGS("-l", path, "-t", "8080"));
		world_down(w);
	}
	cr_assert(read_file(path, before, sizeof(before)) > 0);
	cr_expect(strstr(before, "ready") && strstr(strstr(before, "ready") + 1, "ready"), "%s",
		  before);
}

/* Signals that come while fwd starts or works do not confuse it. */
EACH_ENGINE(lifecycle, other_signals_do_not_end_it, 10)
{
	struct world *w = world_up(CT_LO, v);
	int l = tcp_listen(&w->ct, "0.0.0.0", 80);
	struct conn c;

	fwd_start(w, ARGS("-t", "8080:80"));
	kill(w->fwd, SIGPIPE);
	kill(w->fwd, SIGCHLD);
	for (int i = 0; i < 20; i++)
		kill(w->fwd, SIGUSR1);
	c = conn_open(w, 8080, l);
	cr_expect(conn_works(&c));
	world_down(w);
}
