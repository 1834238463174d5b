/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lib_fwd.c - run fwd as its user does
 *
 * fwd_start() waits for nothing but fwd's own promise: the foreground process
 * exits 0 when every listener is bound and the container is ready, and the
 * daemon holds neither stdout nor stderr, so we read until EOF. The daemon is
 * then a child of ours (PR_SET_CHILD_SUBREAPER), with an exit status to check.
 */

#include "lib.h"

#include <limits.h>
#include <stdarg.h>
#include <time.h>

static char log_text[1 << 20];
static char log_path[64];
static unsigned starts;

const char *fwd_path(void)
{
	static char path[PATH_MAX];
	const char *env = getenv("FWD");

	if (!path[0])
		cr_assert(realpath(env ? env : "build/fwd", path), "%s: %s",
			  env ? env : "build/fwd", strerror(errno));
	return path;
}

struct args args_of(const char *first, ...)
{
	struct args a = { .n = 0 };
	va_list ap;

	va_start(ap, first);
	for (const char *s = first; s; s = va_arg(ap, const char *)) {
		cr_assert(a.n < ARRAY_SIZE(a.v));
		a.v[a.n++] = s;
	}
	va_end(ap);
	return a;
}

static void args_add(struct args *a, const char *s)
{
	cr_assert(a->n < ARRAY_SIZE(a->v) - 1);
	a->v[a->n++] = s;
	a->v[a->n] = NULL;
}

static void args_join(struct args *a, const struct args *more)
{
	for (unsigned i = 0; i < more->n; i++)
		args_add(a, more->v[i]);
}

struct run fwd_run(struct world *w, struct args a)
{
	struct args all = { .n = 0 };
	struct run r = { .out = "" };
	struct proc p;

	args_add(&all, fwd_path());
	args_join(&all, &a);
	p = ns_spawn(&w->fwd_in, SPAWN_CAPTURE | w->fwd_flags, all.v);
	if (!proc_output(&p, r.out, sizeof(r.out), 10000))
		kill(p.pid, SIGKILL);
	r.status = proc_wait(p.pid, 1000);
	return r;
}

/* The full command line; the strings live until the next call. */
static struct args start_args(struct world *w, const struct args *a, const struct args *target)
{
	static char engine[32], pid_path[64];
	struct args all = { .n = 0 };

	starts++;
	snprintf(engine, sizeof(engine), "--engine=%s", w->v->engine);
	snprintf(pid_path, sizeof(pid_path), "%s/pid.%u", w->dir, starts);
	snprintf(log_path, sizeof(log_path), "%s/log.%u", w->dir, starts);
	args_add(&all, engine);
	args_add(&all, "-P");
	args_add(&all, pid_path);
	args_add(&all, "-l");
	args_add(&all, log_path);
	args_join(&all, a);
	args_join(&all, target);
	return all;
}

static struct args ct_target(struct world *w)
{
	static char pid[16];

	snprintf(pid, sizeof(pid), "%d", w->ct_pid);
	return ARGS(pid);
}

pid_t fwd_start_at(struct world *w, struct args a, struct args target)
{
	struct args all = start_args(w, &a, &target);
	struct run r = fwd_run(w, all);
	char text[32];

	cr_assert(r.status == 0, "fwd does not start: status %d\n%s\n%s", r.status, r.out,
		  fwd_log(w));
	cr_assert(read_file(all.v[2], text, sizeof(text)) > 0, "no pid file %s", all.v[2]);
	w->fwd = atoi(text);
	cr_assert(w->fwd > 0 && proc_alive(w->fwd), "pid file has '%s'", text);
	guard_pid(w->fwd);
	return w->fwd;
}

pid_t fwd_start(struct world *w, struct args a)
{
	return fwd_start_at(w, a, ct_target(w));
}

struct run fwd_fails(struct world *w, struct args a)
{
	struct args target = ct_target(w);

	return fwd_run(w, start_args(w, &a, &target));
}

int fwd_stop(struct world *w, int sig)
{
	pid_t pid = w->fwd;

	w->fwd = 0;
	cr_assert(pid > 0);
	cr_assert(!kill(pid, sig), "fwd is gone already\n%s", fwd_log(w));
	return proc_wait(pid, 3000);
}

void world_down(struct world *w)
{
	int64_t start = now_ms();
	int status;

	if (!w->fwd)
		return;
	status = fwd_stop(w, SIGTERM);
	cr_assert(status == 0, "fwd ends with status %d (%d + signal, %d for still there)\n%s",
		  status, WAIT_SIGNAL, WAIT_TIMEOUT, fwd_log(w));
	cr_assert(now_ms() - start < patient(2000), "fwd takes %d ms to end",
		  (int)(now_ms() - start));
}

/* ------------------------------------------------------------ what it tells */

const char *fwd_log(struct world *w)
{
	(void)w;
	if (!log_path[0] || read_file(log_path, log_text, sizeof(log_text)) < 0)
		log_text[0] = 0;
	return log_text;
}

unsigned fwd_log_count(struct world *w, const char *text)
{
	unsigned n = 0;

	for (const char *p = strstr(fwd_log(w), text); p; p = strstr(p, text)) {
		n++;
		p = strchrnul(p, '\n');
	}
	return n;
}

static bool log_has(void *text)
{
	return strstr(fwd_log(NULL), text) != NULL;
}

bool fwd_log_has(struct world *w, const char *text)
{
	(void)w;
	return eventually(log_has, (void *)(uintptr_t)text, 2000);
}

struct growth {
	size_t was;
	size_t seen;
	int64_t since;
};

/* Something was added, and nothing more for a while. */
static bool log_grew(void *arg)
{
	struct growth *g = arg;
	size_t len = strlen(fwd_log(NULL));

	if (len != g->seen) {
		g->seen = len;
		g->since = now_ms();
	}
	return g->seen > g->was && log_text[len - 1] == '\n' && now_ms() - g->since >= 20;
}

const char *fwd_summary(struct world *w)
{
	size_t was = strlen(fwd_log(w));
	struct growth g = { was, was, now_ms() };

	cr_assert(!kill(w->fwd, SIGUSR1));
	cr_assert(eventually(log_grew, &g, 2000), "no summary after SIGUSR1");
	return log_text + was;
}

struct wanted {
	struct world *w;
	const char *text;
};

static bool summary_has(void *arg)
{
	struct wanted *t = arg;

	return strstr(fwd_summary(t->w), t->text) != NULL;
}

bool fwd_counts(struct world *w, const char *text)
{
	struct wanted t = { w, text };

	return eventually(summary_has, &t, 2000);
}

struct fds_limit {
	pid_t pid;
	int max;
};

static bool fds_are_within(void *arg)
{
	struct fds_limit *l = arg;

	return proc_fds(l->pid) <= l->max;
}

bool fwd_fds_within(struct world *w, int max)
{
	struct fds_limit l = { w->fwd, max };

	cr_assert_geq(proc_fds(w->fwd), 0, "only --sandbox=off leaves that to be seen");
	return eventually(fds_are_within, &l, 2000);
}

bool fwd_idle(struct world *w)
{
	const struct timespec tick = { .tv_nsec = 100 * 1000 * 1000 };
	long before = 0, after = 0;

	/* What was under way may take a moment to end. */
	for (int i = 0; i < 10; i++) {
		before = proc_cpu_ms(w->fwd);
		nanosleep(&tick, NULL);
		after = proc_cpu_ms(w->fwd);
		if (after - before <= 10)
			return true;
	}
	return false;
}
