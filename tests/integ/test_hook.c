/* SPDX-License-Identifier: Apache-2.0 */
/* fwd hook: what an OCI runtime says on standard input, and what becomes of it. */

#include "lib.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#define PUBLISH(spec) "{\"fwd.publish\":\"" spec "\"}"
#define BOTH	      "8080:80/tcp+udp"

static char bundle[128];
static char before[65536], after[65536];

static struct world *bundle_up(enum ct_kind kind, const struct variant *v)
{
	/* The ages of processes are known in hundredths of a second: let the container have one. */
	const struct timespec ticks = { .tv_nsec = 30 * 1000 * 1000 };
	struct world *w = world_up(kind, v);

	nanosleep(&ticks, NULL);

	/* Longer than the path of a socket can be, as Podman's are; whoever runs fwd owns it. */
	umask(0);
	snprintf(bundle, sizeof(bundle), "%s/%080d", w->dir, 0);
	cr_assert(!mkdir(bundle, 0777) && !chmod(bundle, 0777));
	return w;
}

static const char *in_bundle(const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", bundle, name);
	return path;
}

static bool there(const char *name)
{
	return access(in_bundle(name), F_OK) == 0;
}

static const char *content(const char *name)
{
	static char text[16384];

	if (read_file(in_bundle(name), text, sizeof(text)) < 0)
		text[0] = '\0';
	return text;
}

/* The other end of the hook's standard input, until the next. */
static int stdin_other = -1;

static void put_stdin(const char *text)
{
	int in[2];

	close_fd(&stdin_other);
	cr_assert(!pipe2(in, O_CLOEXEC));
	cr_assert_eq(write(in[1], text, strlen(text)), (ssize_t)strlen(text));
	stdin_other = dup(in[0]);
	close(in[1]);
	dup2(in[0], STDIN_FILENO);
	close(in[0]);
}

/* Run the hook, to its end, which is when nobody has its output any more. */
static struct run hook(struct world *w, const char *stage, const char *status, pid_t pid,
		       const char *annotations)
{
	char text[4096];

	snprintf(text, sizeof(text),
		 "{\"ociVersion\":\"1.0.2\",\"id\":\"c1\",\"status\":\"%s\",\"pid\":%d,"
		 "\"bundle\":\"%s\",\"root\":\"/x\",\"annotations\":%s}",
		 status, (int)pid, bundle, annotations);
	put_stdin(text);
	return fwd_run(w, ARGS("hook", stage));
}

/* The same with success and without a word of complaint; the fwd that runs then, or 0. */
static pid_t hook_ok(struct world *w, const char *stage, const char *status, pid_t pid,
		     const char *annotations)
{
	struct run r = hook(w, stage, status, pid, annotations);

	cr_assert_eq(r.status, 0, "%s\n%s", r.out, content("fwd.log"));
	w->fwd = atoi(content("fwd.pid"));
	if (w->fwd)
		guard_pid(w->fwd);
	return w->fwd;
}

static void expect(const struct run *r, int status, const char *text)
{
	cr_expect_eq(r->status, status, "status %d: %s", r->status, r->out);
	cr_expect(strstr(r->out, text), "no '%s' in: %s", text, r->out);
}

/* Can anyone have the port at once? */
static bool port_is_free(void *arg)
{
	struct world *w = arg;
	int fd = ns_socket(&w->host, AF_INET6, SOCK_STREAM), err = sock_bind(fd, "::", 8080);

	if (!err)
		err = listen(fd, 1);
	close(fd);
	return !err;
}

/* The annotations of a run with the engine under test. */
static const char *with_engine(const struct world *w, const char *spec)
{
	static char text[256];

	snprintf(text, sizeof(text),
		 "{\"fwd.publish\":\"%s\",\"fwd.options\":\"--engine=%s\",\"other\":\"x\"}", spec,
		 w->v->engine);
	return text;
}

/* ------------------------------------------------------------ a container's life */

/* Published before the program runs, with the client's address; gone when poststop returns. */
EACH_VARIANT(hook, publishes_and_stops, 15)
{
	struct world *w = bundle_up(CT_LO, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80), app = udp_app(&w->ct, ANY[v->fam], 80), u;
	pid_t pid = hook_ok(w, NULL, "creating", w->ct_pid, with_engine(w, BOTH));
	struct conn c = conn_open(w, 8080, l);

	cr_assert(pid > 0);
	u = udp_client(&w->client[0], CLIENT[v->fam], 0, HOST[v->fam], 8080);
	cr_expect_str_eq(peer_of(c.a), self_of(c.c));
	cr_expect_str_eq(udp_ask(u, app), self_of(u));
	cr_expect(strstr(content("fwd.log"), v->engine), "%s", content("fwd.log"));
	cr_expect(there("fwd.ctl"));

	/* The next stage finds all done. */
	cr_expect_eq(hook_ok(w, NULL, "running", w->ct_pid, with_engine(w, BOTH)), pid);
	cr_expect(conn_works(&c));

	cr_expect_eq(hook_ok(w, NULL, "stopped", 0, with_engine(w, BOTH)), 0);
	cr_expect_eq(proc_wait(pid, 0), 0);
	conn_close(&c);
	cr_expect(port_is_free(w));
	cr_expect(!there("fwd.pid") && !there("fwd.ctl") && there("fwd.log"));
}

/* Its end ends fwd, poststop or not; and poststop finds nothing to do. */
EACH_ENGINE(hook, ends_with_the_container, 15)
{
	struct world *w = bundle_up(CT_LO, v);
	pid_t pid = hook_ok(w, "createRuntime", "created", w->ct_pid, with_engine(w, BOTH));

	cr_assert(!kill(w->ct_pid, SIGKILL));
	cr_expect_eq(proc_wait(pid, 3000), 0);
	cr_expect(!there("fwd.pid"));
	cr_expect_eq(hook_ok(w, "poststop", "stopped", w->ct_pid, with_engine(w, BOTH)), 0);
	cr_expect(port_is_free(w));
}

/* A fwd that is left over from the container's last run makes way. */
EACH_ENGINE(hook, next_run_replaces_what_is_left, 15)
{
	static const char *const argv[] = { "sleep", "1000", NULL };
	struct world *w = bundle_up(CT_LO, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	pid_t old = hook_ok(w, NULL, "created", w->ct_pid, with_engine(w, BOTH)), new;
	struct proc second;
	struct conn c;

	second = ns_spawn(&w->ct, 0, argv);
	new = hook_ok(w, NULL, "created", second.pid, with_engine(w, BOTH));
	cr_expect(new > 0 && new != old);
	cr_expect_eq(proc_wait(old, 0), 0);
	c = conn_open(w, 8080, l);
	cr_expect(conn_works(&c));
	conn_close(&c);
	world_down(w);
}

/* What a pid file says is not believed: a stranger of that number lives on. */
EACH_ENGINE(hook, old_pid_file_harms_nobody, 15)
{
	static const char *const argv[] = { "sleep", "1000", NULL };
	struct world *w = bundle_up(CT_LO, v);
	struct proc stranger = ns_spawn(&w->fwd_in, 0, argv);
	FILE *f = fopen(in_bundle("fwd.pid"), "w");

	cr_assert(f);
	fprintf(f, "%d\n", (int)stranger.pid);
	fclose(f);
	cr_assert(!chmod(in_bundle("fwd.pid"), 0666));
	hook_ok(w, NULL, "stopped", 0, with_engine(w, BOTH));
	cr_expect(proc_alive(stranger.pid));
	cr_expect_neq(hook_ok(w, NULL, "created", w->ct_pid, with_engine(w, BOTH)), stranger.pid);
	cr_expect(proc_alive(stranger.pid));
	world_down(w);
}

/* Nor does what a killed fwd has left stand in the way of the next. */
EACH_ENGINE(hook, kill_leaves_no_obstacle, 15)
{
	struct world *w = bundle_up(CT_LO, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	pid_t old = hook_ok(w, NULL, "created", w->ct_pid, with_engine(w, BOTH));
	struct conn c;

	cr_assert(!kill(old, SIGKILL));
	cr_expect_eq(proc_wait(old, 3000), WAIT_SIGNAL + SIGKILL);
	cr_expect(there("fwd.pid") && there("fwd.ctl"));
	/* The kernel takes a ring apart a moment after its process. */
	cr_assert(eventually(port_is_free, w, 2000));
	cr_expect_neq(hook_ok(w, NULL, "running", w->ct_pid, with_engine(w, BOTH)), old);
	c = conn_open(w, 8080, l);
	cr_expect(conn_works(&c));
	conn_close(&c);
	world_down(w);
}

/* The name of the stage is more than what the state says. */
Test(hook, stage_can_be_named, .timeout = 15)
{
	struct world *w = bundle_up(CT_LO, &uring_v4);
	struct run r;

	cr_expect(hook_ok(w, "poststart", "stopped", w->ct_pid, PUBLISH("8080:80")) > 0);
	cr_expect_eq(hook_ok(w, "poststop", "running", w->ct_pid, PUBLISH("8080:80")), 0);
	cr_expect(hook_ok(w, "createRuntime", "", w->ct_pid, PUBLISH("8080:80")) > 0);
	cr_expect_eq(hook_ok(w, "poststop", "", 0, PUBLISH("8080:80")), 0);
	r = hook(w, "createContainer", "creating", w->ct_pid, PUBLISH("8080:80"));
	expect(&r, 1, "fwd: hook: 'createContainer' is not createRuntime, poststart or poststop");
	r = hook(w, "createRuntime", "creating", 0, PUBLISH("8080:80"));
	expect(&r, 1, "fwd: state of the container: it has no pid");
	r = fwd_run(w, ARGS("hook", "poststart", "poststop"));
	expect(&r, 1, "there is one stage");
	r = fwd_run(w, ARGS("hook", "--help"));
	expect(&r, 0, "fwd.publish");
}

/* It holds nothing of the runtime's, and tells no service manager of the runtime's anything. */
Test(hook, leaves_the_runtimes_own_alone, .timeout = 15)
{
	struct world *w = bundle_up(CT_LO, &uring_v4);
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int manager = ns_socket(&w->host, AF_UNIX, SOCK_DGRAM), leak[2];
	struct pollfd p[2];

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/notify", w->dir);
	cr_assert(!bind(manager, (struct sockaddr *)&sa, sizeof(sa)));
	cr_assert(!pipe(leak));
	(void)fwd_path();
	clearenv();
	setenv("NOTIFY_SOCKET", sa.sun_path, 1);
	setenv("WATCHDOG_USEC", "1000000", 1);
	cr_assert(hook_ok(w, NULL, "creating", w->ct_pid, PUBLISH(BOTH)) > 0);
	close(leak[1]);
	p[0] = (struct pollfd){ leak[0], POLLIN, 0 };
	cr_expect_eq(poll(&p[0], 1, 1000), 1, "a descriptor of the runtime's is still open");
	world_down(w);
	p[1] = (struct pollfd){ manager, POLLIN, 0 };
	cr_expect_eq(poll(&p[1], 1, 0), 0, "the service manager was told something");
}

/* ------------------------------------------------------------ failures */

/* The reason is said, and written where it can be found if the runtime hides it. */
EACH_ENGINE(hook, port_in_use_fails_the_container, 15)
{
	static const char why[] = "cannot listen on tcp port 8080, all addresses: "
				  "Address already in use";
	struct world *w = bundle_up(CT_ADDR, v);
	int taken = tcp_listen(&w->host, "0.0.0.0", 8080);
	struct run r;

	ns_routing(&w->ct, before, sizeof(before));
	r = hook(w, NULL, "creating", w->ct_pid, with_engine(w, "8079:80,8080:80"));
	expect(&r, 1, why);
	cr_expect(strncmp(r.out, "fwd: ", 5) == 0 && strchr(r.out, '\n') == strrchr(r.out, '\n'),
		  "%s", r.out);
	cr_expect(strstr(content("fwd.log"), why), "%s", content("fwd.log"));
	cr_expect(!there("fwd.pid") && !there("fwd.ctl"));
	cr_expect(tcp_refused(&w->client[0], HOST[V4], 8079));
	ns_routing(&w->ct, after, sizeof(after));
	cr_expect_str_eq(after, before);
	/* Poststop after that, as some runtimes call it; and another try. */
	cr_expect_eq(hook_ok(w, NULL, "stopped", 0, with_engine(w, "8080:80")), 0);
	close(taken);
	cr_expect(hook_ok(w, NULL, "creating", w->ct_pid, with_engine(w, "8080:80")) > 0);
	world_down(w);
}

/* Each mistake has its own message; no container starts with less than was asked for. */
Test(hook, bad_annotations_are_named, .timeout = 30)
{
	static const struct {
		const char *annotations, *why;
	} rows[] = {
		{ PUBLISH("0"), "'0' is not a number from 1 to 65535" },
		{ PUBLISH("8080:80/sctp"),
		  "annotation fwd.publish: '8080:80/sctp' has a protocol" },
		{ PUBLISH("80,"), "annotation fwd.publish: an item is empty" },
		{ "{\"fwd.publish\":80}", "annotation fwd.publish is no string" },
		{ "{\"fwd.publish\":\"80\",\"fwd.options\":4}",
		  "annotation fwd.options is no string" },
		{ "{\"fwd.publish\":\"80\",\"fwd.options\":\"--sandbox=off\"}",
		  "annotation fwd.options: '--sandbox' cannot be set by an annotation" },
		{ "{\"fwd.publish\":\"80\",\"fwd.options\":\"--source=none\"}",
		  "option '--source': 'none' is not keep, require or off" },
		{ "{\"fwd.publish\":\"80\",\"fwd.option\":\"-4\"}",
		  "annotation fwd.option: there is no such one" },
		{ "[]", "state of the container: annotations are no object" },
		/* What must not get to a terminal, or begin a line of a log. */
		{ PUBLISH("\\u001b[1m/sctp"), "'?[1m/sctp' has a protocol" },
		{ PUBLISH("80\\u001b[1m"), "'80?[1m' is not a number" },
		{ "{\"fwd.publish\":\"80\",\"fwd.a\\nready\":\"\"}",
		  "annotation fwd.a?ready: there" },
	};
	struct world *w = bundle_up(CT_LO, &uring_v4);

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct run r = hook(w, NULL, "creating", w->ct_pid, rows[i].annotations);

		expect(&r, 1, rows[i].why);
		cr_expect(!there("fwd.pid") && !there("fwd.ctl"));
	}
}

/* A state that is none is no reason to guess. */
Test(hook, bad_states_are_named, .timeout = 30)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
		{ "", "state of the container: " },
		{ "{", "state of the container: " },
		{ "[]", "state of the container: " },
		{ "{} {}", "state of the container: end of file expected" },
		{ "{\"id\":\"a\"}", "Object item not found: bundle" },
		{ "{\"bundle\":\"/a\",\"bundle\":\"/b\"}", "duplicate object key" },
		{ "{\"bundle\":\"a\"}", "bundle 'a' is no path" },
		{ "{\"bundle\":\"/\",\"pid\":-1}", "pid -1 is none" },
		{ "{\"bundle\":\"/\",\"pid\":4294967296}", "pid 4294967296 is none" },
		{ "{\"bundle\":\"/\",\"pid\":\"1\"}", "Expected integer, got string" },
		{ "{\"bundle\":\"/nonexistent\",\"pid\":1,\"annotations\":" PUBLISH("80") "}",
		  "bundle '/nonexistent': No such file or directory" },
		{ "{\"bundle\":\"/proc\",\"pid\":1,\"annotations\":" PUBLISH("80") "}",
		  "bundle '/proc', for fwd's files: " },
	};
	struct world *w = bundle_up(CT_LO, &uring_v4);
	struct run r;
	int fd;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		put_stdin(rows[i].text);
		r = fwd_run(w, ARGS("hook"));
		expect(&r, 1, rows[i].why);
	}
	fd = open(in_bundle("state"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert(fd >= 0 && !ftruncate(fd, 2 << 20));
	dup2(fd, STDIN_FILENO);
	r = fwd_run(w, ARGS("hook"));
	expect(&r, 1, "more than 1048576 bytes");
	close(fd);
}

/* Containers that do not ask for ports are none of its business. */
Test(hook, others_are_left_alone, .timeout = 15)
{
	static const char *const annotations[] = {
		"null", "{}", "{\"a\":\"b\"}", "{\"fwd.options\":\"--sandbox=off\"}", PUBLISH(""),
	};
	struct world *w = bundle_up(CT_LO, &uring_v4);
	struct run r;

	for (unsigned i = 0; i < ARRAY_SIZE(annotations); i++) {
		r = hook(w, NULL, "creating", w->ct_pid, annotations[i]);
		cr_expect(r.status == 0 && !*r.out, "%s: %d, %s", annotations[i], r.status, r.out);
	}
	put_stdin("{\"bundle\":\"/nonexistent\",\"pid\":1}");
	r = fwd_run(w, ARGS("hook"));
	cr_expect(r.status == 0 && !*r.out, "%d, %s", r.status, r.out);
	/* One whose bundle is gone has nothing that could be stopped. */
	put_stdin("{\"bundle\":\"/nonexistent\",\"annotations\":" PUBLISH("80") "}");
	r = fwd_run(w, ARGS("hook"));
	cr_expect(r.status == 0 && !*r.out, "%d, %s", r.status, r.out);
	cr_expect(!there("fwd.log"));
}
