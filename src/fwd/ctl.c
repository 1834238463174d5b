/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl.c - fwd ctl: one request, its answer
 */
#include "fwd/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "err.h"
#include "fwd/ctlprint.h"
#include "fwd/ctlsock.h"
#include "fwd/request.h"
#include "util.h"

#define CTL_WAIT_S 30 /* for an answer: thousands of ports take a moment to open */

enum ctl_long { CTL_DROP = 256, CTL_JSON, CTL_FORMAT };

static const char ctl_short[] = "+:t:u:h";

static const struct option ctl_options[] = {
	{ "tcp-ports", required_argument, NULL, 't' },
	{ "udp-ports", required_argument, NULL, 'u' },
	{ "help", no_argument, NULL, 'h' },
	{ "drop", no_argument, NULL, CTL_DROP },
	{ "json", no_argument, NULL, CTL_JSON },
	{ "format", required_argument, NULL, CTL_FORMAT },
	{ 0 },
};

static const char ctl_usage[] =
	"Usage: fwd ctl PATH list [--json]\n"
	"       fwd ctl PATH add [-t SPEC]... [-u SPEC]... [--json]\n"
	"       fwd ctl PATH delete [-t SPEC]... [-u SPEC]... [ID]... [--drop] [--json]\n"
	"       fwd ctl PATH stats [--json | --format=prometheus]\n"
	"       fwd ctl PATH flows [--json]\n"
	"\n"
	"Change or show what a running fwd forwards, by the socket PATH that its option\n"
	"--control names.\n"
	"\n"
	"  list     the rules, with their ids and where they listen\n"
	"  add      more rules, as fwd takes them: all of them, or none\n"
	"  delete   rules, as they were given, or by id: they stop listening at once;\n"
	"           established TCP connections go on\n"
	"  stats    counters\n"
	"  flows    the connections and UDP sessions that there are\n"
	"\n"
	"      --drop              end connections, too\n"
	"      --json              print JSON\n"
	"      --format=prometheus print Prometheus' text format\n"
	"  -h, --help              print this\n"
	"\n"
	"The manual is fwd-ctl(1).\n";

struct ctl {
	const char *path;
	enum request_kind kind;
	json_t *tcp, *udp, *ids; /* owned; NULL: not given */
	bool drop, json, prometheus;
};

/* ---------------------------------------------------------------- the command line */

static int ctl_no_memory(struct err *err)
{
	return err_sys(err, ENOMEM, "ctl");
}

/* Append @v, which is taken, to *@list. */
static int ctl_append(json_t **list, json_t *v, struct err *err)
{
	if (!*list)
		*list = json_array();
	return json_array_append_new(*list, v) == 0 ? 0 : ctl_no_memory(err);
}

static int ctl_spec(json_t **list, const char *spec, struct err *err)
{
	json_t *v = json_string(spec);

	return v ? ctl_append(list, v, err)
		 : err_set(err, EINVAL, "port specification '%s' is not UTF-8", spec);
}

static int ctl_bad_option(int opt, char **argv, struct err *err)
{
	const char *arg = option_taken(argv);

	if (opt == ':')
		return err_set(err, EINVAL, "option '%s' requires an argument", arg);
	return err_set(err, EINVAL, "unrecognized option '%s'", arg);
}

static int ctl_option(struct ctl *c, int opt, char **argv, struct err *err)
{
	bool change = c->kind == REQUEST_ADD || c->kind == REQUEST_DELETE;
	const char *command = request_kind_str(c->kind);

	if (opt == '?' || opt == ':')
		return ctl_bad_option(opt, argv, err);
	if ((opt == 't' || opt == 'u') && !change)
		return err_set(err, EINVAL, "'%s' takes no '-%c'", command, opt);
	if (opt == CTL_DROP && c->kind != REQUEST_DELETE)
		return err_set(err, EINVAL, "'%s' takes no '--drop'", command);
	if (opt == CTL_FORMAT && (c->kind != REQUEST_STATS || strcmp(optarg, "prometheus") != 0))
		return err_set(err, EINVAL, "'%s' has no format '%s'", command, optarg);
	if (opt == 't')
		return ctl_spec(&c->tcp, optarg, err);
	if (opt == 'u')
		return ctl_spec(&c->udp, optarg, err);
	c->drop |= opt == CTL_DROP;
	c->json |= opt == CTL_JSON;
	c->prometheus |= opt == CTL_FORMAT;
	return 0;
}

static int ctl_operand(struct ctl *c, const char *arg, struct err *err)
{
	uint32_t id;

	if (c->kind != REQUEST_DELETE)
		return err_set(err, EINVAL, "'%s' takes no '%s'", request_kind_str(c->kind), arg);
	if (!parse_u32(arg, UINT32_MAX, &id) || id == 0)
		return err_set(err, EINVAL, "'%s' is not the id of a rule (see fwd ctl list)", arg);
	return ctl_append(&c->ids, json_integer(id), err);
}

static int ctl_command(const char *arg, enum request_kind *ret, struct err *err)
{
	for (unsigned i = 0; i < REQUEST_KINDS; i++) {
		if (strcmp(arg, request_kind_str((enum request_kind)i)) == 0) {
			*ret = (enum request_kind)i;
			return 0;
		}
	}
	return err_set(err, EINVAL, "unknown command '%s' (see fwd ctl --help)", arg);
}

/* Options and ids may stand in any order. 0; 1 if help was printed; -errno with @err. */
static int ctl_parse(struct ctl *c, int argc, char **argv, struct err *err)
{
	int opt, ret = 0;

	opterr = 0;
	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		fputs(ctl_usage, stdout);
		return 1;
	}
	if (argc < 3)
		return err_set(err, EINVAL, "ctl needs a PATH and a command (see fwd ctl --help)");
	c->path = argv[1];
	ret = ctl_command(argv[2], &c->kind, err);
	argc -= 2;
	argv += 2;
	optind = 0;
	while (ret == 0) {
		opt = getopt_long(argc, argv, ctl_short, ctl_options, NULL);
		if (opt == 'h') {
			fputs(ctl_usage, stdout);
			return 1;
		}
		if (opt != -1)
			ret = ctl_option(c, opt, argv, err);
		else if (optind < argc)
			ret = ctl_operand(c, argv[optind++], err);
		else
			break;
	}
	if (ret == 0 && !c->tcp && !c->udp && !c->ids && c->kind == REQUEST_ADD)
		ret = err_set(err, EINVAL, "nothing to add: give -t or -u");
	if (ret == 0 && !c->tcp && !c->udp && !c->ids && c->kind == REQUEST_DELETE)
		ret = err_set(err, EINVAL, "nothing to delete: give -t, -u or an ID");
	if (ret == 0 && c->json && c->prometheus)
		ret = err_set(err, EINVAL, "options '--json' and '--format' exclude each other");
	return ret;
}

/* ---------------------------------------------------------------- the conversation */

static int ctl_send(const struct ctl *c, int fd, struct err *err)
{
	json_t *o = json_pack("{s:s, s:O*, s:O*, s:O*}", "command", request_kind_str(c->kind),
			      "tcp", c->tcp, "udp", c->udp, "ids", c->ids);
	char *text;
	int ret = 0;

	if (c->drop)
		json_object_set_new(o, "drop", json_true());
	text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	if (!text)
		return ctl_no_memory(err);
	/* What is too long is refused by the other side, which may close meanwhile. */
	if (dprintf(fd, "%s\n", text) < 0 && errno != EPIPE)
		ret = err_sys(err, errno, "control socket '%s'", c->path);
	free(text);
	return ret;
}

static int ctl_receive(const struct ctl *c, FILE *in, json_t **ret, struct err *err)
{
	char *line = NULL;
	json_error_t why;
	size_t size = 0;
	ssize_t len;

	errno = 0;
	len = getline(&line, &size, in);
	*ret = len > 0 ? json_loadb(line, (size_t)len, 0, &why) : NULL;
	free(line);
	if (len < 0 && errno == EAGAIN)
		return err_set(err, ETIMEDOUT, "control socket '%s': no answer in %u s", c->path,
			       CTL_WAIT_S);
	if (len < 0)
		return err_set(err, EPIPE, "control socket '%s': closed without an answer",
			       c->path);
	if (!*ret)
		return err_set(err, EPROTO, "control socket '%s': an answer that is no JSON",
			       c->path);
	if (!json_is_true(json_object_get(*ret, "ok"))) {
		const char *text = json_string_value(json_object_get(*ret, "error"));

		err_set(err, EREMOTEIO, "%s", text ? text : "refused without a reason");
		json_decref(*ret);
		return -EREMOTEIO;
	}
	return 0;
}

static void ctl_print_json(json_t *answer)
{
	json_object_del(answer, "ok");
	json_dumpf(answer, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	putchar('\n');
}

/* The flows of one slice as elements of a list that goes on. */
static void ctl_print_json_flows(const json_t *answer, bool *first)
{
	size_t i;
	json_t *v;

	json_array_foreach(json_object_get(answer, "flows"), i, v)
	{
		printf(*first ? "\n    " : ",\n    ");
		*first = false;
		json_dumpf(v, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
	}
}

/* Flows come in slices: each is printed as it comes. */
static int ctl_flows(const struct ctl *c, FILE *in, struct err *err)
{
	bool head = true, first = true, more = true;
	json_t *answer;

	while (more) {
		int ret = ctl_receive(c, in, &answer, err);

		if (ret < 0)
			return ret;
		if (head && c->json)
			printf("{\n  \"flows\": [");
		else if (head)
			ctlprint_flows_head();
		head = false;
		if (c->json)
			ctl_print_json_flows(answer, &first);
		else
			ctlprint_flows(answer);
		more = json_is_true(json_object_get(answer, "more"));
		json_decref(answer);
	}
	if (c->json)
		printf("\n  ]\n}\n");
	return 0;
}

static int ctl_answer(const struct ctl *c, FILE *in, struct err *err)
{
	json_t *answer;
	int ret;

	if (c->kind == REQUEST_FLOWS)
		return ctl_flows(c, in, err);
	ret = ctl_receive(c, in, &answer, err);
	if (ret < 0)
		return ret;
	if (c->json)
		ctl_print_json(answer);
	else if (c->prometheus)
		ctlprint_prometheus(answer);
	else if (c->kind == REQUEST_STATS)
		ctlprint_stats(answer);
	else
		ctlprint_rules(answer);
	json_decref(answer);
	return 0;
}

static int ctl_talk(const struct ctl *c, struct err *err)
{
	const struct timeval limit = { .tv_sec = CTL_WAIT_S };
	int fd = ctlsock_connect(c->path, err), ret;
	FILE *in;

	if (fd < 0)
		return fd;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	in = fdopen(fd, "r");
	if (!in) {
		close(fd);
		return ctl_no_memory(err);
	}
	ret = ctl_send(c, fd, err);
	if (ret == 0)
		ret = ctl_answer(c, in, err);
	fclose(in);
	if (ret == 0 && (fflush(stdout) != 0 || ferror(stdout)))
		ret = err_sys(err, errno, "standard output");
	return ret;
}

int ctl_main(int argc, char **argv)
{
	struct ctl c = { 0 };
	struct err err;
	int ret;

	signal(SIGPIPE, SIG_IGN);
	ret = ctl_parse(&c, argc, argv, &err);
	if (ret == 0)
		ret = ctl_talk(&c, &err);
	json_decref(c.tcp);
	json_decref(c.udp);
	json_decref(c.ids);
	if (ret < 0)
		fprintf(stderr, "fwd: %s\n", err.text);
	return ret < 0 ? 1 : 0;
}
