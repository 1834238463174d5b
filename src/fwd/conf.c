/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conf.c - the command line
 *
 * Shaped like pasta's, because users and Podman wrappers speak that.
 */
#include "fwd/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fwd/portspec.h"
#include "ns/confine.h"
#include "util.h"

#define CONF_LOG_SIZE_MIN (4u * 1024)

enum conf_long {
	CONF_NETNS = 256,
	CONF_LOG_SIZE,
	CONF_VERSION,
	CONF_FREEBIND,
	CONF_HOST_LO,
	CONF_SOURCE,
	CONF_ENGINE,
	CONF_SANDBOX,
	CONF_THREADS,
	CONF_MAX_FLOWS,
	CONF_CONNECT_TIMEOUT,
	CONF_HALF_CLOSED_TIMEOUT,
	CONF_UDP_TIMEOUT,
	CONF_READY_FD,
	CONF_EXIT_FD,
	CONF_LISTEN_FD,
};

static const char conf_short[] = "+:t:u:c:46fP:l:qdh";

static const struct option conf_options[] = {
	{ "tcp-ports", required_argument, NULL, 't' },
	{ "udp-ports", required_argument, NULL, 'u' },
	{ "control", required_argument, NULL, 'c' },
	{ "ipv4-only", no_argument, NULL, '4' },
	{ "ipv6-only", no_argument, NULL, '6' },
	{ "foreground", no_argument, NULL, 'f' },
	{ "pid", required_argument, NULL, 'P' },
	{ "log-file", required_argument, NULL, 'l' },
	{ "quiet", no_argument, NULL, 'q' },
	{ "debug", no_argument, NULL, 'd' },
	{ "help", no_argument, NULL, 'h' },
	{ "netns", required_argument, NULL, CONF_NETNS },
	{ "log-size", required_argument, NULL, CONF_LOG_SIZE },
	{ "version", no_argument, NULL, CONF_VERSION },
	{ "freebind", no_argument, NULL, CONF_FREEBIND },
	{ "host-lo-to-ns-lo", no_argument, NULL, CONF_HOST_LO },
	{ "source", required_argument, NULL, CONF_SOURCE },
	{ "engine", required_argument, NULL, CONF_ENGINE },
	{ "sandbox", required_argument, NULL, CONF_SANDBOX },
	{ "threads", required_argument, NULL, CONF_THREADS },
	{ "max-flows", required_argument, NULL, CONF_MAX_FLOWS },
	{ "connect-timeout", required_argument, NULL, CONF_CONNECT_TIMEOUT },
	{ "half-closed-timeout", required_argument, NULL, CONF_HALF_CLOSED_TIMEOUT },
	{ "udp-timeout", required_argument, NULL, CONF_UDP_TIMEOUT },
	{ "ready-fd", required_argument, NULL, CONF_READY_FD },
	{ "exit-fd", required_argument, NULL, CONF_EXIT_FD },
	{ "listen-fd", required_argument, NULL, CONF_LISTEN_FD },
	{ 0 },
};

static const char conf_usage[] =
	"Usage: fwd [OPTION]... --netns PID|PATH|NAME\n"
	"       fwd [OPTION]... PID\n"
	"       fwd [OPTION]... [--] COMMAND [ARG]...\n"
	"       fwd ctl PATH list|add|delete|stats|flows\n"
	"       fwd install-podman [--hook] [--undo] [--dry-run]\n"
	"       fwd hook [STAGE]\n"
	"\n"
	"Publish ports of the host in a network namespace that is yours. Applications in\n"
	"there see the client's own address and port. With COMMAND: run it in new user\n"
	"and network namespaces, and exit with its status.\n"
	"\n"
	"  -t, --tcp-ports SPEC   TCP ports to forward; may be given several times:\n"
	"                           none, all, auto (whatever listens in the namespace), or\n"
	"                           [ADDRESS[%INTERFACE]/]PORTS, PORTS a comma-separated list of\n"
	"                           80, 8000-8010, 8080:80, 8000-8010:80-90, 8080:ADDRESS/80,\n"
	"                           and ~8005 or ~8003-8005 to leave some out\n"
	"  -u, --udp-ports SPEC   UDP ports to forward, likewise\n"
	"  -c, --control PATH     let rules be changed by 'fwd ctl PATH', see fwd-ctl(1)\n"
	"      --listen-fd NAME=TARGET  where the socket of this name leads that a service\n"
	"                         manager has passed; TARGET is [ADDRESS/]PORT or ADDRESS "
	"(default:\n"
	"                         what the name says, if it is one; else the port it is bound to)\n"
	"  -4, --ipv4-only        listen on IPv4 addresses only\n"
	"  -6, --ipv6-only        listen on IPv6 addresses only\n"
	"      --freebind         listen on addresses that the host does not have (yet)\n"
	"      --host-lo-to-ns-lo forward what comes from the host's loopback addresses to the\n"
	"                         namespace's, and show it as such (default: as 192.0.0.8 or\n"
	"                         100:0:0:1::1)\n"
	"      --source MODE      keep: show the client's address, count where it cannot be\n"
	"                         (default); require: refuse where it cannot be; off: do not try\n"
	"      --engine ENGINE    io_uring or epoll (default: io_uring where it is allowed)\n"
	"      --sandbox MODE     strict: give up, when all is ready, what is not needed any more\n"
	"                         (default); off: do not, for debugging\n"
	"      --threads N        worker threads (default: one per processor, at most 4)\n"
	"      --max-flows N      connections at a time (default: what descriptors allow,\n"
	"                         at most 65536)\n"
	"      --connect-timeout SECONDS      for the application to answer (default: 10)\n"
	"      --half-closed-timeout SECONDS  without a byte, of connections that one side\n"
	"                         has closed (default: 300)\n"
	"      --udp-timeout SECONDS[,SECONDS]  without a datagram, of sessions that are one-way "
	"or\n"
	"                         were answered once, and of others (default: 30,120)\n"
	"  -f, --foreground       stay in the foreground (default: go to the background when\n"
	"                         everything is ready)\n"
	"      --ready-fd N       write \"1\" to this descriptor when everything is ready\n"
	"      --exit-fd N        end at the end of file of this descriptor (a pipe's, say)\n"
	"  -P, --pid FILE         write the process id to FILE\n"
	"  -l, --log-file FILE    log to FILE (default: stderr, in the background syslog)\n"
	"      --log-size BYTES   drop the older half of the log file beyond this (default: 1 "
	"MiB)\n"
	"  -q, --quiet            log errors and warnings only\n"
	"  -d, --debug            log each connection\n"
	"      --version          print the version\n"
	"  -h, --help             print this\n"
	"\n"
	"SIGUSR1 writes counters to the log. The manual is fwd(1).\n";

static int conf_number(const char *option, const char *arg, uint32_t min, uint32_t max,
		       unsigned *ret, struct err *err)
{
	uint32_t v;

	if (!parse_u32(arg, max, &v) || v < min)
		return err_set(err, EINVAL, "option '%s': '%s' is not a number from %u to %u",
			       option, arg, min, max);
	*ret = v;
	return 0;
}

static int conf_source(const char *arg, struct conf *c, struct err *err)
{
	static const char *const modes[] = { [SOURCE_MODE_KEEP] = "keep",
					     [SOURCE_MODE_REQUIRE] = "require",
					     [SOURCE_MODE_OFF] = "off" };

	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		if (strcmp(arg, modes[i]) == 0) {
			c->source.mode = (enum source_mode)i;
			return 0;
		}
	}
	return err_set(err, EINVAL, "option '--source': '%s' is not keep, require or off", arg);
}

static int conf_engine(const char *arg, struct conf *c, struct err *err)
{
	if (strcmp(arg, "io_uring") == 0)
		c->engine = CONF_ENGINE_URING;
	else if (strcmp(arg, "epoll") == 0)
		c->engine = CONF_ENGINE_EPOLL;
	else
		return err_set(err, EINVAL, "option '--engine': '%s' is not io_uring or epoll",
			       arg);
	return 0;
}

static int conf_sandbox(const char *arg, struct conf *c, struct err *err)
{
	c->sandbox = strcmp(arg, "strict") == 0;
	if (c->sandbox || strcmp(arg, "off") == 0)
		return 0;
	return err_set(err, EINVAL, "option '--sandbox': '%s' is not strict or off", arg);
}

/* ONE[,TWO]: TWO is ONE where it is left out. */
static int conf_udp_timeout(const char *arg, struct conf *c, struct err *err)
{
	const char *comma = strchr(arg, ',');
	char first[16];
	int ret;

	snprintf(first, sizeof(first), "%.*s", comma ? (int)(comma - arg) : 15, arg);
	ret = conf_number("--udp-timeout", first, 1, 1000000, &c->udp_timeout, err);
	if (ret == 0)
		ret = conf_number("--udp-timeout", comma ? comma + 1 : first, 1, 1000000,
				  &c->udp_lasting_timeout, err);
	return ret;
}

/* A descriptor that we were given; not of those that we use ourselves. */
static int conf_fd(const char *option, const char *arg, int *ret, struct err *err)
{
	unsigned fd = 0;
	int code = conf_number(option, arg, 3, INT_MAX, &fd, err);

	if (code == 0 && fcntl((int)fd, F_GETFD) < 0)
		return err_set(err, EBADF, "option '%s': descriptor %u is not open", option, fd);
	if (code == 0)
		*ret = (int)fd;
	return code;
}

static int conf_listen_fd(const char *arg, struct conf *c, struct err *err)
{
	const char *target = strchr(arg, '=');

	if (!target || target == arg || !target[1])
		return err_set(err, EINVAL, "option '--listen-fd': '%s' is not NAME=TARGET", arg);
	if (c->names.n == PASSED_NAMES)
		return err_set(err, EINVAL, "option '--listen-fd' is given more than %u times",
			       PASSED_NAMES);
	c->names.v[c->names.n++] = arg;
	return 0;
}

static int conf_log_size(const char *arg, struct conf *c, struct err *err)
{
	unsigned v = 0;
	int ret = conf_number("--log-size", arg, CONF_LOG_SIZE_MIN, UINT32_MAX, &v, err);

	c->log_size = v;
	return ret;
}

/* One option but -t; @opt is what getopt_long(3) gave. */
static int conf_option(int opt, struct conf *c, struct err *err)
{
	switch (opt) {
	case 'f':
		c->foreground = true;
		return 0;
	case 'q':
		c->quiet = true;
		return 0;
	case 'd':
		c->debug = true;
		return 0;
	case 'c':
		c->control = optarg;
		return 0;
	case 'P':
		c->pid_file = optarg;
		return 0;
	case 'l':
		c->log_file = optarg;
		return 0;
	case CONF_NETNS:
		c->netns = optarg;
		return 0;
	case CONF_FREEBIND:
		c->freebind = true;
		return 0;
	case CONF_HOST_LO:
		c->source.loopback_to_loopback = true;
		return 0;
	case CONF_LOG_SIZE:
		return conf_log_size(optarg, c, err);
	case CONF_SOURCE:
		return conf_source(optarg, c, err);
	case CONF_ENGINE:
		return conf_engine(optarg, c, err);
	case CONF_SANDBOX:
		return conf_sandbox(optarg, c, err);
	case CONF_THREADS:
		return conf_number("--threads", optarg, 1, 64, &c->threads, err);
	case CONF_MAX_FLOWS:
		return conf_number("--max-flows", optarg, 1, 1u << 20, &c->max_flows, err);
	case CONF_CONNECT_TIMEOUT:
		return conf_number("--connect-timeout", optarg, 1, 3600, &c->connect_timeout, err);
	case CONF_UDP_TIMEOUT:
		return conf_udp_timeout(optarg, c, err);
	case CONF_READY_FD:
		return conf_fd("--ready-fd", optarg, &c->ready_fd, err);
	case CONF_EXIT_FD:
		return conf_fd("--exit-fd", optarg, &c->exit_fd, err);
	case CONF_LISTEN_FD:
		return conf_listen_fd(optarg, c, err);
	default:
		return conf_number("--half-closed-timeout", optarg, 1, 1000000,
				   &c->half_closed_timeout, err);
	}
}

static int conf_bad_option(int opt, char **argv, struct err *err)
{
	/* For a letter getopt(3) may not have moved on yet; for a long option it has. */
	const char *arg = option_taken(argv);
	bool letter = optopt > 0 && optopt < CONF_NETNS && strncmp(arg, "--", 2) != 0;

	if (opt == ':' && letter)
		return err_set(err, EINVAL, "option requires an argument -- '%c'", optopt);
	if (opt == ':')
		return err_set(err, EINVAL, "option '%s' requires an argument", arg);
	/* optopt: 0 for an unknown long option, its value for "--x=y" that takes none. */
	if (optopt > 0 && strncmp(arg, "--", 2) == 0 && strchr(arg, '='))
		return err_set(err, EINVAL, "option '%s' doesn't allow an argument", arg);
	if (optopt > 0)
		return err_set(err, EINVAL, "unrecognized option '-%c'", optopt);
	return err_set(err, EINVAL, "unrecognized option '%s'", arg);
}

static void conf_port_env(struct conf *c)
{
	struct portspec_env *ret = &c->port_env;

	unsigned first, last;
	char buf[64];

	*ret = (struct portspec_env){
		.ephemeral_first = 32768, .ephemeral_last = 60999, .v4 = c->v4, .v6 = c->v6
	};
	if (read_file("/proc/sys/net/ipv4/ip_local_port_range", buf, sizeof(buf)) > 0 &&
	    sscanf(buf, "%u %u", &first, &last) == 2 && first <= last && last <= 65535) {
		ret->ephemeral_first = (uint16_t)first;
		ret->ephemeral_last = (uint16_t)last;
	}
	c->unprivileged_ports = 1024;
	if (read_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", buf, sizeof(buf)) > 0)
		c->unprivileged_ports = (unsigned)strtoul(buf, NULL, 10);
}

/* Port specifications depend on -4 and -6, wherever those stand: a pass of their own. */
static int conf_ports(int argc, char **argv, struct conf *c, struct err *err)
{
	int opt, ret = 0;

	conf_port_env(c);
	optind = 0;
	while (ret == 0 && (opt = getopt_long(argc, argv, conf_short, conf_options, NULL)) != -1)
		if (opt == 't' || opt == 'u')
			ret = portspec_parse(opt == 't' ? PROTO_TCP : PROTO_UDP, optarg,
					     &c->port_env, &c->rules, err);
	return ret;
}

/* What is left after the options: a process id, or a command. */
static int conf_operands(char **rest, bool after_dashes, struct conf *c, struct err *err)
{
	uint32_t pid;

	if (!*rest) {
		if (!c->netns)
			return err_set(
				err, EINVAL,
				"no namespace: give --netns PID, PATH or NAME, or a COMMAND to "
				"run (see fwd --help)");
	} else if (c->netns) {
		return err_set(err, EINVAL, "'%s': --netns and %s exclude each other", *rest,
			       parse_u32(*rest, UINT32_MAX, &pid) ? "a PID" : "a COMMAND");
	} else if (!after_dashes && !rest[1] && parse_u32(*rest, UINT32_MAX, &pid)) {
		c->netns = *rest;
	} else {
		c->command = rest;
	}
	return 0;
}

static int conf_check(const struct conf *c, bool any_ports, struct err *err)
{
	if (!c->v4 && !c->v6)
		return err_set(err, EINVAL, "options '-4' and '-6' exclude each other");
	if (c->quiet && c->debug)
		return err_set(err, EINVAL, "options '-q' and '-d' exclude each other");
	if (!any_ports && !c->command && !c->control && c->n_passed == 0)
		return err_set(err, EINVAL,
			       "nothing to forward: give -t, for example -t 8080:80 or -t auto");
	return 0;
}

struct conf conf_defaults(void)
{
	return (struct conf){ .v4 = true,
			      .v6 = true,
			      .sandbox = !CONFINE_SANITIZER,
			      .ready_fd = -1,
			      .exit_fd = -1,
			      .prefer = addr_any4,
			      .log_size = 1024 * 1024,
			      .connect_timeout = 10,
			      .half_closed_timeout = 300,
			      .udp_timeout = 30,
			      .udp_lasting_timeout = 120 };
}

int conf_parse(int argc, char **argv, struct conf *ret, struct err *err)
{
	struct conf c = conf_defaults();
	const char *last = NULL; /* argument of an option: no "--" that ends them */
	bool any_ports = false;
	int opt, code = 0;

	opterr = 0;
	optind = 0;
	while (code == 0 && (opt = getopt_long(argc, argv, conf_short, conf_options, NULL)) != -1) {
		if (opt == 'h' || opt == CONF_VERSION) {
			fputs(opt == 'h' ? conf_usage : "fwd " FWD_VERSION "\n", stdout);
			return CONF_DONE;
		}
		last = optarg;
		if (opt == '?' || opt == ':')
			code = conf_bad_option(opt, argv, err);
		else if (opt == '4')
			c.v6 = false;
		else if (opt == '6')
			c.v4 = false;
		else if (opt == 't' || opt == 'u')
			any_ports = true;
		else
			code = conf_option(opt, &c, err);
	}
	if (code == 0)
		code = conf_operands(argv + optind,
				     argv[optind - 1] != last && !strcmp(argv[optind - 1], "--"),
				     &c, err);
	if (code == 0) {
		code = passed_count(err);
		c.n_passed = code;
	}
	if (code >= 0)
		code = conf_check(&c, any_ports, err);
	if (code == 0)
		code = conf_ports(argc, argv, &c, err);
	if (code == 0)
		code = passed_rules(&c.names, c.n_passed, &c.rules, err);
	if (code < 0) {
		conf_free(&c);
		return code;
	}
	*ret = c;
	return CONF_RUN;
}

void conf_free(struct conf *c)
{
	rules_free(&c->rules);
}
