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
#define PORTS_WORKERS	 WORKER_MAX

static const struct rule *ports_rule(const struct ports *p, uint32_t slot)
{
	return &p->rules->v[slot].rule;
}

/* Whether @i is the first socket of its port. */
static bool ports_begins(const struct ports *p, unsigned i)
{
	return i == 0 || p->v[i].port != p->v[i - 1].port || p->v[i].rule != p->v[i - 1].rule;
}

/* Sockets for each port, with all fixed rules that there are. */
static unsigned ports_per_port(const struct ports *p)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < p->rules->used; i++) {
		const struct rule *r = ports_rule(p, i);

		if (p->rules->v[i].state == RULESET_ACTIVE && !r->automatic && !r->passed)
			n += 1u + r->last - r->first;
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
	if (fd >= 0)
		p->v[p->n].dual_stack = listen_bound(fd, &p->v[p->n].bound);
	return &p->v[p->n++];
}

/* Open one port, for ports_hand_over(). */
static int ports_open_port(struct ports *p, uint32_t rule, uint16_t port, unsigned per_port,
			   struct err *err)
{
	int fd[PORTS_WORKERS];
	int ret;

	if (p->max_sockets > 0 && p->n + per_port > p->max_sockets)
		return err_set(err, EMFILE,
			       "%s port %u: too many open files: raise the limit (ulimit -Hn) or "
			       "publish fewer ports",
			       proto_str(ports_rule(p, rule)->proto), port);
	ret = listen_open(p->conf, ports_rule(p, rule), port, per_port, fd, err);
	for (unsigned i = 0; ret == 0 && i < per_port; i++) {
		if (ports_add(p, fd[i], rule, port))
			continue;
		while (i < per_port)
			close(fd[i++]);
		return err_sys(err, ENOMEM, "port %u", port);
	}
	return ret;
}

/* A socket that is open already, and that we are not alone to have. */
static int ports_adopt(struct ports *p, uint32_t rule, struct err *err)
{
	const struct rule *r = ports_rule(p, rule);

	if (!ports_add(p, r->passed, rule, r->first))
		return err_sys(err, ENOMEM, "port %u", r->first);
	listen_adopt(r->passed, r->proto);
	return 0;
}

static int ports_open_rule(struct ports *p, uint32_t rule, unsigned per_port, struct err *err)
{
	const struct rule *r = ports_rule(p, rule);
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

void ports_init(struct ports *p, const struct conf *conf, const struct ruleset *rules,
		unsigned n_workers)
{
	fwd_assert(n_workers <= PORTS_WORKERS);
	*p = (struct ports){ .conf = conf, .rules = rules, .n_workers = n_workers };
}

int ports_open(struct ports *p, const uint32_t *slots, unsigned n_slots, struct err *err)
{
	unsigned per_port = ports_per_port(p);
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < n_slots; i++)
		if (!ports_rule(p, slots[i])->automatic)
			ret = ports_open_rule(p, slots[i], per_port, err);
	if (ret < 0)
		ports_abandon(p);
	return ret;
}

void ports_abandon(struct ports *p)
{
	/* What is new is at the end. */
	for (; p->n > 0 && !p->v[p->n - 1].given; p->n--)
		close_fd(&p->v[p->n - 1].fd);
}

void ports_hand_over(struct ports *p, struct worker *const *workers)
{
	unsigned nth = 0;

	p->workers = workers;
	for (unsigned i = 0; i < p->n; i++) {
		struct ports_socket *s = &p->v[i];
		bool only = ports_begins(p, i) && (i + 1 == p->n || ports_begins(p, i + 1));

		nth = ports_begins(p, i) ? 0 : nth + 1;
		if (s->given)
			continue;
		/* Where a port has one socket only, it is the ports that are spread. */
		s->worker = (uint8_t)((only ? s->port : nth) % p->n_workers);
		s->given = true;
		if (s->fd >= 0)
			worker_listen(workers[s->worker], s->fd, s->rule, s->port, nth == 0);
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
	if (!s->given)
		close(s->fd);
	else if (ports_rule(p, s->rule)->proto == PROTO_TCP && !ports_rule(p, s->rule)->passed)
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

void ports_delete(struct ports *p, uint32_t slot, bool drop)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < p->n; i++) {
		const struct ports_socket *s = &p->v[i];

		if (s->rule != slot)
			p->v[kept++] = *s;
		else if (s->fd >= 0 && ports_rule(p, slot)->proto == PROTO_TCP)
			shutdown(s->fd, SHUT_RDWR);
	}
	p->n = kept;
	for (unsigned i = 0; i < p->n_workers; i++)
		worker_delete(p->workers[i], slot, drop);
}

unsigned ports_count(const struct ports *p)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->n; i++)
		n += p->v[i].fd >= 0 && ports_begins(p, i);
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
			 proto_str(ports_rule(p, rule)->proto), host_port);
	}
}

static void ports_on_listener(const struct nl_listener *l, void *data)
{
	struct ports_update *u = data;
	struct addr bound = addr_from_bytes(l->ip.bytes, l->ip.family == AF_INET ? 4 : 16);

	for (uint32_t i = 0; i < u->p->rules->used; i++) {
		const struct rule *r = ports_rule(u->p, i);
		unsigned last = r->to_first + (unsigned)(r->last - r->first);

		if (u->p->rules->v[i].state == RULESET_ACTIVE && r->automatic &&
		    r->proto == u->proto && l->port >= r->to_first && l->port <= last &&
		    ports_reaches(u, r, &bound))
			ports_want(u->p, i, (uint16_t)(r->first + (l->port - r->to_first)));
	}
}

/* Close what nothing listens behind any more. */
static void ports_close_unwanted(struct ports *p)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < p->n; i++) {
		struct ports_socket *s = &p->v[i];

		if (s->wanted || !ports_rule(p, s->rule)->automatic) {
			p->v[kept++] = *s;
			continue;
		}
		if (s->fd >= 0 && ports_begins(p, i))
			log_info("%s port %u closed: the container does not listen any more",
				 proto_str(ports_rule(p, s->rule)->proto), s->port);
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
	ports_hand_over(p, p->workers);
	return ret;
}
