/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_conf.c - the command line: what it means, and the help
 *
 * Rows are written as the user types them, and compared as text: what they set, in
 * the order of struct conf, then their rules.
 */

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "args.h"
#include "fwd/conf.h"
#include "util.h"

enum { TIMEOUT = 10, ROWS_MAX = 96, TEXT = 1024, HELP = 16384 };

static unsigned row_index[ROWS_MAX];

/* ---------------------------------------------------------------- as text */

struct out {
	char text[TEXT];
	size_t len;
};

__attribute__((format(printf, 2, 3))) static void add(struct out *o, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	o->len += (size_t)vsnprintf(o->text + o->len, sizeof(o->text) - o->len, fmt, ap);
	va_end(ap);
	cr_assert_lt(o->len, sizeof(o->text));
}

static void add_word(struct out *o, bool is, const char *word)
{
	if (is)
		add(o, "%s ", word);
}

static void add_number(struct out *o, const char *name, size_t v, size_t normal)
{
	if (v != normal)
		add(o, "%s=%zu ", name, v);
}

static void add_text(struct out *o, const char *name, const char *v)
{
	if (v)
		add(o, "%s=%s ", name, v);
}

/* Everything that is not as it is without options. */
static void print(const struct conf *c, struct out *o)
{
	static const char *const modes[] = { "keep", "require", "off" };
	static const char *const engines[] = { "auto", "io_uring", "epoll" };
	char rule[RULE_STRLEN];

	*o = (struct out){ .len = 0 };
	add_text(o, "netns", c->netns);
	for (char *const *word = c->command; word && *word; word++)
		add(o, "<%s> ", *word);
	add_word(o, !c->v4, "no-v4");
	add_word(o, !c->v6, "no-v6");
	add_word(o, c->foreground, "foreground");
	add_word(o, c->quiet, "quiet");
	add_word(o, c->debug, "debug");
	add_word(o, c->freebind, "freebind");
	add_text(o, "pid", c->pid_file);
	add_text(o, "log", c->log_file);
	add_number(o, "log-size", c->log_size, 1024 * 1024);
	if (c->source.mode != SOURCE_MODE_KEEP)
		add_text(o, "source", modes[c->source.mode]);
	add_word(o, c->source.loopback_to_loopback, "lo-to-lo");
	if (c->engine != CONF_ENGINE_AUTO)
		add_text(o, "engine", engines[c->engine]);
	add_number(o, "threads", c->threads, 0);
	add_number(o, "max-flows", c->max_flows, 0);
	add_number(o, "connect", c->connect_timeout, 10);
	add_number(o, "half-closed", c->half_closed_timeout, 300);
	add_number(o, "udp", c->udp_timeout, 30);
	add_number(o, "udp-lasting", c->udp_lasting_timeout, 120);
	for (unsigned i = 0; i < c->rules.n; i++)
		add(o, "%s; ", rule_str(&c->rules.v[i], rule));
	if (o->len > 0)
		o->text[o->len - 1] = '\0';
}

/* ---------------------------------------------------------------- good ones */

static const struct {
	const char *line, *want;
} good[] = {
	/* the namespace, and ports */
	{ "-t 80 123", "netns=123 tcp 80;" },
	{ "-t 80 --netns 123", "netns=123 tcp 80;" },
	{ "--netns=/proc/123/ns/net -t 80", "netns=/proc/123/ns/net tcp 80;" },
	{ "--netns web -t80 -t 81:90", "netns=web tcp 80; tcp 81:90;" },
	{ "--netns web --tcp-ports 80 --tcp-ports=90", "netns=web tcp 80; tcp 90;" },
	{ "-u 53 123", "netns=123 udp 53;" },
	{ "--udp-ports 53 -t 53 123", "netns=123 udp 53; tcp 53;" },
	{ "-t none 123", "netns=123" },

	/* a command: its options are its own */
	{ "true", "<true>" },
	{ "-t 80 nginx", "<nginx> tcp 80;" },
	{ "-t 80 nginx -t -c file", "<nginx> <-t> <-c> <file> tcp 80;" },
	{ "-f nginx --help --no-such", "<nginx> <--help> <--no-such> foreground" },
	{ "-- nginx -f", "<nginx> <-f>" },
	{ "-f -- -x", "<-x> foreground" },
	{ "-- 123", "<123>" },
	{ "123 x", "<123> <x>" },
	{ "123x", "<123x>" },
	{ "-t 80 -- 123 -q", "<123> <-q> tcp 80;" },

	/* families, wherever they stand */
	{ "-4 -t 80 123", "netns=123 no-v6 tcp 80;" },
	{ "-t 0.0.0.0/80 -4 123", "netns=123 no-v6 tcp 0.0.0.0/80;" },
	{ "-t ::/80 --ipv6-only 123", "netns=123 no-v4 tcp [::]/80;" },
	{ "--ipv4-only -t 80 123", "netns=123 no-v6 tcp 80;" },
	{ "-44 -t 80 123", "netns=123 no-v6 tcp 80;" },

	/* each of the others, short and long */
	{ "-f true", "<true> foreground" },
	{ "--foreground true", "<true> foreground" },
	{ "-q true", "<true> quiet" },
	{ "--quiet true", "<true> quiet" },
	{ "-d true", "<true> debug" },
	{ "--debug true", "<true> debug" },
	{ "-fd true", "<true> foreground debug" },
	{ "-fP file true", "<true> foreground pid=file" },
	{ "-Pfile true", "<true> pid=file" },
	{ "--pid file true", "<true> pid=file" },
	{ "-P -- true", "<true> pid=--" },
	{ "-t 80 -P -- 123", "netns=123 pid=-- tcp 80;" },
	{ "-l file true", "<true> log=file" },
	{ "--log-file=file true", "<true> log=file" },
	{ "--log-size 4096 true", "<true> log-size=4096" },
	{ "--log-size 4294967295 true", "<true> log-size=4294967295" },
	{ "--freebind true", "<true> freebind" },
	{ "--host-lo-to-ns-lo true", "<true> lo-to-lo" },
	{ "--source keep true", "<true>" },
	{ "--source require true", "<true> source=require" },
	{ "--source off --source=keep true", "<true>" },
	{ "--source off true", "<true> source=off" },
	{ "--engine io_uring true", "<true> engine=io_uring" },
	{ "--engine epoll true", "<true> engine=epoll" },
	{ "--threads 1 true", "<true> threads=1" },
	{ "--threads 64 true", "<true> threads=64" },
	{ "--max-flows 1 true", "<true> max-flows=1" },
	{ "--max-flows 1048576 true", "<true> max-flows=1048576" },
	{ "--connect-timeout 1 true", "<true> connect=1" },
	{ "--connect-timeout 3600 true", "<true> connect=3600" },
	{ "--half-closed-timeout 1000000 true", "<true> half-closed=1000000" },
	{ "--udp-timeout 5,7 true", "<true> udp=5 udp-lasting=7" },
	{ "--udp-timeout 5 true", "<true> udp=5 udp-lasting=5" },
	{ "--udp-timeout 1000000,1 true", "<true> udp=1000000 udp-lasting=1" },
	{ "--threads 2 --threads 3 true", "<true> threads=3" },
	{ "--foregr true", "<true> foreground" },
};

ParameterizedTestParameters(conf, takes_good_command_lines)
{
	cr_assert_leq(ARRAY_SIZE(good), ROWS_MAX);
	for (unsigned i = 0; i < ARRAY_SIZE(good); i++)
		row_index[i] = i;
	return cr_make_param_array(unsigned, row_index, ARRAY_SIZE(good), NULL);
}

/* Each line sets what it says and leaves everything else alone. */
ParameterizedTest(const unsigned *row, conf, takes_good_command_lines, .timeout = TIMEOUT)
{
	struct err err = { "" };
	struct args args;
	struct conf c;
	struct out got;

	args_split(good[*row].line, &args);
	cr_assert_eq(conf_parse(args.argc, args.argv, &c, &err), CONF_RUN, "%s: %s",
		     good[*row].line, err.text);
	print(&c, &got);
	cr_assert_str_eq(got.text, good[*row].want, "%s: %s", good[*row].line, got.text);
	conf_free(&c);
}

/* A command line that is parsed again means the same: nothing is left of the first time. */
Test(conf, can_be_parsed_twice, .timeout = TIMEOUT)
{
	for (int i = 0; i < 3; i++) {
		struct err err = { "" };
		struct args args;
		struct conf c;
		struct out got;

		args_split("-fxq 123", &args);
		cr_assert_eq(conf_parse(args.argc, args.argv, &c, &err), -EINVAL);
		args_split("-ft 80 --netns web", &args);
		cr_assert_eq(conf_parse(args.argc, args.argv, &c, &err), CONF_RUN);
		print(&c, &got);
		cr_assert_str_eq(got.text, "netns=web foreground tcp 80;");
		conf_free(&c);
	}
}

/* ---------------------------------------------------------------- help */

/* What @line writes to stdout, where it must be all there is to do. */
static void print_help(const char *line, char buf[HELP])
{
	int fd = memfd_create("help", MFD_CLOEXEC), out = dup(STDOUT_FILENO);
	struct err err = { "" };
	struct args args;
	struct conf c;
	ssize_t n;
	int ret;

	args_split(line, &args);
	fflush(stdout);
	cr_assert_eq(dup2(fd, STDOUT_FILENO), STDOUT_FILENO);
	ret = conf_parse(args.argc, args.argv, &c, &err);
	fflush(stdout);
	dup2(out, STDOUT_FILENO);
	cr_assert_eq(ret, CONF_DONE, "%s: %s", line, err.text);
	n = pread(fd, buf, HELP - 1, 0);
	cr_assert_gt(n, 0);
	buf[n] = '\0';
	close(fd);
	close(out);
}

/* --help says how to use it and names every option; nothing else needs to be right. */
Test(conf, prints_its_help, .timeout = TIMEOUT)
{
	static const char *const options[] = {
		"-t, --tcp-ports", "-u, --udp-ports",	"-4, --ipv4-only",
		"-6, --ipv6-only", "--freebind",	"--host-lo-to-ns-lo",
		"--source",	   "--engine",		"--threads",
		"--max-flows",	   "--connect-timeout", "--half-closed-timeout",
		"--udp-timeout",   "-f, --foreground",	"-P, --pid",
		"-l, --log-file",  "--log-size",	"-q, --quiet",
		"-d, --debug",	   "--version",		"-h, --help",
		"--netns",
	};
	char help[HELP], again[HELP];

	print_help("--help", help);
	cr_assert_eq(strncmp(help, "Usage: fwd ", 11), 0);
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		cr_assert_not_null(strstr(help, options[i]), "%s", options[i]);
	print_help("-f -h --no-such", again);
	cr_assert_str_eq(again, help);
}

/* The help fits a terminal, without tabs and blanks at the end. */
Test(conf, prints_help_that_fits, .timeout = TIMEOUT)
{
	char help[HELP], *save = NULL;

	print_help("-h", help);
	cr_assert_null(strchr(help, '\t'));
	for (char *line = strtok_r(help, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		cr_assert_leq(strlen(line), 100, "%s", line);
		cr_assert_neq(line[strlen(line) - 1], ' ', "%s", line);
	}
}

/* --version prints one line. */
Test(conf, prints_its_version, .timeout = TIMEOUT)
{
	char text[HELP];

	print_help("--version", text);
	cr_assert_str_eq(text, "fwd " FWD_VERSION "\n");
}
