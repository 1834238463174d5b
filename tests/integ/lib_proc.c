/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lib_proc.c - processes: start them, watch them, and never leave one behind
 *
 * A child dies with the test (PR_SET_PDEATHSIG), but a daemon is not a child.
 * So a guard process holds a pidfd of everything that guard_pid() names, waits
 * for the end of the test as EOF on a pipe, kills them and removes the scratch
 * directory. A pidfd cannot hit another process that got the same number.
 */

#include "lib.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define GUARD_MAX 64

static int guard_pipe = -1;

/* ------------------------------------------------------------ the guard */

static int pidfd_of(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

_Noreturn static void guard_main(int in, const char *dir)
{
	static const char *const rm[] = { "rm", "-rf", "--", NULL, NULL };
	const char *argv[5];
	int held[GUARD_MAX], n = 0;
	pid_t pid;

	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	while (read(in, &pid, sizeof(pid)) == sizeof(pid)) {
		int fd = n < GUARD_MAX ? pidfd_of(pid) : -1;

		if (fd >= 0)
			held[n++] = fd;
	}
	for (int i = 0; i < n; i++)
		syscall(SYS_pidfd_send_signal, held[i], SIGKILL, NULL, 0);
	if (getenv("FWD_TEST_KEEP"))
		_exit(0);
	memcpy(argv, rm, sizeof(rm));
	argv[3] = dir;
	execvp("rm", (char *const *)argv);
	_exit(1);
}

void guard_start(const char *dir)
{
	int p[2];
	pid_t pid;

	cr_assert(!pipe2(p, O_CLOEXEC));
	pid = fork();
	cr_assert(pid >= 0);
	if (pid == 0) {
		/* Whoever waits for the test's output must not wait for the guard. */
		int in = dup2(p[0], STDIN_FILENO), null = open("/dev/null", O_WRONLY);

		dup2(null, STDOUT_FILENO);
		syscall(SYS_close_range, 3, ~0U, 0);
		guard_main(in, dir);
	}
	close(p[0]);
	guard_pipe = p[1];
}

void guard_pid(pid_t pid)
{
	cr_assert(write(guard_pipe, &pid, sizeof(pid)) == sizeof(pid));
}

/* ------------------------------------------------------------ starting */

/* Let all capabilities of this user namespace outlive execve(2). */
static int caps_keep(void)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2];

	if (syscall(SYS_capget, &h, d))
		return -errno;
	for (int i = 0; i < 2; i++)
		d[i].inheritable = d[i].permitted;
	if (syscall(SYS_capset, &h, d))
		return -errno;
	for (int cap = 0; cap < 64; cap++)
		if (d[cap / 32].permitted & (1U << (cap % 32)))
			prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
	return 0;
}

/* As where kernel.io_uring_disabled is set, or as in a container engine's seccomp profile. */
static int uring_refuse(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { ARRAY_SIZE(code), code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

static struct {
	int fds[8];
	unsigned n;
	const char *names;
} passing;

void spawn_pass(const int *fds, unsigned n, const char *names)
{
	cr_assert(n <= ARRAY_SIZE(passing.fds));
	memcpy(passing.fds, fds, n * sizeof(*fds));
	passing.n = n;
	passing.names = names;
}

/* In the child, last: from descriptor 3 on, and the environment that says so. */
static void pass_sockets(void)
{
	char text[16];

	for (unsigned i = 0; i < passing.n; i++)
		passing.fds[i] = fcntl(passing.fds[i], F_DUPFD_CLOEXEC, 64);
	for (unsigned i = 0; i < passing.n; i++)
		dup2(passing.fds[i], 3 + (int)i);
	snprintf(text, sizeof(text), "%d", getpid());
	setenv("LISTEN_PID", text, 1);
	snprintf(text, sizeof(text), "%u", passing.n);
	setenv("LISTEN_FDS", text, 1);
	if (passing.names)
		setenv("LISTEN_FDNAMES", passing.names, 1);
}

_Noreturn static void spawn_child(const struct ns *ns, unsigned flags, int out,
				  const char *const argv[])
{
	if (ns_enter(ns) || ((flags & SPAWN_CAPS) && caps_keep()) ||
	    ((flags & SPAWN_NO_URING) && uring_refuse())) {
		perror("enter namespaces");
		_exit(125);
	}
	if (out >= 0) {
		dup2(out, STDOUT_FILENO);
		dup2(out, STDERR_FILENO);
	}
	signal(SIGPIPE, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (passing.n > 0)
		pass_sockets();
	execvp(argv[0], (char *const *)argv);
	perror(argv[0]);
	_exit(127);
}

struct proc ns_spawn(const struct ns *ns, unsigned flags, const char *const argv[])
{
	struct proc p = { -1, -1 };
	int out[2] = { -1, -1 };

	if (flags & SPAWN_CAPTURE)
		cr_assert(!pipe2(out, O_CLOEXEC));
	p.pid = fork();
	cr_assert(p.pid >= 0, "fork: %s", strerror(errno));
	if (p.pid == 0)
		spawn_child(ns, flags, out[1], argv);
	if (out[1] >= 0)
		close(out[1]);
	p.out = out[0];
	passing.n = 0;
	guard_pid(p.pid);
	return p;
}

/* ------------------------------------------------------------ watching */

int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int proc_wait(pid_t pid, int timeout_ms)
{
	int fd = pidfd_of(pid), status;
	struct pollfd p = { fd, POLLIN, 0 };
	int n = fd < 0 ? 1 : poll(&p, 1, patient(timeout_ms));

	if (fd >= 0)
		close(fd);
	if (n != 1)
		return WAIT_TIMEOUT;
	cr_assert(waitpid(pid, &status, WNOHANG) == pid, "pid %d is no child of ours", pid);
	return WIFSIGNALED(status) ? WAIT_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
}

bool proc_output(struct proc *p, char *buf, size_t size, int timeout_ms)
{
	int64_t end = now_ms() + patient(timeout_ms);
	size_t len = strlen(buf);
	bool eof = false;

	while (!eof && now_ms() < end) {
		struct pollfd pfd = { p->out, POLLIN, 0 };
		char rest[512];
		bool room = len + 1 < size;
		ssize_t n;

		if (poll(&pfd, 1, (int)(end - now_ms())) != 1)
			break;
		n = room ? read(p->out, buf + len, size - len - 1)
			 : read(p->out, rest, sizeof(rest));
		if (n <= 0)
			eof = true;
		else if (room)
			len += (size_t)n;
	}
	buf[len] = 0;
	close_fd(&p->out);
	return eof;
}

bool proc_alive(pid_t pid)
{
	char path[32], stat[512], *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (read_file(path, stat, sizeof(stat)) < 0)
		return false;
	p = strrchr(stat, ')');
	return p && p[2] != 'Z' && p[2] != 'X';
}

int proc_fds(pid_t pid)
{
	char path[32];
	DIR *d;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	if (!d)
		return -errno;
	for (struct dirent *e = readdir(d); e; e = readdir(d))
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static long cpu_ticks(pid_t pid)
{
	char path[64], text[1024], *p;
	unsigned long utime = 0, stime = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (read_file(path, text, sizeof(text)) < 0)
		return 0;
	p = strrchr(text, ')');
	if (p)
		sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &utime,
		       &stime);
	return (long)(utime + stime);
}

long proc_cpu_ms(pid_t pid)
{
	char path[64], text[1024], *save = NULL;
	long ticks = cpu_ticks(pid);

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	if (read_file(path, text, sizeof(text)) > 0)
		for (char *t = strtok_r(text, " ", &save); t; t = strtok_r(NULL, " ", &save))
			ticks += cpu_ticks(atoi(t));
	return ticks * 1000 / sysconf(_SC_CLK_TCK);
}

long proc_rss_kb(pid_t pid)
{
	char path[64], text[256];
	long pages = 0;

	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	if (read_file(path, text, sizeof(text)) > 0)
		sscanf(text, "%*d %ld", &pages);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

int patient(int timeout_ms)
{
	const char *env = getenv("FWD_TEST_PATIENCE");
	int times = env ? atoi(env) : 10;

	return timeout_ms >= 1000 && times > 1 ? timeout_ms * times : timeout_ms;
}

bool eventually(bool (*cond)(void *arg), void *arg, int timeout_ms)
{
	const struct timespec tick = { .tv_nsec = 5 * 1000 * 1000 };
	int64_t end = now_ms() + patient(timeout_ms);

	while (!cond(arg)) {
		if (now_ms() >= end)
			return cond(arg);
		nanosleep(&tick, NULL);
	}
	return true;
}
