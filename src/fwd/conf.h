/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The command line, parsed into what the rest of the program only reads. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "fwd/passed.h"
#include "fwd/portspec.h"
#include "fwd/rule.h"
#include "fwd/source.h"

enum conf_engine { CONF_ENGINE_AUTO, CONF_ENGINE_URING, CONF_ENGINE_EPOLL };

struct conf {
	const char *netns;	   /* PID, path or name; NULL with @command */
	char *const *command;	   /* to run in new namespaces, NULL-terminated; or NULL */
	struct rules rules;	   /* owned */
	struct passed_names names; /* of passed sockets, and where they lead */
	int n_passed;		   /* sockets of a service manager, from PASSED_FIRST on */
	bool v4, v6;		   /* families to listen on */
	bool foreground;
	int ready_fd; /* "1" is written to it when ready; -1: none */
	int exit_fd;  /* its EOF ends us; -1: none */
	bool detach;  /* with @foreground: log to syslog, let go of 0, 1 and 2 when ready */
	bool quiet, debug;
	bool freebind;		   /* listen on addresses that the host does not have (yet) */
	const char *control;	   /* path of the control socket, or NULL */
	const char *pid_file;	   /* or NULL */
	const char *log_file;	   /* or NULL */
	size_t log_size;	   /* bytes */
	const char *reload_socket; /* path, see reload.h; or NULL */
	struct addr prefer; /* of the container's addresses; 0.0.0.0: the first of each family */
	struct source_policy source;
	enum conf_engine engine;
	bool sandbox;		      /* --sandbox=strict */
	unsigned threads;	      /* workers; 0: one per processor, at most 4 */
	unsigned max_flows;	      /* 0: as many as descriptors allow, at most 65536 */
	unsigned connect_timeout;     /* seconds */
	unsigned half_closed_timeout; /* seconds */
	unsigned udp_timeout;	      /* seconds, of sessions that are one-way or answered once */
	unsigned udp_lasting_timeout; /* seconds, of others */
	struct portspec_env port_env; /* to parse more port specifications */
	unsigned unprivileged_ports;  /* the first that needs no privileges, for error texts */
};

enum conf_result { CONF_RUN, CONF_DONE };

/*
 * Parse @argv, which must outlive @ret. CONF_RUN; CONF_DONE when --help or
 * --version has been printed and there is nothing more to do; or -EINVAL with
 * @err. Only reads the environment: net.ipv4.ip_local_port_range, for "all",
 * net.ipv4.ip_unprivileged_port_start, which descriptors are open, and what sockets
 * were passed (passed.h).
 */
int conf_parse(int argc, char **argv, struct conf *ret, struct err *err);

/* What an empty command line means. */
struct conf conf_defaults(void);

void conf_free(struct conf *c);
