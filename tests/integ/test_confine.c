/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What main and the agent have given up once fwd is ready, as seen from outside, and
 * that it works nevertheless. What only root may see of a process that is not dumpable
 * is looked at by an eye: a child that stays root.
 */

#include "lib.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define CAP(name) (1ull << CAP_##name)

/* ------------------------------------------------------------ the eye */

static int eye = -1;
static char seen[16384]; /* what it saw last */

/* The names in a directory, with what they link to; "" if there are none. */
static void eye_list(const char *path, char *buf, size_t size)
{
	DIR *d = opendir(path);
	size_t len = 0;

	if (!d) {
		snprintf(buf, size, "%s: %s\n", path, strerror(errno));
		return;
	}
	for (struct dirent *e = readdir(d); e && len < size; e = readdir(d)) {
		char link[512] = "";

		if (e->d_name[0] == '.')
			continue;
		/* Not a link, or a descriptor that is closed by now. */
		if (readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1) < 0 && errno == ENOENT)
			continue;
		len += (size_t)snprintf(buf + len, size - len, "%s %s\n", e->d_name, link);
	}
	closedir(d);
}

static _Noreturn void eye_main(int sock)
{
	char path[256];
	ssize_t n;

	while ((n = recv(sock, path, sizeof(path) - 1, 0)) > 0) {
		path[n] = '\0';
		seen[0] = '\0';
		eye_list(path, seen, sizeof(seen));
		if (send(sock, seen, strlen(seen) + 1, 0) < 0)
			break;
	}
	_exit(0);
}

/* Before world_up(), which is the end of being root. */
static void eye_open(void)
{
	int pair[2];

	if (geteuid() != 0)
		cr_skip_test("only root sees the descriptors and the root of such a process");
	cr_assert(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	switch (fork()) {
	case -1:
		cr_assert_fail("fork: %s", strerror(errno));
	case 0:
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		eye_main(pair[1]);
	default:
		close(pair[1]);
		/* Out of the way of descriptors that tests choose. */
		eye = fcntl(pair[0], F_DUPFD_CLOEXEC, 64);
		close(pair[0]);
	}
}

/* List /proc/@pid/@what. */
static const char *look(pid_t pid, const char *what)
{
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, what);
	cr_assert(send(eye, path, strlen(path), 0) > 0);
	n = recv(eye, seen, sizeof(seen), 0);
	cr_assert_gt(n, 0);
	return seen;
}

/* ------------------------------------------------------------ /proc/PID/status */

/* The child that is not @command (0: there is none). */
static pid_t agent_beside(pid_t fwd, pid_t command)
{
	char path[64], children[256];
	char *p = children, *end;
	pid_t pid;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", fwd, fwd);
	cr_assert(read_file(path, children, sizeof(children)) > 0, "no agent");
	while ((pid = (pid_t)strtol(p, &end, 10)) == command && end != p)
		p = end;
	cr_assert(end != p, "no agent among %s", children);
	return pid;
}

static pid_t agent_of(pid_t fwd)
{
	return agent_beside(fwd, 0);
}

/* One number of a thread's status. */
static unsigned long long status_of(pid_t pid, pid_t tid, const char *field, int base)
{
	char path[64], text[8192], name[32];
	const char *p;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid, tid);
	cr_assert(read_file(path, text, sizeof(text)) > 0, "%s", path);
	snprintf(name, sizeof(name), "\n%s:", field);
	p = strstr(text, name);
	cr_assert_not_null(p, "no %s in %s", field, path);
	return strtoull(p + strlen(name), NULL, base);
}

/* Call @check for each thread of @pid; how many there are. */
static unsigned each_thread(pid_t pid, void (*check)(pid_t pid, pid_t tid, const void *arg),
			    const void *arg)
{
	char path[64];
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	cr_assert_not_null(d);
	for (struct dirent *e = readdir(d); e; e = readdir(d))
		if (e->d_name[0] != '.') {
			check(pid, atoi(e->d_name), arg);
			n++;
		}
	closedir(d);
	return n;
}

static void check_locked(pid_t pid, pid_t tid, const void *unused)
{
	(void)unused;
	cr_expect_eq(status_of(pid, tid, "NoNewPrivs", 10), 1, "thread %d", tid);
	cr_expect_eq(status_of(pid, tid, "Seccomp", 10), 2, "thread %d", tid);
}

/* @caps is all that there is, and, where it could be limited, all that there can be. */
static void check_caps(pid_t pid, pid_t tid, const void *caps)
{
	static const char *const sets[] = { "CapEff", "CapPrm", "CapBnd" };
	unsigned long long want = *(const unsigned long long *)caps;

	for (unsigned i = 0; i < ARRAY_SIZE(sets); i++) {
		unsigned long long have = status_of(pid, tid, sets[i], 16);

		cr_expect_eq(have, want, "%s of thread %d: %llx, not %llx", sets[i], tid, have,
			     want);
	}
	cr_expect_eq(status_of(pid, tid, "CapInh", 16), 0);
	cr_expect_eq(status_of(pid, tid, "CapAmb", 16), 0);
}

static void expect_caps(pid_t pid, unsigned long long caps)
{
	each_thread(pid, check_caps, &caps);
}

/* A system that lacks something, or a sanitizer: what there is does not tell about fwd. */
static void skip_if_lacking(struct world *w)
{
	const char *log = fwd_log(w);
	const char *why = strstr(log, "confinement lacks");

	if (!why)
		why = strstr(log, "not confined: built");
	if (why)
		cr_skip_test("%.*s", (int)(strchrnul(why, '\n') - why), why);
}

static void expect_confined(struct world *w, unsigned long long main_caps)
{
	pid_t agent;

	skip_if_lacking(w);
	agent = agent_of(w->fwd);
	cr_expect_eq(each_thread(w->fwd, check_locked, NULL), 3, "main and two workers");
	cr_expect_eq(each_thread(agent, check_locked, NULL), 1);
	expect_caps(w->fwd, main_caps);
	expect_caps(agent, CAP(NET_ADMIN) | CAP(NET_BIND_SERVICE));
}

/* The user namespace of @pid is one that maps its own id alone: made for it. */
static bool has_own_userns(pid_t pid)
{
	unsigned inside, outside, n;
	char path[64], map[256];

	snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
	cr_assert(read_file(path, map, sizeof(map)) > 0);
	return sscanf(map, "%u %u %u", &inside, &outside, &n) == 3 && n == 1 && inside == 1000;
}

/* ------------------------------------------------------------ every way of joining */

static void expect_forwards(struct world *w)
{
	int l = tcp_listen(&w->ct, ANY[w->v->fam], 80);
	struct conn c = conn_open(w, 8080, l);

	cr_expect_str_eq(peer_of(c.a), self_of(c.c));
	cr_expect(conn_works(&c));
	conn_close(&c);
	close(l);
}

static void expect_works(struct world *w, struct args target, unsigned long long main_caps)
{
	fwd_start_at(w, ARGS("--threads", "2", "-t", "8080:80"), target);
	expect_forwards(w);
	expect_confined(w, main_caps);
	world_down(w);
}

static struct args ct_pid(struct world *w)
{
	static char pid[16];

	snprintf(pid, sizeof(pid), "%d", w->ct_pid);
	return ARGS(pid);
}

/* An ordinary user's fwd has nothing left, and lives in a user namespace of its own. */
EACH_VARIANT(confine, of_an_ordinary_user, 20)
{
	struct world *w = world_up(CT_ADDR, v);

	fwd_start(w, ARGS("--threads", "2", "-t", "8080:80"));
	expect_forwards(w);
	expect_confined(w, 0);
	cr_expect(has_own_userns(w->fwd));
	world_down(w);
}

/* In a user namespace below that of the container's parent (--userns=keep-id). */
EACH_ENGINE(confine, of_a_nested_user_namespace, 20)
{
	struct world *w = world_up(CT_NESTED, v);

	expect_works(w, ct_pid(w), 0);
}

/* Started as root of the container's user namespace, as by podman unshare. */
EACH_ENGINE(confine, inside_the_user_namespace, 20)
{
	struct world *w = world_up(CT_ADDR, v);

	w->fwd_in.inner = w->ct.user;
	expect_works(w, ct_pid(w), 0);
}

/* Started by root of the host. */
EACH_ENGINE(confine, as_root_of_the_host, 20)
{
	struct world *w = world_up(CT_ADDR, v);

	w->fwd_flags = SPAWN_CAPS;
	expect_works(w, ct_pid(w), 0);
}

/* Where ports may be opened later, root's fwd keeps the right to low ones, and it works. */
EACH_ENGINE(confine, root_opens_low_ports_later, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int l;

	w->fwd_flags = SPAWN_CAPS;
	fwd_start(w, ARGS("--threads", "2", "-t", "auto"));
	expect_confined(w, CAP(NET_BIND_SERVICE));
	l = tcp_listen(&w->ct, ANY[v->fam], 81);
	for (int i = 0, fd = -1; i < 500 && fd < 0; i++) {
		fd = tcp_connect(&w->client[0], NULL, 0, HOST[v->fam], 81);
		if (fd >= 0) {
			struct conn c = { fd, tcp_accept(l, 5000) };

			cr_expect(conn_works(&c));
			conn_close(&c);
			world_down(w);
			return;
		}
		poll(NULL, 0, 10);
	}
	cr_assert_fail("port 81 was not opened\n%s", fwd_log(w));
}

/* A command is not confined: it can write to files, and make namespaces. */
EACH_ENGINE(confine, command_is_not, 20)
{
	struct world *w = world_up(CT_LO, v);
	char script[256], engine[32];
	struct run r;

	snprintf(engine, sizeof(engine), "--engine=%s", v->engine);
	snprintf(script, sizeof(script),
		 "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; echo x >%s/written && "
		 "unshare -n true && echo done",
		 w->dir);
	r = fwd_run(w, ARGS(engine, "-q", "-t", "8080:80", "--", "sh", "-c", script));
	cr_expect_eq(r.status, 0, "%d: %s", r.status, r.out);
	cr_expect(strstr(r.out, "NoNewPrivs:\t0"), "%s", r.out);
	cr_expect(strstr(r.out, "Seccomp:\t0"), "%s", r.out);
	cr_expect(strstr(r.out, "done"), "%s", r.out);
}

/* A signal reaches the command from the confined fwd, and its status comes back. */
EACH_ENGINE(confine, command_gets_signals, 20)
{
	struct world *w = world_up(CT_LO, v);
	const char *const argv[] = {
		fwd_path(), "-q", "-t", "8080:80",
		"--",	    "sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do read x; done",
		NULL
	};
	struct proc p = ns_spawn(&w->host, SPAWN_CAPTURE, argv);
	char out[256] = "";

	cr_assert(read(p.out, out, sizeof(out) - 1) > 0);
	cr_expect_str_eq(out, "ready\n");
	cr_assert(!kill(p.pid, SIGTERM));
	cr_expect_eq(proc_wait(p.pid, 5000), 7);
	close_fd(&p.out);
}

/* ------------------------------------------------------------ what can be reached */

/* Whether the user who runs fwd can see the memory of @pid: needs the right to trace it. */
static bool owner_looks_inside(struct world *w, pid_t pid)
{
	char path[64];
	struct proc p;
	int status;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	p = ns_spawn(&w->host, SPAWN_CAPTURE, (const char *const[]){ "cat", path, NULL });
	status = proc_wait(p.pid, 5000);
	close_fd(&p.out);
	cr_assert(status == 0 || status == 1, "cat ends with %d", status);
	return status == 0;
}

EACH_ENGINE(confine, owner_cannot_look_inside, 20)
{
	struct world *w = world_up(CT_LO, v);

	fwd_start(w, ARGS("--threads", "2", "-t", "8080"));
	skip_if_lacking(w);
	cr_expect_not(owner_looks_inside(w, w->fwd));
	cr_expect_not(owner_looks_inside(w, agent_of(w->fwd)));
	cr_expect_eq(proc_fds(w->fwd), -EACCES);
	world_down(w);
}

/* Both have an empty root directory, and are in it. */
EACH_ENGINE(confine, root_directory_is_empty, 20)
{
	struct world *w;
	pid_t pids[2];

	eye_open();
	w = world_up(CT_ADDR, v);
	fwd_start(w, ARGS("--threads", "2", "-t", "8080"));
	skip_if_lacking(w);
	/* The eye sees something where there is something. */
	cr_expect(strstr(look(getpid(), "root"), "proc"), "%s", seen);
	pids[0] = w->fwd;
	pids[1] = agent_of(w->fwd);
	for (unsigned i = 0; i < 2; i++) {
		cr_expect_str_eq(look(pids[i], "root"), "");
		cr_expect_str_eq(look(pids[i], "cwd"), "");
	}
	world_down(w);
}

/* Each line of what was seen of descriptors leads to something that is expected. */
static void expect_fds(const char *who, const char *const allowed[])
{
	char *save = NULL;

	for (char *line = strtok_r(seen, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *to = strchr(line, ' ');
		bool ok = false;

		for (unsigned i = 0; to && allowed[i]; i++)
			ok |= strncmp(to + 1, allowed[i], strlen(allowed[i])) == 0;
		cr_expect(ok, "%s has open: %s", who, line);
	}
}

static const char *const agent_has[] = { "socket:", "/dev/null", "/proc/sys/net/", NULL };

/* Nothing is open but what is used; above all, nothing that was inherited. */
EACH_ENGINE(confine, no_other_descriptor_is_open, 20)
{
	struct world *w;
	char log[64], pid[64], leak[64];
	const char *main_has[] = { "socket:", "pipe:", "anon_inode:", "/dev/null",
				   log,	      pid,     NULL,	      NULL };
	int fd;

	eye_open();
	w = world_up(CT_ADDR, v);
	snprintf(leak, sizeof(leak), "%s/leak", w->dir);
	fd = open(leak, O_CREAT | O_RDWR, 0600); /* not close-on-exec */
	cr_assert_geq(fd, 0);
	fwd_start(w, ARGS("--threads", "2", "-t", "8080", "-u", "8080"));
	skip_if_lacking(w);
	/* Its log, its pid file, and the directory that this is in. */
	snprintf(log, sizeof(log), "%s/log.1", w->dir);
	snprintf(pid, sizeof(pid), "%s/pid.1", w->dir);
	main_has[6] = w->dir;
	look(w->fwd, "fd");
	cr_expect_null(strstr(seen, leak), "%s", seen);
	expect_fds("main", main_has);
	look(agent_of(w->fwd), "fd");
	expect_fds("agent", agent_has);
	/* The eye does see the file where it is open. */
	cr_expect(strstr(look(getpid(), "fd"), leak), "%s", seen);
	close(fd);
	world_down(w);
}

/* What a caller leaves open goes to the command, and to nobody else. */
EACH_ENGINE(confine, descriptors_go_to_the_command, 20)
{
	char leak[64], script[128], text[16] = "", out[64] = "";
	const char *argv[] = { "sh",
			       "-c",
			       script,
			       fwd_path(),
			       "-q",
			       "-t",
			       "8080:80",
			       "--",
			       "sh",
			       "-c",
			       "echo into >&9; echo $$; read x",
			       NULL };
	struct world *w;
	struct proc p;

	eye_open();
	w = world_up(CT_LO, v);
	snprintf(leak, sizeof(leak), "%s/leak", w->dir);
	snprintf(script, sizeof(script), "exec \"$0\" \"$@\" 9>%s", leak);
	p = ns_spawn(&w->host, SPAWN_CAPTURE, argv);
	cr_assert(read(p.out, out, sizeof(out) - 1) > 0);
	cr_expect(read_file(leak, text, sizeof(text)) > 0 && !strcmp(text, "into\n"));
	cr_expect_null(strstr(look(p.pid, "fd"), leak), "%s", seen);
	cr_expect_null(strstr(look(agent_beside(p.pid, atoi(out)), "fd"), leak), "%s", seen);
	kill(p.pid, SIGTERM);
	proc_wait(p.pid, 5000);
	close_fd(&p.out);
}

/* ------------------------------------------------------------ and it works */

/* A client's port below 1024 is kept, although nobody outside has a right to it. */
EACH_VARIANT(confine, low_source_ports_are_kept, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80), app = udp_app(&w->ct, ANY[v->fam], 80);
	struct conn c;
	int u;

	fwd_start(w, ARGS("--threads", "1", "-t", "8080:80", "-u", "8080:80"));
	c = conn_open_from(&w->client[0], CLIENT[v->fam], 111, HOST[v->fam], 8080, l);
	cr_expect_eq(peer_port(c.a), 111);
	cr_expect(conn_works(&c));
	conn_close(&c);
	u = udp_client(&w->client[0], CLIENT[v->fam], 123, HOST[v->fam], 8080);
	cr_expect_str_eq(udp_ask(u, app), endpoint(CLIENT[v->fam], 123));
	cr_expect_eq(fwd_log_count(w, "warning"), 0, "%s", fwd_log(w));
	world_down(w);
}

/* Where user namespaces are forbidden it says so, once, and works without. */
EACH_ENGINE(confine, what_is_forbidden_is_named, 20)
{
	struct world *w = world_up(CT_ADDR, v);

	cr_assert_eq(ns_sysctl(&w->host, "user/max_user_namespaces", "1"), 0);
	cr_assert_eq(ns_sysctl(&w->host, "user/max_mnt_namespaces", "0"), 0);
	fwd_start(w, ARGS("--threads", "2", "-t", "8080:80"));
	expect_forwards(w);
	if (strstr(fwd_log(w), "not confined: built"))
		cr_skip_test("built with a sanitizer");
	cr_expect_eq(fwd_log_count(w, "Z confinement lacks an empty root directory"), 1, "%s",
		     fwd_log(w));
	cr_expect_eq(fwd_log_count(w, "error"), 0, "%s", fwd_log(w));
	/* The rest is there. */
	each_thread(w->fwd, check_locked, NULL);
	expect_caps(agent_of(w->fwd), CAP(NET_ADMIN) | CAP(NET_BIND_SERVICE));
	world_down(w);
}

/* --sandbox=off leaves all as it is, and says so. */
EACH_ENGINE(confine, off_is_off, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	pid_t pids[2];

	fwd_start(w, ARGS("--sandbox=off", "-t", "8080:80"));
	expect_forwards(w);
	pids[0] = w->fwd;
	pids[1] = agent_of(w->fwd);
	for (unsigned i = 0; i < 2; i++) {
		cr_expect_eq(status_of(pids[i], pids[i], "NoNewPrivs", 10), 0);
		cr_expect_eq(status_of(pids[i], pids[i], "Seccomp", 10), 0);
	}
	cr_expect(!has_own_userns(w->fwd) || getenv("FWD"), "maps ids");
	cr_expect(owner_looks_inside(w, w->fwd));
	cr_expect_eq(fwd_log_count(w, "not confined"), 1, "%s", fwd_log(w));
	world_down(w);
}
