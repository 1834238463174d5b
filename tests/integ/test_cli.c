/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: what it says, what it refuses, and COMMAND mode. */

#include "lib.h"

#include <fcntl.h>

/* Exit status 1 and one line on stderr, which begins "fwd: " and has @text. */
static void expect_error(const struct run *r, const char *what, const char *text)
{
	cr_expect_eq(r->status, 1, "%s: status %d: %s", what, r->status, r->out);
	cr_expect(strstr(r->out, "fwd: ") == r->out, "%s: %s", what, r->out);
	cr_expect_eq(strchr(r->out, '\n'), r->out + strlen(r->out) - 1, "%s: %s", what, r->out);
	cr_expect(strstr(r->out, text), "%s: no '%s' in: %s", what, text, r->out);
}

/* --version names the program and ends well. */
Test(cli, version_is_printed, .timeout = 10 + TEST_LATE_SECS)
{
	struct world *w = world_up(CT_LO, &uring_v4);
	struct run r = fwd_run(w, ARGS("--version"));

	cr_expect_eq(r.status, 0);
	cr_expect(strstr(r.out, "fwd 0") || strstr(r.out, "fwd 1"), "%s", r.out);
}

/* -h and --help name every option. */
Test(cli, help_names_every_option, .timeout = 10 + TEST_LATE_SECS)
{
	static const char *const options[] = {
		"-t",
		"-4",
		"-6",
		"--foreground",
		"--pid",
		"--log-file",
		"--log-size",
		"--netns",
		"--quiet",
		"--debug",
		"--version",
		"--freebind",
		"--source",
		"--engine",
		"--threads",
		"--help",
		"COMMAND",
		"SIGUSR1",
		"--max-flows",
		"--host-lo-to-ns-lo",
		"PID",
		"NAME",
		"io_uring",
		"--connect-timeout",
		"--half-closed-timeout",
		"--ready-fd",
		"--exit-fd",
	};
	struct world *w = world_up(CT_LO, &uring_v4);
	struct run a = fwd_run(w, ARGS("-h")), b = fwd_run(w, ARGS("--help"));

	cr_expect_eq(a.status, 0);
	cr_expect_str_eq(a.out, b.out);
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++)
		cr_expect(strstr(a.out, options[i]), "no %s in: %s", options[i], a.out);
}

/* Unknown options and bad values are refused in one line that names them. */
Test(cli, bad_options_are_named, .timeout = 20 + TEST_LATE_SECS)
{
	static const struct {
		const char *arg, *value, *text;
	} bad[] = {
		{ "--x", "1", "unrecognized option '--x'" },
		{ "--map-guest-addr", "1", "unrecognized option '--map-guest-addr'" },
		{ "--map-guest-addr=none", "1", "unrecognized option '--map-guest-addr" },
		{ "-Z", "1", "unrecognized option" },
		{ "--engine=select", "1", "select" },
		{ "--source=maybe", "1", "maybe" },
		{ "--threads", "0", "0" },
		{ "--threads", "many", "many" },
		{ "--max-flows", "-1", "-1" },
		{ "--connect-timeout", "soon", "soon" },
		{ "--half-closed-timeout", "1h", "1h" },
		{ "--log-size", "big", "big" },
		{ "--ready-fd", "1", "1" },
		{ "--ready-fd", "999", "descriptor 999 is not open" },
		{ "--exit-fd", "pipe", "pipe" },
		{ "--quiet=1", "1", "doesn't allow an argument" },
		{ "-t", "0", "0" },
		{ "-t", "65536", "65536" },
		{ "-t", "8080-8070", "8080-8070" },
		{ "-t", "http", "http" },
		{ "-t", "8080:", "8080:" },
		{ "-t", "80-81:90-92", "90-92" },
		{ "-t", "1.2.3.4.5/8080", "1.2.3.4.5" },
		{ "-t", "8080,8080", "8080" },
		{ "-t", "", "" },
	};
	struct world *w = world_up(CT_LO, &uring_v4);

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct run r = fwd_fails(w, ARGS(bad[i].arg, bad[i].value));
		char what[64];

		/* A value that is none becomes the first of two PIDs, which is as wrong. */
		snprintf(what, sizeof(what), "%s %s", bad[i].arg, bad[i].value);
		expect_error(&r, what, bad[i].text);
	}
}

/* An option without its value, no ports, no namespace and contradictions are explained. */
Test(cli, incomplete_command_lines_are_explained, .timeout = 10 + TEST_LATE_SECS)
{
	struct world *w = world_up(CT_LO, &uring_v4);
	char pid[16];
	struct run r;

	snprintf(pid, sizeof(pid), "%d", w->ct_pid);
	r = fwd_run(w, ARGS("-t"));
	expect_error(&r, "-t", "requires an argument");
	r = fwd_run(w, ARGS("--netns"));
	expect_error(&r, "--netns", "requires an argument");
	r = fwd_run(w, ARGS("-t", "8080"));
	expect_error(&r, "no namespace", "");
	r = fwd_run(w, ARGS("-4", "-6", "-t", "8080", pid));
	expect_error(&r, "-4 -6", "");
	r = fwd_run(w, ARGS("-4", "-t", "[::1]/8080", pid));
	expect_error(&r, "-4 [::1]", "::1");
	r = fwd_run(w, ARGS("-t", "8080", "--netns", pid, pid));
	expect_error(&r, "--netns and PID", pid);
}

/* A pid or log file that cannot be written is an error before anything is open. */
Test(cli, files_that_cannot_be_written_are_errors, .timeout = 10 + TEST_LATE_SECS)
{
	struct world *w = world_up(CT_LO, &uring_v4);
	char pid[16];
	struct run r;

	snprintf(pid, sizeof(pid), "%d", w->ct_pid);
	r = fwd_run(w, ARGS("-t", "8080", "-P", "/nonexistent/pid", pid));
	expect_error(&r, "-P", "/nonexistent/pid");
	r = fwd_run(w, ARGS("-t", "8080", "-l", "/nonexistent/log", pid));
	expect_error(&r, "-l", "/nonexistent/log");
	r = fwd_run(w, ARGS("-t", "8080", "-l", w->dir, pid));
	expect_error(&r, "-l directory", w->dir);
	cr_expect(tcp_refused(&w->client[0], HOST[V4], 8080));
}

/* -q has nothing to say when all is well. */
Test(cli, quiet_says_nothing, .timeout = 10 + TEST_LATE_SECS)
{
	struct world *w = world_up(CT_LO, &uring_v4);
	char pid[16], pid_path[64], text[16];
	struct run r;

	snprintf(pid, sizeof(pid), "%d", w->ct_pid);
	snprintf(pid_path, sizeof(pid_path), "%s/pid", w->dir);
	r = fwd_run(w, ARGS("-q", "-P", pid_path, "-t", "8080", pid));
	cr_expect_eq(r.status, 0);
	cr_expect_str_eq(r.out, "");
	cr_assert(read_file(pid_path, text, sizeof(text)) > 0);
	w->fwd = atoi(text);
	guard_pid(w->fwd);
	world_down(w);
}

/* -f stays, and logs to stderr; SIGINT ends it as SIGTERM does. */
EACH_ENGINE(cli, foreground_stays_until_told, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, "0.0.0.0", 80);
	char engine[32], pid[16], out[8192] = "";
	const char *argv[] = { fwd_path(), engine, "-f", "-d", "-t", "8080:80", pid, NULL };
	struct proc p;
	struct conn c;

	snprintf(engine, sizeof(engine), "--engine=%s", v->engine);
	snprintf(pid, sizeof(pid), "%d", w->ct_pid);
	p = ns_spawn(&w->host, SPAWN_CAPTURE, argv);
	do
		c.c = tcp_connect(&w->client[0], NULL, 0, HOST[V4], 8080);
	while (c.c == -ECONNREFUSED && proc_alive(p.pid) && usleep(5000) == 0);
	cr_assert_geq(c.c, 0);
	c.a = tcp_accept(l, 2000);
	cr_expect(conn_works(&c));
	cr_assert(!kill(p.pid, SIGINT));
	cr_expect(proc_output(&p, out, sizeof(out), 3000));
	cr_expect_eq(proc_wait(p.pid, 1000), 0, "%s", out);
	cr_expect(strstr(out, "source kept"), "%s", out);
}

/* ------------------------------------------------------------ COMMAND */

/* fwd exits with the status of its command. */
EACH_ENGINE(cli, command_status_is_passed_on, 10)
{
	struct world *w = world_up(CT_LO, v);
	struct run r;

	cr_expect_eq(fwd_run(w, ARGS("true")).status, 0);
	cr_expect_eq(fwd_run(w, ARGS("--", "sh", "-c", "exit 7")).status, 7);
	r = fwd_run(w, ARGS("-t", "8080", "--", "sh", "-c", "echo hello; exit 3"));
	cr_expect_eq(r.status, 3);
	cr_expect(strstr(r.out, "hello\n"), "%s", r.out);
	r = fwd_run(w, ARGS("sh", "-c", "kill -KILL $$"));
	cr_expect(r.status == 128 + SIGKILL || r.status == WAIT_SIGNAL + SIGKILL, "%d", r.status);
	r = fwd_run(w, ARGS("--", "/nonexistent/command"));
	cr_expect(r.status == 127 || r.status == 1, "%d", r.status);
	cr_expect(strstr(r.out, "/nonexistent/command"), "%s", r.out);
}

/* The command's namespace has lo up, and is not ours; options of the command are its own. */
Test(cli, command_gets_a_namespace_with_lo, .timeout = 10 + TEST_LATE_SECS)
{
	struct world *w = world_up(CT_LO, &uring_v4);
	struct run r = fwd_run(w, ARGS("ip", "-br", "link", "show"));

	cr_expect_eq(r.status, 0, "%s", r.out);
	cr_expect(strstr(r.out, "LOOPBACK,UP"), "%s", r.out);
	cr_expect_null(strstr(r.out, "eth0"), "%s", r.out);
}

/* A server that is run as the command is published as long as it runs. */
EACH_VARIANT(cli, command_is_published, 10)
{
	/* socat's own user-visible words: "LISTEN" on v6 takes both families. */
	static const char *const cmd[] = { "TCP4-LISTEN:80,reuseaddr",
					   "TCP6-LISTEN:80,reuseaddr,ipv6only=1" };
	struct world *w = world_up(CT_LO, v);
	char engine[32], out[4096] = "";
	const char *argv[] = { fwd_path(), engine,	"-t",	"8080:80", "--",
			       "socat",	   cmd[v->fam], "PIPE", NULL };
	struct proc p;
	int64_t end = now_ms() + patient(3000);
	int c, next = -ECONNRESET;
	char word[4];

	if (access("/usr/bin/socat", X_OK))
		cr_skip_test("socat is not installed");
	snprintf(engine, sizeof(engine), "--engine=%s", v->engine);
	p = ns_spawn(&w->host, SPAWN_CAPTURE, argv);
	/* Refused until socat listens. */
	do {
		c = tcp_connect(&w->client[0], NULL, 0, HOST[v->fam], 8080);
		if (c >= 0) {
			next = sock_put(c, "echo", 4) ? -ECONNRESET : sock_next(c, 1000);
			if (next < 0)
				close(c);
		}
	} while ((c < 0 || next < 0) && now_ms() < end && usleep(5000) == 0);
	cr_assert(c >= 0 && next == 4, "%d %d", c, next);
	cr_expect_eq(sock_get(c, word, sizeof(word)), 0);
	close(c);
	/* socat serves one connection and ends; so does fwd. */
	cr_expect(proc_output(&p, out, sizeof(out), 3000), "%s", out);
	cr_expect_eq(proc_wait(p.pid, 1000), 0, "%s", out);
	cr_expect(tcp_refused(&w->client[0], HOST[v->fam], 8080));
}

/* SIGTERM to fwd ends the command and then fwd. */
EACH_ENGINE(cli, sigterm_ends_the_command, 10)
{
	struct world *w = world_up(CT_LO, v);
	char engine[32], out[4096] = "";
	const char *argv[] = { fwd_path(), engine, "-t", "8080:80",
			       "--",	   "sh",   "-c", "echo ready; exec sleep 1000",
			       NULL };
	char ready[8];
	struct proc p;

	snprintf(engine, sizeof(engine), "--engine=%s", v->engine);
	p = ns_spawn(&w->host, SPAWN_CAPTURE, argv);
	cr_assert_gt(read(p.out, ready, sizeof(ready)), 0);
	cr_assert(!kill(p.pid, SIGTERM));
	/* EOF means that the command is gone, too. */
	cr_expect(proc_output(&p, out, sizeof(out), 3000), "the command lives on: %s", out);
	cr_expect_neq(proc_wait(p.pid, 1000), WAIT_TIMEOUT);
}

/* A port conflict keeps the command from running. */
Test(cli, command_is_not_run_on_a_conflict, .timeout = 10 + TEST_LATE_SECS)
{
	struct world *w = world_up(CT_LO, &uring_v4);
	int taken = tcp_listen(&w->host, "0.0.0.0", 8080);
	struct run r = fwd_run(w, ARGS("-t", "8080", "--", "echo", "I run"));

	expect_error(&r, "conflict", "Address already in use");
	cr_expect_null(strstr(r.out, "I run"), "%s", r.out);
	close(taken);
}
