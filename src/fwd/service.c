/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service.c - keepalive and status for the service manager
 *
 * WATCHDOG=1 says more than that the main thread is alive: it is sent only if every worker
 * has answered since the last time. At half of the time that the manager allows, the
 * workers' answers are looked at, and they are asked again; one that is late has until
 * the manager loses its patience, because from then on its answer is looked for at short
 * intervals. Asking is a message like any other, so a worker that answers takes messages
 * and turns its loop.
 */
#include "fwd/service.h"

#include <inttypes.h>

#include "util.h"

#define SERVICE_STATUS_NS (10 * 1000000000ull)
#define SERVICE_LATE	  8u /* looks, in the time between two pings */

static void service_ask(struct service *s)
{
	s->asked++;
	for (unsigned i = 0; i < s->shared->n_workers; i++)
		worker_ask(s->shared->workers[i], s->asked);
}

static bool service_all_answered(const struct service *s)
{
	for (unsigned i = 0; i < s->shared->n_workers; i++)
		if (worker_answered(s->shared->workers[i]) != s->asked)
			return false;
	return true;
}

void service_start(struct service *s, const struct notify *notify,
		   const struct worker_shared *shared, uint64_t grace_ns)
{
	uint64_t now = now_ns();

	*s = (struct service){ .notify = notify,
			       .shared = shared,
			       .ping_at = UINT64_MAX,
			       .status_at = UINT64_MAX,
			       .said_ports = UINT32_MAX };
	if (notify->fd < 0)
		return;
	s->status_at = now + grace_ns;
	if (notify->watchdog_ns > 0) {
		s->ping_at = now + notify->watchdog_ns / 2;
		service_ask(s);
	}
}

int service_interval(const struct service *s)
{
	uint64_t first = s->ping_at < s->status_at ? s->ping_at : s->status_at, now = now_ns();

	if (first == UINT64_MAX)
		return -1;
	return first <= now ? 0 : (int)((first - now) / 1000000 + 1);
}

static void service_ping(struct service *s, uint64_t now)
{
	uint64_t half = s->notify->watchdog_ns / 2;

	if (!service_all_answered(s)) {
		s->ping_at = now + half / SERVICE_LATE;
		return;
	}
	notify_send(s->notify, "WATCHDOG=1");
	service_ask(s);
	s->ping_at = now + half;
}

static uint64_t service_flows_ever(const struct service *s)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < s->shared->n_workers; i++)
		for (uint32_t r = 0; r < s->shared->rules->used; r++)
			sum += stats_get(&worker_stats(s->shared->workers[i])->rule[r].flows);
	return sum;
}

static void service_status(struct service *s, unsigned n_ports, uint64_t now)
{
	uint32_t flows = s->shared->n_flows;
	uint64_t ever = service_flows_ever(s);

	s->status_at = now + SERVICE_STATUS_NS;
	if (n_ports == s->said_ports && flows == s->said_flows && ever == s->said_ever)
		return;
	notify_send(s->notify,
		    "STATUS=%u ports open; %" PRIu32 " flows, %" PRIu64 " since the start", n_ports,
		    flows, ever);
	s->said_ports = n_ports;
	s->said_flows = flows;
	s->said_ever = ever;
}

void service_tick(struct service *s, unsigned n_ports)
{
	uint64_t now = now_ns();

	if (now >= s->ping_at)
		service_ping(s, now);
	if (now >= s->status_at)
		service_status(s, n_ports, now);
}
