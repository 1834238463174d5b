/* SPDX-License-Identifier: Apache-2.0 */
/* What a service manager hears: sd_notify(3), and its watchdog. */

#include "lib.h"

#include <dirent.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/un.h>
#include <sys/wait.h>

static char said[2048];

/* Be the service manager, at a path in the test's directory or at an abstract name. */
static int manager_up(struct world *w, bool abstract)
{
	int fd = ns_socket(&w->host, AF_UNIX, SOCK_DGRAM), on = 1;
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	socklen_t len;
	char name[64];

	snprintf(name, sizeof(name), abstract ? "@%s/notify" : "%s/notify", w->dir);
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
	memcpy(sa.sun_path, name, strlen(name));
	if (abstract)
		sa.sun_path[0] = '\0';
	cr_assert(!bind(fd, (struct sockaddr *)&sa, len), "%s: %s", name, strerror(errno));
	cr_assert(!setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
	setenv("NOTIFY_SOCKET", name, 1);
	return fd;
}

/* The next message, and who sent it; "" if none comes. */
static const char *manager_hears(int fd, int timeout_ms, pid_t *ret_pid)
{
	char control[CMSG_SPACE(sizeof(struct ucred))];
	struct iovec iov = { said, sizeof(said) - 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	struct pollfd p = { fd, POLLIN, 0 };
	struct ucred cred = { 0 };
	ssize_t n = 0;

	if (poll(&p, 1, timeout_ms) == 1)
		n = recvmsg(fd, &m, 0);
	said[n > 0 ? n : 0] = '\0';
	if (n > 0 && CMSG_FIRSTHDR(&m))
		memcpy(&cred, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(cred));
	if (ret_pid)
		*ret_pid = cred.pid;
	return said;
}

/* Wait for a message with @text, whatever comes before it. */
static bool manager_hears_of(int fd, const char *text, int timeout_ms, pid_t *ret_pid)
{
	int64_t end = now_ms() + timeout_ms;

	while (now_ms() < end)
		if (strstr(manager_hears(fd, (int)(end - now_ms()), ret_pid), text))
			return true;
	return false;
}

/* fwd in the foreground, forwarding port 8080. */
static struct proc foreground_start(struct world *w, const char *port)
{
	static char engine[32], pid[16];
	const char *argv[] = { fwd_path(), "-f", engine, "-t", port, "--threads=2", pid, NULL };
	struct proc p;

	snprintf(engine, sizeof(engine), "--engine=%s", w->v->engine);
	snprintf(pid, sizeof(pid), "%d", w->ct_pid);
	p = ns_spawn(&w->host, SPAWN_CAPTURE, argv);
	return p;
}

static void expect_whole_life(struct world *w, bool abstract)
{
	int app = tcp_listen(&w->ct, "0.0.0.0", 80), m = manager_up(w, abstract);
	struct proc p = foreground_start(w, "8080:80");
	struct conn c;
	pid_t pid;

	cr_expect_str_eq(manager_hears(m, 10000, &pid), "READY=1");
	cr_expect_eq(pid, p.pid);
	/* Ready is ready: there is no waiting for a port from here on. */
	c = conn_open(w, 8080, app);
	cr_expect(conn_works(&c));
	cr_expect(manager_hears_of(m, "STATUS=1 ports open; ", 5000, NULL));
	kill(p.pid, SIGTERM);
	cr_expect(manager_hears_of(m, "STOPPING=1", 5000, &pid));
	cr_expect_eq(pid, p.pid);
	cr_expect_eq(proc_wait(p.pid, 5000), 0);
	cr_expect_str_eq(manager_hears(m, 0, NULL), "");
}

/* READY=1 when ports are open, STATUS=, STOPPING=1 at the end: at a path */
EACH_ENGINE(notify, whole_life_is_told_at_a_path, 30)
{
	expect_whole_life(world_up(CT_LO, v), false);
}

/* and at an abstract address. */
EACH_ENGINE(notify, whole_life_is_told_at_an_abstract_address, 30)
{
	expect_whole_life(world_up(CT_LO, v), true);
}

/* In the background, the process that was started says which one goes on. */
EACH_ENGINE(notify, background_process_is_named, 20)
{
	struct world *w = world_up(CT_LO, v);
	int m = manager_up(w, false);
	char want[64];
	pid_t pid;

	fwd_start(w, ARGS("-t", "8080"));
	snprintf(want, sizeof(want), "READY=1\nMAINPID=%d", w->fwd);
	cr_expect_str_eq(manager_hears(m, 5000, &pid), want);
	cr_expect_neq(pid, w->fwd);
	cr_expect(manager_hears_of(m, "STATUS=1 ports open", 10000, &pid));
	cr_expect_eq(pid, w->fwd);
	world_down(w);
	cr_expect(manager_hears_of(m, "STOPPING=1", 5000, &pid));
}

/* The end of the namespace is an orderly end, too. */
EACH_ENGINE(notify, end_of_the_namespace_is_told, 20)
{
	struct world *w = world_up(CT_LO, v);
	int m = manager_up(w, false);
	struct proc p = foreground_start(w, "8080");

	cr_assert(manager_hears_of(m, "READY=1", 10000, NULL));
	kill(w->ct_pid, SIGKILL);
	cr_expect(manager_hears_of(m, "STOPPING=1", 5000, NULL));
	cr_expect_eq(proc_wait(p.pid, 5000), 0);
}

/* A start that fails says why, and never that it is ready. */
EACH_ENGINE(notify, failure_is_told_with_its_reason, 20)
{
	struct world *w = world_up(CT_LO, v);
	int m = manager_up(w, false);
	struct proc p = foreground_start(w, "80%nope/80");

	cr_expect_eq(proc_wait(p.pid, 5000), 1);
	/* A command line that cannot be read is read before anything else is. */
	cr_expect_str_eq(manager_hears(m, 0, NULL), "");

	p = foreground_start(w, "%nope0/8080");
	cr_expect_eq(proc_wait(p.pid, 5000), 1);
	manager_hears(m, 1000, NULL);
	cr_expect(strstr(said, "STATUS=cannot listen on") && strstr(said, "nope0") &&
			  strstr(said, "\nERRNO="),
		  "%s", said);
	cr_expect_str_eq(manager_hears(m, 0, NULL), "");
}

/* What a service manager does not answer is no reason to fail. */
EACH_ENGINE(notify, absent_manager_is_a_warning, 20)
{
	struct world *w = world_up(CT_LO, v);
	static const char *const names[] = { "/nonexistent/notify", "vsock:2:1", "@", "relative" };

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		setenv("NOTIFY_SOCKET", names[i], 1);
		fwd_start(w, ARGS("-t", "8080"));
		cr_expect(fwd_log_has(w, "NOTIFY_SOCKET"), "%s: %s", names[i], fwd_log(w));
		world_down(w);
	}
}

/* ------------------------------------------------------------ the watchdog */

static void want_watchdog(const char *usec, const char *pid)
{
	setenv("WATCHDOG_USEC", usec, 1);
	if (pid)
		setenv("WATCHDOG_PID", pid, 1);
}

/* Pings come at half of the time that is allowed, in the foreground and after going on. */
EACH_ENGINE(notify, watchdog_is_fed, 30)
{
	struct world *w = world_up(CT_LO, v);
	int m = manager_up(w, false);
	struct proc p;

	want_watchdog("400000", NULL);
	p = foreground_start(w, "8080");
	for (int i = 0; i < 3; i++)
		cr_expect(manager_hears_of(m, "WATCHDOG=1", 10000, NULL));
	kill(p.pid, SIGTERM);
	cr_expect_eq(proc_wait(p.pid, 5000), 0);
	while (*manager_hears(m, 0, NULL))
		;

	fwd_start(w, ARGS("-t", "8080"));
	for (int i = 0; i < 3; i++)
		cr_expect(manager_hears_of(m, "WATCHDOG=1", 10000, NULL));
	world_down(w);
}

/* A watchdog of another process is not ours to feed. */
EACH_ENGINE(notify, watchdog_of_another_process_is_not_fed, 20)
{
	struct world *w = world_up(CT_LO, v);
	int m = manager_up(w, false);
	struct proc p;

	want_watchdog("20000", "1");
	p = foreground_start(w, "8080");
	cr_expect_str_eq(manager_hears(m, 10000, NULL), "READY=1");
	cr_expect(!manager_hears_of(m, "WATCHDOG=1", 300, NULL));
	kill(p.pid, SIGTERM);
	cr_expect_eq(proc_wait(p.pid, 5000), 0);
}

/* Some thread of @pid but the main one. */
static pid_t thread_of(pid_t pid)
{
	char path[32];
	pid_t tid = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	cr_assert(d);
	for (struct dirent *e = readdir(d); e; e = readdir(d))
		if (atoi(e->d_name) > pid)
			tid = atoi(e->d_name);
	closedir(d);
	cr_assert(tid > 0);
	return tid;
}

/* One worker that is stuck is enough: no ping until it goes on. */
EACH_ENGINE(notify, stuck_worker_starves_the_watchdog, 30)
{
	struct world *w = world_up(CT_LO, v);
	int m = manager_up(w, false), status;
	struct proc p;
	pid_t tid;

	want_watchdog("200000", NULL);
	p = foreground_start(w, "8080");
	cr_assert(manager_hears_of(m, "WATCHDOG=1", 10000, NULL));
	tid = thread_of(p.pid);
	if (ptrace(PTRACE_SEIZE, tid, 0, 0) != 0)
		cr_skip_test("ptrace: %s", strerror(errno));
	cr_assert(!ptrace(PTRACE_INTERRUPT, tid, 0, 0));
	cr_assert_eq(waitpid(tid, &status, __WALL), tid);
	/* What was answered before it was stopped may still be worth one. */
	manager_hears_of(m, "WATCHDOG=1", 300, NULL);
	cr_expect(!manager_hears_of(m, "WATCHDOG=1", 1000, NULL), "fed while a worker is stuck");
	cr_assert(!ptrace(PTRACE_DETACH, tid, 0, 0));
	cr_expect(manager_hears_of(m, "WATCHDOG=1", 10000, NULL));
	kill(p.pid, SIGTERM);
	cr_expect_eq(proc_wait(p.pid, 5000), 0);
}
