/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The whole of a running forwarder, as the main thread sees it: ports on the
 * host, the agent in the namespace, workers between them, and what ends it.
 */

#include <stdbool.h>

#include "err.h"
#include "fwd/conf.h"
#include "fwd/control.h"
#include "fwd/ports.h"
#include "fwd/reload.h"
#include "fwd/ruleset.h"
#include "fwd/service.h"
#include "fwd/worker.h"
#include "ns/agent.h"
#include "ns/command.h"
#include "ns/confine.h"
#include "ns/find.h"
#include "ns/watch.h"

struct forwarder {
	const struct conf *conf;
	struct command command; /* pid 0: none */
	struct ns_target target;
	struct ns_watch watch;
	struct control control;
	struct ruleset rules;
	struct ports ports;
	struct agent agent;
	struct reload reload;
	struct nl diag; /* sock_diag in the namespace, for automatic ports */
	bool have_diag;
	struct rule_totals gone; /* counters of rules that are deleted and over */
	struct confine confine;
	struct worker_shared shared;
	struct worker **workers; /* owned */
	unsigned n_workers;	 /* that run */
	unsigned n_threads;	 /* that are wanted */
	int signals;		 /* signalfd; owned */
	struct service service;	 /* what the service manager is told */
};

/*
 * Bind all ports, enter the namespace, confine the process as far as @conf says, start
 * the workers. Once it is confined, nobody opens a file any more: what the caller wants to
 * remove at the end is in @pid_dir (a directory's descriptor, or -1). 0, or -errno with
 * @err: then nothing is left behind. The caller has one thread.
 */
int forwarder_start(struct forwarder *f, const struct conf *conf, int pid_dir, struct err *err);

/*
 * Work until a signal, or the end of the namespace, of the command, or of what
 * @exit_fd of the configuration leads to. The exit status for the process.
 * @notify's reader hears of it meanwhile.
 */
int forwarder_run(struct forwarder *f, const struct notify *notify);

/* The counters of all workers, @f->n_workers; room for WORKER_MAX. */
void forwarder_stats(const struct forwarder *f, struct stats **ret);

/* Open and close ports of automatic rules. */
void forwarder_update_ports(struct forwarder *f);

/* The ports from which applications answer to the UDP rule in @s. */
struct attach_ports forwarder_udp_ports(const struct ruleset_slot *s);

/* Say that there can be no automatic rule: -EOPNOTSUPP with @err. */
int forwarder_no_diag(struct err *err);

/* Stop listening, reset what is open, undo what was done in the namespace. */
void forwarder_stop(struct forwarder *f);
