/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ports.c - the host ports that are open
 *
 * A port has one socket for each worker, so that the kernel spreads its
 * connections (SO_REUSEPORT); but where there are many ports, one socket each,
 * and it is the ports that are spread. A socket that a service manager has passed is
 * one, too; whoever has it deals its connections out to all workers.
 *
 * Which ports the container listens on is asked of sock_diag(7) twice a second:
 * the kernel sends only the listeners, some hundred bytes each, where
 * /proc/net/tcp would have every connection formatted as text; there is no
 * event to wait for. A listener counts if a connection to our target would
 * reach it, so one on the container's loopback is not published by `auto`.
 */
#include "fwd/ports.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "fwd/listen.h"
#include "fwd/log.h"
#include "nl/diag.h"
#include "util.h"

#define PORTS_SHARED_MAX 64u /* with more ports than that, one socket each */
#define PORTS_WORKERS	 64u

static bool ports_rule_is_fixed(const struct rule *r)
{
	return !r->automatic;
}

bool ports_any_automatic(const struct conf *conf)
{
	for (unsigned i = 0; i < conf->rules.n; i++)
		if (conf->rules.v[i].automatic)
			return true;
	return false;
}

static unsigned ports_per_port(const struct ports *p)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->conf->rules.n; i++) {
		const struct rule *r = &p->conf->rules.v[i];

		n += r->automatic || r->passed ? 0 : 1u + r->last - r->first;
	}
	return n > PORTS_SHARED_MAX ? 1 : p->n_workers;
}

static struct ports_socket *ports_add(struct ports *p, int fd, uint32_t rule, uint16_t port)
{
	if (p->n == p->max) {
		unsigned max = p->max ? p->max * 2 : 64;
		struct ports_socket *v = realloc(p->v, max * sizeof(*v));

		if (!v)
			return NULL;
		p->v = v;
		p->max = max;
	}
	p->v[p->n] = (struct ports_socket){ .fd = fd, .rule = rule, .port = port, .wanted = true };
	return &p->v[p->n++];
}

/* @nth of the sockets of its port; where that has one only, the ports are spread. */
static void ports_give(const struct ports *p, struct ports_socket *s, unsigned nth, bool only)
{
	s->worker = (uint8_t)((only ? s->port : nth) % p->n_workers);
	worker_listen(p->workers[s->worker], s->fd, s->rule, s->port, nth == 0);
}

/* Open one port, and hand it over if there are workers already. */
static int ports_open_port(struct ports *p, uint32_t rule, uint16_t port, unsigned per_port,
			   struct err *err)
{
	int fd[PORTS_WORKERS];
	int ret = listen_open(p->conf, &p->conf->rules.v[rule], port, per_port, fd, err);

	for (unsigned i = 0; ret == 0 && i < per_port; i++) {
		struct ports_socket *s = ports_add(p, fd[i], rule, port);

		if (!s) {
			while (i < per_port)
				close(fd[i++]);
			return err_sys(err, ENOMEM, "port %u", port);
		}
		if (p->workers)
			ports_give(p, s, i, per_port == 1);
	}
	return ret;
}

/* A socket that is open already, and that we are not alone to have. */
static int ports_adopt(struct ports *p, uint32_t rule, struct err *err)
{
	const struct rule *r = &p->conf->rules.v[rule];

	if (!ports_add(p, r->passed, rule, r->first))
		return err_sys(err, ENOMEM, "port %u", r->first);
	listen_adopt(r->passed, r->proto);
	return 0;
}

static int ports_open_rule(struct ports *p, uint32_t rule, unsigned per_port, struct err *err)
{
	const struct rule *r = &p->conf->rules.v[rule];
	char text[RULE_STRLEN];
	unsigned opened = 0;
	int ret = 0;

	if (r->passed)
		return ports_adopt(p, rule, err);
	for (unsigned port = r->first; port <= r->last; port++) {
		ret = ports_open_port(p, rule, (uint16_t)port, per_port, err);
		opened += ret == 0;
		if (ret < 0 && !r->weak)
			return ret;
		if (ret < 0)
			log_debug("left out: %s", err->text);
	}
	if (opened == 0)
		return err_prefix(err, ret, "%s: not one port could be opened; the last",
				  rule_str(r, text));
	return 0;
}

int ports_open(struct ports *p, const struct conf *conf, unsigned n_workers, struct err *err)
{
	unsigned per_port;
	int ret = 0;

	fwd_assert(n_workers <= PORTS_WORKERS);
	*p = (struct ports){ .conf = conf, .n_workers = n_workers };
	per_port = ports_per_port(p);
	for (uint32_t i = 0; ret == 0 && i < conf->rules.n; i++)
		if (ports_rule_is_fixed(&conf->rules.v[i]))
			ret = ports_open_rule(p, i, per_port, err);
	if (ret < 0)
		ports_close(p);
	return ret;
}

void ports_hand_over(struct ports *p, struct worker *const *workers)
{
	bool single = ports_per_port(p) == 1;
	unsigned nth = 0;

	p->workers = workers;
	for (unsigned i = 0; i < p->n; i++) {
		bool again = i > 0 && p->v[i].port == p->v[i - 1].port &&
			     p->v[i].rule == p->v[i - 1].rule;

		nth = again ? nth + 1 : 0;
		ports_give(p, &p->v[i], nth, single || p->conf->rules.v[p->v[i].rule].passed);
	}
}

/*
 * A TCP port is free when this returns, and the worker notices; a UDP socket has
 * nothing to shut down, so its worker is told. So it is of a socket that was passed: shut
 * down, it would be dead for the service manager, too.
 */
static void ports_shut(const struct ports *p, struct ports_socket *s)
{
	if (s->fd < 0)
		return;
	if (!p->workers)
		close(s->fd);
	else if (p->conf->rules.v[s->rule].proto == PROTO_TCP && !p->conf->rules.v[s->rule].passed)
		shutdown(s->fd, SHUT_RDWR);
	else
		worker_unlisten(p->workers[s->worker], s->rule, s->port);
	s->fd = -1;
}

void ports_close(struct ports *p)
{
	for (unsigned i = 0; i < p->n; i++)
		ports_shut(p, &p->v[i]);
	free(p->v);
	p->v = NULL;
	p->n = p->max = 0;
}

unsigned ports_count(const struct ports *p)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->n; i++)
		n += p->v[i].fd >= 0 && (i == 0 || p->v[i].port != p->v[i - 1].port ||
					 p->v[i].rule != p->v[i - 1].rule);
	return n;
}

/* ---------------------------------------------------------------- automatic rules */

struct ports_update {
	struct ports *p;
	enum proto proto;
	const struct source_targets *targets;
};

/* Whether a connection to a target of @r would reach a listener on @bound. */
static bool ports_reaches(const struct ports_update *u, const struct rule *r,
			  const struct addr *bound)
{
	if (addr_is_any(bound))
		return true;
	if (r->has_target)
		return addr_same_ip(bound, &r->target);
	if (u->p->conf->source.loopback_to_loopback && addr_is_loopback(bound))
		return true;
	for (unsigned f = 0; f < ADDR_FAMILIES; f++)
		if (u->targets->have[f] && addr_same_ip(bound, &u->targets->addr[f]))
			return true;
	return false;
}

/* The container listens on @port, so host port @host_port of @rule should be open. */
static void ports_want(struct ports *p, uint32_t rule, uint16_t host_port)
{
	struct err err;
	bool known = false;

	for (unsigned i = 0; i < p->n; i++) {
		if (p->v[i].rule != rule || p->v[i].port != host_port)
			continue;
		p->v[i].wanted = true;
		known = true;
	}
	if (known)
		return;
	if (ports_open_port(p, rule, host_port, p->n < PORTS_SHARED_MAX ? p->n_workers : 1, &err) <
	    0) {
		log_warn("%s", err.text);
		ports_add(p, -1, rule, host_port); /* say so once */
	} else {
		log_info("%s port %u open: the container listens",
			 proto_str(p->conf->rules.v[rule].proto), host_port);
	}
}

static void ports_on_listener(const struct nl_listener *l, void *data)
{
	struct ports_update *u = data;
	struct addr bound = addr_from_bytes(l->ip.bytes, l->ip.family == AF_INET ? 4 : 16);

	for (uint32_t i = 0; i < u->p->conf->rules.n; i++) {
		const struct rule *r = &u->p->conf->rules.v[i];
		unsigned last = r->to_first + (unsigned)(r->last - r->first);

		if (r->automatic && r->proto == u->proto && l->port >= r->to_first &&
		    l->port <= last && ports_reaches(u, r, &bound))
			ports_want(u->p, i, (uint16_t)(r->first + (l->port - r->to_first)));
	}
}

/* Close what nothing listens behind any more. */
static void ports_close_unwanted(struct ports *p)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < p->n; i++) {
		struct ports_socket *s = &p->v[i];

		if (s->wanted || !p->conf->rules.v[s->rule].automatic) {
			p->v[kept++] = *s;
			continue;
		}
		if (s->fd >= 0 &&
		    (i == 0 || p->v[i - 1].port != s->port || p->v[i - 1].rule != s->rule))
			log_info("%s port %u closed: the container does not listen any more",
				 proto_str(p->conf->rules.v[s->rule].proto), s->port);
		ports_shut(p, s);
	}
	p->n = kept;
}

int ports_update(struct ports *p, struct nl *diag, const struct source_targets *targets,
		 struct err *err)
{
	static const int protocols[] = { [PROTO_TCP] = IPPROTO_TCP, [PROTO_UDP] = IPPROTO_UDP };
	struct ports_update u = { .p = p, .targets = targets };
	int ret = 0;

	for (unsigned i = 0; i < p->n; i++)
		p->v[i].wanted = false;
	/* A dump that is repeated only asks for the same again. */
	for (unsigned i = 0; ret == 0 && i < ARRAY_SIZE(protocols); i++) {
		u.proto = (enum proto)i;
		ret = nl_diag_listeners(diag, protocols[i], ports_on_listener, NULL, &u, err);
	}
	if (ret == 0)
		ports_close_unwanted(p);
	return ret;
}
