/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forwarder.c - start, supervise, stop
 *
 * Start in this order: the namespace is found (or made), the ports are bound,
 * the agent enters, the process gives up what it needs no more, the workers run, all
 * of them give up the system calls that only a start needs, the ports are given to
 * the workers. Whatever fails, what was done before is undone in reverse.
 *
 * When it ends, listening stops first, at once: whoever restarts the container
 * binds the same ports again within milliseconds.
 */
#include "fwd/forwarder.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

#include "fwd/log.h"
#include "fwd/serve.h"
#include "util.h"

#define FORWARDER_THREADS    4u	    /* at most, unless asked for more */
#define FORWARDER_FLOWS	     65536u /* at most, unless asked for more */
#define FORWARDER_FDS	     512u   /* for all but flows and ports */
#define FORWARDER_AUTO_MS    500
#define FORWARDER_RULES	     1024u /* that may be added at run time */
#define FORWARDER_ROOM	     4096u /* descriptors for their ports, where the limit is high */
#define FORWARDER_FD_DEFAULT 1024u
#define FORWARDER_GRACE_NS   1000000000ull /* for the parent to say who goes on */

/* ---------------------------------------------------------------- limits */

static unsigned forwarder_processors(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

static unsigned forwarder_threads(const struct conf *conf)
{
	unsigned n = forwarder_processors();

	if (conf->threads > 0)
		return conf->threads;
	return n < FORWARDER_THREADS ? n : FORWARDER_THREADS;
}

/* Raise the limit of descriptors to the hard one; the limit. */
static unsigned forwarder_raise_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) != 0)
		return FORWARDER_FD_DEFAULT;
	r.rlim_cur = r.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &r) != 0)
		return FORWARDER_FD_DEFAULT;
	return r.rlim_cur > 1u << 22 ? 1u << 22 : (unsigned)r.rlim_cur;
}

/*
 * Make the table of descriptors as large as it will get. Once there are threads,
 * each time it grows waits for an RCU grace period (expand_fdtable() in fs/file.c),
 * tens of milliseconds in the middle of the traffic.
 */
static void forwarder_grow_fd_table(unsigned n)
{
	int top = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, (int)n - 1);

	if (top >= 0)
		close(top);
}

static void forwarder_size(struct forwarder *f)
{
	unsigned limit = forwarder_raise_limit();
	unsigned room = f->conf->control ? limit / 8 : 0;
	unsigned other = FORWARDER_FDS + f->ports.n + f->n_threads * (SOCKPOOL_MAX * 2 + 64);
	unsigned flows;

	room = room < FORWARDER_ROOM ? room : FORWARDER_ROOM;
	other += room;
	flows = limit > other + 2 ? (limit - other) / 2 : 1;

	if (f->conf->max_flows > 0) {
		if (f->conf->max_flows > flows)
			log_warn(
				"--max-flows %u needs %u descriptors, the limit is %u (ulimit -Hn)",
				f->conf->max_flows, other + 2 * f->conf->max_flows, limit);
		flows = f->conf->max_flows;
	} else if (flows > FORWARDER_FLOWS) {
		flows = FORWARDER_FLOWS;
	}
	f->shared.max_flows = flows;
	f->shared.max_fds = limit;
	/* What flows do not need may also be ports. */
	if (limit > other + 2 * flows)
		room += limit - other - 2 * flows;
	if (f->conf->control)
		f->ports.max_sockets = f->ports.n + room;
	/* Flows that splice borrow a pipe for each direction: room for those, too. */
	other += 2 * flows + 4096;
	forwarder_grow_fd_table(other < limit ? other : limit);
}

/* ---------------------------------------------------------------- start */

static int forwarder_signals(struct forwarder *f, struct err *err)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	f->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return f->signals < 0 ? err_sys(err, errno, "signalfd") : 0;
}

static int forwarder_engine(struct forwarder *f, struct err *err)
{
	const char *lacks = NULL;
	struct err why;
	int ret = 0;

	f->shared.engine = &loop_epoll_ops;
	if (f->conf->engine == CONF_ENGINE_EPOLL)
		return 0;
	ret = loop_uring_probe(&lacks, &why);
	if (ret < 0 && f->conf->engine == CONF_ENGINE_URING)
		return err_set(err, -ret, "--engine=io_uring: %s", why.text);
	if (ret < 0) {
		log_info("engine epoll, because io_uring cannot be used: %s", why.text);
		return 0;
	}
	if (lacks)
		log_info("this kernel's io_uring lacks %s: done in other ways", lacks);
	f->shared.engine = &loop_uring_ops;
	return 0;
}

static int forwarder_find(struct forwarder *f, struct err *err)
{
	char pid[16];
	int ret;

	if (!f->conf->command)
		return ns_open(f->conf->netns, &f->target, err);
	ret = command_prepare(&f->command, f->conf->command, err);
	if (ret < 0)
		return ret;
	snprintf(pid, sizeof(pid), "%d", (int)f->command.pid);
	return ns_open(pid, &f->target, err);
}

/* Take over what the agent says of the container. */
static void forwarder_learn(struct forwarder *f)
{
	const struct agent_state *s = &f->agent.state;

	f->shared.targets = (struct source_targets){
		.addr = { [ADDR_V4] = addr_from_bytes(&s->addr4, sizeof(s->addr4)),
			  [ADDR_V6] = addr_from_bytes(&s->addr6, sizeof(s->addr6)) },
		.have = { [ADDR_V4] = s->have[AGENT_V4], [ADDR_V6] = s->have[AGENT_V6] },
		.transparent = s->transparent,
	};
	f->shared.ifindex[ADDR_V4] = s->ifindex[AGENT_V4];
	f->shared.ifindex[ADDR_V6] = s->ifindex[AGENT_V6];
	f->shared.udp_table = s->udp_table;
}

struct attach_ports forwarder_udp_ports(const struct ruleset_slot *s)
{
	return (struct attach_ports){ .first = s->rule.to_first,
				      .last = rule_target_port(&s->rule, s->rule.last),
				      .table = s->udp_table };
}

int forwarder_no_diag(struct err *err)
{
	return err_set(err, EOPNOTSUPP,
		       "'auto' needs sock_diag(7) in the namespace, which is refused");
}

/* What the UDP rules need; @ret_ports is the caller's to free. 0 or -errno with @err. */
static int forwarder_udp(struct forwarder *f, struct attach_ports **ret_ports, unsigned *ret_n,
			 struct err *err)
{
	struct attach_ports *v = calloc(f->rules.used + 1, sizeof(*v));
	unsigned n = 0;

	if (!v)
		return err_sys(err, ENOMEM, "agent");
	for (uint32_t i = 0; i < f->rules.used; i++) {
		if (f->rules.v[i].rule.proto == PROTO_UDP)
			v[n++] = forwarder_udp_ports(&f->rules.v[i]);
	}
	f->shared.udp = n > 0 || f->conf->control;
	f->shared.warm[SOCKPOOL_UDP] = n > 0;
	f->shared.warm[SOCKPOOL_TCP] = n < f->rules.used;
	*ret_ports = v;
	*ret_n = n;
	return 0;
}

/* Prefer @addr of the container's addresses; 0.0.0.0: none. 0 or -errno with @err. */
static int forwarder_prefer(struct forwarder *f, const struct addr *addr, struct err *err)
{
	bool v4 = addr_family(addr) == ADDR_V4;
	struct nl_ip ip = { 0 };

	if (!addr_is_any(addr)) {
		ip.family = (uint8_t)addr_af(addr);
		memcpy(ip.bytes, v4 ? addr->ip + 12 : addr->ip, v4 ? 4 : 16);
	}
	return agent_prefer(&f->agent, &ip, err);
}

static void forwarder_say_target(const struct forwarder *f)
{
	const struct source_targets *t = &f->shared.targets;
	char v4[ADDR_STRLEN], v6[ADDR_STRLEN];

	log_info("container at %s%s%s", t->have[ADDR_V4] ? addr_ip_str(&t->addr[ADDR_V4], v4) : "",
		 t->have[ADDR_V4] && t->have[ADDR_V6] ? " and " : "",
		 t->have[ADDR_V6] ? addr_ip_str(&t->addr[ADDR_V6], v6) : "");
}

static int forwarder_enter(struct forwarder *f, struct err *err)
{
	struct attach_ports *udp = NULL;
	unsigned n_udp = 0;
	int ret;

	ret = forwarder_udp(f, &udp, &n_udp, err);
	if (ret < 0)
		return ret;
	ret = agent_start(&f->agent, &f->target, f->n_threads, f->shared.udp ? udp : NULL, n_udp,
			  f->conf->sandbox, err);
	free(udp);
	if (ret == 0 && !addr_is_any(&f->conf->prefer))
		ret = forwarder_prefer(f, &f->conf->prefer, err);
	if (ret < 0)
		return ret;
	forwarder_learn(f);
	if (!f->agent.state.transparent && f->conf->source.mode == SOURCE_MODE_REQUIRE)
		return err_set(err, EOPNOTSUPP,
			       "--source=require: foreign addresses cannot be used in the "
			       "namespace: %s",
			       f->agent.state.why);
	if (!f->agent.state.transparent && f->conf->source.mode == SOURCE_MODE_KEEP)
		log_warn("client addresses are lost: they cannot be used in the namespace: %s",
			 f->agent.state.why);
	forwarder_say_target(f);
	if (f->agent.diag >= 0)
		f->have_diag = nl_adopt(&f->diag, steal_fd(&f->agent.diag), err) == 0;
	if (!f->have_diag && ruleset_any_automatic(&f->rules))
		return forwarder_no_diag(err);
	return 0;
}

static int forwarder_workers(struct forwarder *f, struct err *err)
{
	int ret = 0;

	f->shared.conf = f->conf;
	f->shared.rules = &f->rules;
	f->workers = calloc(f->n_threads, sizeof(struct worker *));
	if (!f->workers)
		return err_sys(err, ENOMEM, "workers");
	if (f->shared.udp && udppairs_init(&f->shared.pairs, f->shared.max_flows + 1024) < 0)
		return err_sys(err, ENOMEM, "workers");
	while (ret == 0 && f->n_workers < f->n_threads) {
		ret = worker_start(&f->shared, f->n_workers, &f->agent, &f->workers[f->n_workers],
				   err);
		f->n_workers += ret == 0;
	}
	return ret;
}

void forwarder_update_ports(struct forwarder *f)
{
	struct err err;

	if (ports_update(&f->ports, &f->diag, &f->shared.targets, &err) < 0)
		log_debug("%s", err.text);
}

/* Fill the slots with the rules of the command line, and open their ports. */
static int forwarder_ports(struct forwarder *f, struct err *err)
{
	unsigned n = f->conf->rules.n;
	uint32_t *slots = calloc(n + 1, sizeof(*slots));
	int ret;

	ports_init(&f->ports, f->conf, &f->rules, f->n_threads);
	if (!slots || ruleset_init(&f->rules, n + (f->conf->control ? FORWARDER_RULES : 0)) < 0) {
		free(slots);
		return err_sys(err, ENOMEM, "rules");
	}
	for (unsigned i = 0; i < n; i++)
		slots[i] = ruleset_take(&f->rules, &f->conf->rules.v[i]);
	ret = ports_open(&f->ports, slots, n, err);
	free(slots);
	return ret;
}

static int forwarder_control(struct forwarder *f, struct err *err)
{
	if (!f->conf->control)
		return 0;
	f->shared.let_go = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (f->shared.let_go < 0)
		return err_sys(err, errno, "eventfd");
	return control_open(&f->control, f->conf->control, &f->conf->port_env, err);
}

/* Before there are threads; forwarder_seal() does the rest. */
static void forwarder_confine(struct forwarder *f, int pid_dir)
{
	f->confine = (struct confine){ .strict = f->conf->sandbox,
				       .low_ports = ruleset_any_automatic(&f->rules) ||
						    f->conf->control,
				       .remove_in = { pid_dir, f->control.dir, f->reload.dir } };
	confine_main(&f->confine);
}

/* When all threads are ready, and nothing foreign has come yet. Says what there is not. */
static void forwarder_seal(struct forwarder *f)
{
	const char *ours = f->confine.lacks, *agents = f->agent.state.lacks;

	confine_main_calls(&f->confine, f->agent.pid, f->command.pid);
	if (!f->confine.strict)
		log_info("not confined: %s",
			 CONFINE_SANITIZER ? "built with a sanitizer" : "--sandbox=off");
	else if (*ours)
		log_info("confinement lacks %s", ours);
	if (*agents && strcmp(ours, agents) != 0)
		log_info("in the namespace, confinement lacks %s", agents);
}

int forwarder_start(struct forwarder *f, const struct conf *conf, int pid_dir, struct err *err)
{
	int ret;

	*f = (struct forwarder){ .conf = conf,
				 .command = { .go = -1 },
				 .target = { .net_fd = -1, .user_fd = -1, .pid_fd = -1 },
				 .watch = { .inotify = -1, .dir = -1 },
				 .agent = { .control = -1, .diag = -1 },
				 .reload = { .dir = -1, .listen = -1, .conn = -1 },
				 .n_threads = forwarder_threads(conf),
				 .control = { .fd = -1, .dir = -1, .epoll = -1, .event = -1 },
				 .shared = { .let_go = -1 },
				 .signals = -1 };
	ret = forwarder_signals(f, err);
	if (ret == 0)
		ret = forwarder_engine(f, err);
	if (ret == 0)
		ret = forwarder_find(f, err);
	if (ret == 0)
		ret = ns_watch_start(&f->watch, &f->target, err);
	if (ret == 0)
		ret = forwarder_control(f, err);
	if (ret == 0)
		forwarder_raise_limit();
	if (ret == 0)
		ret = forwarder_ports(f, err);
	if (ret == 0)
		ret = forwarder_enter(f, err);
	if (ret == 0 && conf->reload_socket)
		ret = reload_open(&f->reload, conf->reload_socket, err);
	if (ret == 0) {
		forwarder_size(f);
		forwarder_confine(f, pid_dir);
		ret = forwarder_workers(f, err);
	}
	if (ret < 0) {
		forwarder_stop(f);
		return ret;
	}
	/* Only the agent enters: nothing of ours may keep the namespace alive. */
	close_fd(&f->target.net_fd);
	close_fd(&f->target.user_fd);
	f->shared.workers = f->workers;
	f->shared.n_workers = f->n_workers;
	forwarder_seal(f);
	ports_hand_over(&f->ports, f->workers);
	f->control.serve = serve_request;
	f->control.ctx = f;
	f->control.workers = f->workers;
	f->control.n_workers = f->n_workers;
	if (ruleset_any_automatic(&f->rules))
		forwarder_update_ports(f);
	return 0;
}

/* ---------------------------------------------------------------- run */

enum verdict { GO_ON = -1 }; /* else an exit status */

void forwarder_stats(const struct forwarder *f, struct stats **ret)
{
	for (unsigned i = 0; i < f->n_workers; i++)
		ret[i] = worker_stats(f->workers[i]);
}

static int forwarder_log_stats(const struct forwarder *f)
{
	struct stats *stats[WORKER_MAX];

	forwarder_stats(f, stats);
	stats_log(&f->rules, stats, f->n_workers);
	return GO_ON;
}

/* A signal that ends us ends the command, whose status is then ours. */
static int forwarder_on_end_signal(struct forwarder *f, int sig, bool from_terminal)
{
	if (f->command.pid <= 0) {
		log_info("%s: ending", strsignal(sig));
		return 0;
	}
	/* From the terminal the command has it already. */
	if (!from_terminal)
		kill(f->command.pid, sig);
	return GO_ON;
}

static int forwarder_on_signal(struct forwarder *f)
{
	struct signalfd_siginfo s;

	if (read(f->signals, &s, sizeof(s)) != sizeof(s))
		return GO_ON;
	switch (s.ssi_signo) {
	case SIGUSR1:
		return forwarder_log_stats(f);
	case SIGCHLD:
		return command_reap(&f->command);
	default:
		return forwarder_on_end_signal(f, (int)s.ssi_signo, s.ssi_code == SI_KERNEL);
	}
}

/* If the container is reached elsewhere now, new flows go there. */
static void forwarder_retarget(struct forwarder *f)
{
	struct source_targets old = f->shared.targets;
	bool same = true;

	f->agent.news = false;
	for (unsigned i = 0; i < ADDR_FAMILIES; i++)
		same &= f->shared.ifindex[i] == f->agent.state.ifindex[i];
	forwarder_learn(f);
	for (unsigned i = 0; i < ADDR_FAMILIES; i++)
		same &= old.have[i] == f->shared.targets.have[i] &&
			addr_equal(&old.addr[i], &f->shared.targets.addr[i]);
	if (same)
		return;
	forwarder_say_target(f);
	for (unsigned i = 0; i < f->n_workers; i++)
		worker_retarget(f->workers[i], &f->shared.targets, f->shared.ifindex);
}

static int forwarder_on_reload(struct forwarder *f)
{
	struct addr addr;
	struct err err;

	if (!reload_read(&f->reload, &addr))
		return GO_ON;
	if (forwarder_prefer(f, &addr, &err) < 0) {
		log_err("%s", err.text);
		return 1;
	}
	forwarder_retarget(f);
	reload_done(&f->reload);
	return GO_ON;
}

static int forwarder_on_agent(struct forwarder *f)
{
	int ret = agent_read(&f->agent);

	if (ret == -EPIPE) {
		log_err("the process in the namespace has ended");
		return 1;
	}
	return GO_ON;
}

/* Whoever holds the other end of our pipe has let go. */
static int forwarder_on_exit_fd(struct forwarder *f)
{
	char ignored[64];
	ssize_t n = read(f->conf->exit_fd, ignored, sizeof(ignored));

	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return GO_ON;
	ports_close(&f->ports);
	log_info("end of file on --exit-fd: ending");
	return 0;
}

static int forwarder_interval(const struct forwarder *f)
{
	int ms[] = { f->command.pid > 0 ? -1 : ns_watch_interval(&f->watch),
		     ruleset_any_automatic(&f->rules) ? FORWARDER_AUTO_MS : -1,
		     service_interval(&f->service), control_interval(&f->control) };
	int first = -1;

	for (unsigned i = 0; i < ARRAY_SIZE(ms); i++)
		if (ms[i] >= 0 && (first < 0 || ms[i] < first))
			first = ms[i];
	return first;
}

int forwarder_run(struct forwarder *f, const struct notify *notify)
{
	enum { P_SIGNALS, P_AGENT, P_WATCH, P_EXIT, P_RELOAD, P_CONTROL, P_NUM };
	struct pollfd p[P_NUM] = {
		[P_SIGNALS] = { .fd = f->signals, .events = POLLIN },
		[P_AGENT] = { .fd = f->agent.control, .events = POLLIN },
		[P_WATCH] = { .fd = f->command.pid > 0 ? -1 : ns_watch_fd(&f->watch),
			      .events = POLLIN },
		[P_EXIT] = { .fd = f->conf->exit_fd, .events = POLLIN },
		[P_RELOAD] = { .events = POLLIN },
		[P_CONTROL] = { .fd = control_fd(&f->control), .events = POLLIN },
	};
	int status = GO_ON;

	service_start(&f->service, notify, &f->shared,
		      f->conf->foreground || f->conf->command ? 0 : FORWARDER_GRACE_NS);
	command_go(&f->command);
	while (status == GO_ON) {
		if (ruleset_any_automatic(&f->rules))
			forwarder_update_ports(f);
		p[P_RELOAD].fd = reload_fd(&f->reload);
		service_tick(&f->service, ports_count(&f->ports));
		if (poll(p, P_NUM, forwarder_interval(f)) < 0 && errno != EINTR) {
			log_err("poll: %s", strerror(errno));
			return 1;
		}
		if (f->command.pid <= 0 && ns_watch_ended(&f->watch)) {
			ports_close(&f->ports);
			log_info("the namespace has ended");
			return 0;
		}
		if (p[P_EXIT].revents)
			status = forwarder_on_exit_fd(f);
		if (status == GO_ON && p[P_SIGNALS].revents)
			status = forwarder_on_signal(f);
		if (status == GO_ON && p[P_AGENT].revents)
			status = forwarder_on_agent(f);
		if (status == GO_ON && p[P_RELOAD].revents)
			status = forwarder_on_reload(f);
		if (status == GO_ON && f->conf->control)
			control_run(&f->control);
		if (f->agent.news)
			forwarder_retarget(f);
	}
	return status;
}

/* ---------------------------------------------------------------- stop */

void forwarder_stop(struct forwarder *f)
{
	ports_close(&f->ports);
	reload_close(&f->reload);
	control_unlink(&f->control);
	for (unsigned i = 0; i < f->n_workers; i++)
		worker_stop(f->workers[i]);
	for (unsigned i = 0; i < f->n_workers; i++)
		worker_join(f->workers[i]);
	for (unsigned i = 0; i < f->n_workers; i++)
		worker_free(f->workers[i]);
	f->n_workers = 0;
	free(f->workers);
	control_close(&f->control);
	close_fd(&f->shared.let_go);
	ruleset_fini(&f->rules);
	udppairs_fini(&f->shared.pairs);
	if (f->have_diag)
		nl_close(&f->diag);
	agent_stop(&f->agent);
	command_drop(&f->command);
	ns_watch_stop(&f->watch);
	ns_close(&f->target);
	close_fd(&f->signals);
}
