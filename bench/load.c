/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load.c - command line of the load generator
 *
 *     load server bulk|rr|crr|blast|echo    --addr A --port P [options]
 *     load client bulk|rr|crr|first|idle|blast|echo  --addr A --port P [options]
 *     load client answer|answer-udp|free --addr A --port P    wait until it answers, or
 *                                                               can be bound
 *
 * Both ends are given the same --size, --seconds and --dir.
 */
#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

static const struct role {
	const char *name;
	int (*server)(const struct load_opts *o);
	int (*client)(const struct load_opts *o);
} roles[] = {
	{ "bulk", bulk_run, bulk_run },		  { "rr", rr_server, rr_client },
	{ "crr", rr_server, crr_client },	  { "first", rr_server, crr_client },
	{ "idle", rr_server, idle_client },	  { "blast", blast_server, blast_client },
	{ "echo", echo_server, echo_client },	  { "answer", NULL, probe_answer },
	{ "answer-udp", NULL, probe_answer_udp }, { "free", NULL, probe_free },
};

enum {
	OPT_ADDR = 1,
	OPT_PORT,
	OPT_SECONDS,
	OPT_WARMUP,
	OPT_GRACE,
	OPT_PAUSE,
	OPT_STREAMS,
	OPT_SIZE,
	OPT_GSO,
	OPT_RATE,
	OPT_CHECK,
	OPT_DIR,
	OPT_FROM
};

static const struct option options[] = {
	{ "addr", required_argument, NULL, OPT_ADDR },
	{ "port", required_argument, NULL, OPT_PORT },
	{ "seconds", required_argument, NULL, OPT_SECONDS },
	{ "warmup", required_argument, NULL, OPT_WARMUP },
	{ "grace", required_argument, NULL, OPT_GRACE },
	{ "pause", required_argument, NULL, OPT_PAUSE },
	{ "streams", required_argument, NULL, OPT_STREAMS },
	{ "size", required_argument, NULL, OPT_SIZE },
	{ "gso", required_argument, NULL, OPT_GSO },
	{ "rate", required_argument, NULL, OPT_RATE },
	{ "check", required_argument, NULL, OPT_CHECK },
	{ "dir", required_argument, NULL, OPT_DIR },
	{ "from", required_argument, NULL, OPT_FROM },
	{ 0 },
};

static const char usage[] =
	"usage: load server|client SCENARIO --addr ADDR --port PORT\n"
	"            [--seconds S] [--warmup S] [--grace S] [--pause S] [--streams N] [--size B]\n"
	"            [--gso N] [--rate PPS] [--dir up|down|both] [--check none|sample|full]\n"
	"            [--from ADDR]\n";

static uint64_t parse_seconds(const char *text)
{
	char *end;
	double s = strtod(text, &end);

	if (*end || !(s >= 0 && s <= 3600))
		die(false, "not a time in seconds: %s", text);
	return (uint64_t)(s * 1e9);
}

static unsigned int parse_number(const char *text, unsigned int max)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end || end == text || n > max)
		die(false, "not a number up to %u: %s", max, text);
	return (unsigned int)n;
}

/* Into *@addr. Returns its length. */
static socklen_t parse_addr(struct sockaddr_storage *addr, const char *text, uint16_t port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)addr;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)addr;

	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		return sizeof(*v6);
	}
	die(false, "not an address: %s", text);
}

static enum load_check parse_check(const char *text)
{
	if (!strcmp(text, "none"))
		return CHECK_NONE;
	return strcmp(text, "full") ? CHECK_SAMPLE : CHECK_FULL;
}

static void parse_dir(struct load_opts *o, const char *dir)
{
	bool both = !strcmp(dir, "both"), up = !strcmp(dir, "up");

	if (!both && !up && strcmp(dir, "down"))
		die(false, "not up, down or both: %s", dir);
	o->send = both || up != o->server;
	o->recv = both || up == o->server;
}

static void parse_options(struct load_opts *o, int argc, char **argv)
{
	const char *addr = NULL, *from = NULL, *dir = "up";
	unsigned int port = 0;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case OPT_ADDR:
			addr = optarg;
			break;
		case OPT_PORT:
			port = parse_number(optarg, 65535);
			break;
		case OPT_SECONDS:
			o->seconds_ns = parse_seconds(optarg);
			break;
		case OPT_WARMUP:
			o->warmup_ns = parse_seconds(optarg);
			break;
		case OPT_GRACE:
			o->grace_ns = parse_seconds(optarg);
			break;
		case OPT_PAUSE:
			o->pause_ns = parse_seconds(optarg);
			break;
		case OPT_STREAMS:
			o->streams = parse_number(optarg, 1000000);
			break;
		case OPT_SIZE:
			o->size = parse_number(optarg, LOAD_MAX_SIZE);
			break;
		case OPT_GSO:
			o->gso = parse_number(optarg, 64);
			break;
		case OPT_RATE:
			o->rate = parse_number(optarg, 100000000);
			break;
		case OPT_CHECK:
			o->check = parse_check(optarg);
			break;
		case OPT_DIR:
			dir = optarg;
			break;
		case OPT_FROM:
			from = optarg;
			break;
		default:
			fputs(usage, stderr);
			exit(2);
		}
	}
	if (!addr || !port || o->size == 0 || o->streams == 0 || o->warmup_ns >= o->seconds_ns)
		die(false, "needs --addr and --port, and more --seconds than --warmup");
	o->addr_len = parse_addr(&o->addr, addr, (uint16_t)port);
	if (from && parse_addr(&o->from, from, 0) != o->addr_len)
		die(false, "--from is of another family than --addr");
	parse_dir(o, dir);
}

int main(int argc, char **argv)
{
	struct load_opts o = { .seconds_ns = 5000000000,
			       .warmup_ns = 500000000,
			       .grace_ns = 10000000000,
			       .streams = 1,
			       .size = 1,
			       .check = CHECK_SAMPLE };

	if (argc < 3 || (strcmp(argv[1], "server") && strcmp(argv[1], "client"))) {
		fputs(usage, stderr);
		return 2;
	}
	o.server = argv[1][0] == 's';
	o.scenario = argv[2];
	parse_options(&o, argc - 2, argv + 2);
	pattern_init();
	stop_catch();
	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
		int (*run)(const struct load_opts *opts) = o.server ? roles[i].server
								    : roles[i].client;

		if (!strcmp(roles[i].name, o.scenario) && run)
			return run(&o);
	}
	die(false, "no such scenario for a %s: %s", argv[1], o.scenario);
}
