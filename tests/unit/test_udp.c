/* SPDX-License-Identifier: Apache-2.0 */
/* UDP sessions: what leaves together, who may stay, and how they end. */
#include "udp_rig.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <unistd.h>

#include "util.h"

#define PORT 1000 /* of a client that need not exist: nothing is sent to it */

static void up(void)
{
	urig_up(64);
}

static void up_small(void)
{
	urig_up(4);
}

static void up_32(void)
{
	urig_up(32);
}

#define UDP_TEST(name)	     Test(udp, name, .init = up, .fini = urig_down, .timeout = 10)
#define UDP_TEST_OF_32(name) Test(udp, name, .init = up_32, .fini = urig_down, .timeout = 10)
#define UDP_TEST_SMALL(name) Test(udp, name, .init = up_small, .fini = urig_down, .timeout = 10)

static void from_client(uint16_t port, size_t len)
{
	urig_from_client(port, len, 0, 1);
}

/* ---------------------------------------------------------------- runs */

/* Datagrams of one size that follow each other leave in one send, at the end of the batch. */
UDP_TEST(equal_sizes_leave_together)
{
	for (int i = 0; i < 5; i++)
		from_client(PORT, 100);
	urig_expect_silence(urig.app);
	udp_end(&urig.u);
	urig_expect_read(urig.app, 500, 100);
	urig_expect_silence(urig.app);
}

/* One that is shorter may be the last of a run, and ends it. */
UDP_TEST(shorter_one_is_the_last_of_its_run)
{
	static const size_t sizes[] = { 100, 100, 50, 100, 50, 50 };

	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
		from_client(PORT, sizes[i]);
	udp_end(&urig.u);
	urig_expect_read(urig.app, 250, 100);
	urig_expect_read(urig.app, 150, 100);
	urig_expect_read(urig.app, 50, 0);
	urig_expect_silence(urig.app);
}

/* One that is longer begins a run. */
UDP_TEST(longer_one_begins_a_run)
{
	from_client(PORT, 100);
	from_client(PORT, 101);
	from_client(PORT, 101);
	udp_end(&urig.u);
	urig_expect_read(urig.app, 100, 0);
	urig_expect_read(urig.app, 202, 101);
	urig_expect_silence(urig.app);
}

/* An empty datagram is one, and leaves alone. */
UDP_TEST(empty_one_leaves_alone)
{
	static const size_t sizes[] = { 100, 0, 100, 100, 0, 0 };

	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
		from_client(PORT, sizes[i]);
	udp_end(&urig.u);
	urig_expect_read(urig.app, 100, 0);
	urig_expect_read(urig.app, 0, 0);
	urig_expect_read(urig.app, 200, 100);
	urig_expect_read(urig.app, 0, 0);
	urig_expect_read(urig.app, 0, 0);
	urig_expect_silence(urig.app);
}

/* A run has 64 segments at most: older kernels take no more. */
UDP_TEST(run_has_64_segments_at_most)
{
	for (int i = 0; i < 70; i++)
		from_client(PORT, 10);
	udp_end(&urig.u);
	urig_expect_read(urig.app, 640, 10);
	urig_expect_read(urig.app, 60, 10);
	urig_expect_silence(urig.app);
}

/* It has 65000 bytes at most. */
UDP_TEST(run_has_65000_bytes_at_most)
{
	for (int i = 0; i < 50; i++)
		from_client(PORT, 1400);
	udp_end(&urig.u);
	urig_expect_read(urig.app, 46 * 1400, 1400);
	urig_expect_read(urig.app, 4 * 1400, 1400);
	urig_expect_silence(urig.app);
}

/* The largest datagram passes, and nothing joins it. */
UDP_TEST(largest_one_leaves_alone)
{
	from_client(PORT, 65507);
	from_client(PORT, 65507);
	from_client(PORT, 1);
	udp_end(&urig.u);
	urig_expect_read(urig.app, 65507, 0);
	urig_expect_read(urig.app, 65507, 0);
	urig_expect_read(urig.app, 1, 0);
	urig_expect_silence(urig.app);
}

/* What the kernel has put together stays together, and joins what has its size. */
UDP_TEST(runs_of_the_kernel_join)
{
	urig_from_client(PORT, 3000, 1000, 1);
	urig_from_client(PORT, 2000, 1000, 1);
	from_client(PORT, 1000);
	from_client(PORT, 10);
	udp_end(&urig.u);
	urig_expect_read(urig.app, 6010, 1000);
	urig_expect_silence(urig.app);
}

/* After one whose last segment is shorter nothing joins. */
UDP_TEST(run_of_the_kernel_with_a_short_end_is_the_last)
{
	urig_from_client(PORT, 2500, 1000, 1);
	from_client(PORT, 500);
	urig_from_client(PORT, 2000, 500, 1);
	udp_end(&urig.u);
	urig_expect_read(urig.app, 2500, 1000);
	urig_expect_read(urig.app, 2500, 500);
	urig_expect_silence(urig.app);
}

/* One of more segments than a run may have is sent as it came. */
UDP_TEST(long_run_of_the_kernel_is_sent_as_it_came)
{
	urig_from_client(PORT, 600, 10, 1);
	urig_from_client(PORT, 100, 10, 1);
	urig_from_client(PORT, 640, 10, 1);
	udp_end(&urig.u);
	urig_expect_read(urig.app, 600, 10);
	urig_expect_read(urig.app, 100, 10);
	urig_expect_read(urig.app, 640, 10);
	urig_expect_silence(urig.app);
}

/* Datagrams of different sessions never leave together, nor out of order. */
UDP_TEST(sessions_do_not_mix)
{
	from_client(PORT, 100);
	from_client(PORT + 1, 100);
	from_client(PORT + 1, 100);
	from_client(PORT, 100);
	udp_end(&urig.u);
	urig_expect_read(urig.app, 100, 0);
	urig_expect_read(urig.app, 200, 100);
	urig_expect_read(urig.app, 100, 0);
	urig_expect_silence(urig.app);
}

/* Nor do the two directions of one session. */
UDP_TEST(directions_do_not_mix)
{
	uint16_t port;
	int client = urig_client(&port);

	from_client(port, 100);
	urig_from_app(urig_slot(port), 100, 0, 2);
	urig_from_app(urig_slot(port), 100, 0, 2);
	from_client(port, 100);
	udp_end(&urig.u);
	urig_expect_read(urig.app, 100, 0);
	urig_expect_read(urig.app, 100, 0);
	urig_expect_read(client, 200, 100);
	urig_expect_silence(urig.app);
	urig_expect_silence(client);
	close(client);
}

/* ---------------------------------------------------------------- kinds */

/* An answer makes a session answered, and what the client sends after that, lasting. */
UDP_TEST(session_is_worth_more_with_each_turn)
{
	from_client(PORT, 1);
	from_client(PORT, 1);
	cr_expect_eq(urig_session(PORT)->kind, UDP_ONE_WAY);
	urig_from_app(urig_slot(PORT), 1, 0, 1);
	urig_from_app(urig_slot(PORT), 1, 0, 1);
	cr_expect_eq(urig_session(PORT)->kind, UDP_ANSWERED);
	from_client(PORT, 1);
	cr_expect_eq(urig_session(PORT)->kind, UDP_LASTING);
	urig_from_app(urig_slot(PORT), 1, 0, 1);
	cr_expect_eq(urig_session(PORT)->kind, UDP_LASTING);
}

static void make(uint16_t port, enum udp_kind kind)
{
	from_client(port, 1);
	if (kind >= UDP_ANSWERED)
		urig_from_app(urig_slot(port), 1, 0, 1);
	if (kind == UDP_LASTING)
		from_client(port, 1);
	cr_assert_eq(urig_session(port)->kind, kind);
}

/* When the table is full the oldest one-way session goes, then the oldest that was answered. */
UDP_TEST_SMALL(least_worth_is_evicted_first)
{
	make(1, UDP_LASTING);
	make(2, UDP_ANSWERED);
	make(3, UDP_ONE_WAY);
	make(4, UDP_ONE_WAY);
	make(5, UDP_LASTING); /* for 3 */
	urig_settle();
	cr_expect_null(urig_session(3));
	make(6, UDP_LASTING); /* for 4 */
	urig_settle();
	cr_expect_null(urig_session(4));
	make(7, UDP_ONE_WAY); /* for 2 */
	urig_settle();
	cr_expect_null(urig_session(2));
	make(8, UDP_ONE_WAY); /* for 7 */
	urig_settle();
	cr_expect_null(urig_session(7));
	cr_expect(urig_session(1) && urig_session(5) && urig_session(6) && urig_session(8));
	cr_expect_eq(urig_error(STATS_UDP_EVICTED), 4);
	cr_expect_eq(urig.n_flows, 4);
}

/* Few that were not answered are spared, as long as there are others: their answers may be on the
 * way. */
UDP_TEST_OF_32(few_that_wait_for_an_answer_are_spared)
{
	make(1, UDP_ONE_WAY);
	for (uint16_t port = 2; port <= 32; port++)
		make(port, UDP_ANSWERED);
	make(33, UDP_ONE_WAY); /* for 2 */
	urig_settle();
	cr_expect_null(urig_session(2));
	make(34, UDP_ONE_WAY); /* for 3: before it there were two of 32 */
	urig_settle();
	cr_expect_null(urig_session(3));
	make(35, UDP_ONE_WAY); /* for 1: there are three, which may be a flood */
	urig_settle();
	cr_expect_null(urig_session(1));
	cr_expect(urig_session(4) && urig_session(33) && urig_session(34));
	cr_expect_eq(urig_error(STATS_UDP_EVICTED), 3);
}

/* Lasting sessions are not evicted: who comes next is refused, and counted. */
UDP_TEST_SMALL(lasting_ones_stay)
{
	for (uint16_t port = 1; port <= 4; port++)
		make(port, UDP_LASTING);
	for (int i = 0; i < 3; i++) {
		from_client(9, 1);
		urig_settle();
	}
	cr_expect_null(urig_session(9));
	cr_expect_eq(urig_error(STATS_FULL), 3);
	cr_expect_eq(urig_error(STATS_UDP_EVICTED), 0);
	cr_expect_eq(urig.n_flows, 4);
	for (uint16_t port = 1; port <= 4; port++)
		cr_expect_not_null(urig_session(port));
}

/* A flood within one batch, before anything has ended, ends no session that was answered. */
UDP_TEST_SMALL(flood_in_one_batch_spares_who_was_answered)
{
	make(1, UDP_LASTING);
	make(2, UDP_ANSWERED);
	make(3, UDP_ANSWERED);
	for (uint16_t port = 100; port < 200; port++)
		from_client(port, 1);
	udp_end(&urig.u);
	urig_settle();
	cr_expect(urig_session(1) && urig_session(2) && urig_session(3));
	cr_expect_leq(urig.n_flows, 4);
}

/* ---------------------------------------------------------------- ends */

/* Idle sessions end when their kind's time is over, and not before. */
UDP_TEST(idle_session_ends_in_time)
{
	uint64_t second = 1000000000ull, start;

	cr_expect_eq(udp_deadline(&urig.u), UINT64_MAX);
	make(1, UDP_ONE_WAY);
	make(2, UDP_ANSWERED);
	make(3, UDP_LASTING);
	start = urig_session(1)->last;
	udp_end(&urig.u);
	cr_expect_eq(udp_deadline(&urig.u), start + 30 * second);
	udp_tick(&urig.u, start + 30 * second - 1);
	cr_expect(urig_session(1) && urig_session(2) && urig_session(3));
	udp_tick(&urig.u, start + 31 * second);
	cr_expect(!urig_session(1) && !urig_session(2) && urig_session(3));
	urig_settle();
	cr_expect_eq(urig.n_flows, 1);
	cr_expect_geq(udp_deadline(&urig.u), start + 120 * second);
	udp_tick(&urig.u, start + 121 * second);
	cr_expect_null(urig_session(3));
	urig_settle();
	cr_expect(udp_is_empty(&urig.u));
	cr_expect_eq(udp_deadline(&urig.u), UINT64_MAX);
}

/* A slot is free only when what was in flight has completed; a late datagram is dropped. */
UDP_TEST(closing_session_waits_for_its_receive)
{
	uint32_t slot;

	make(1, UDP_ONE_WAY);
	udp_end(&urig.u);
	slot = urig_slot(1);
	udp_close_all(&urig.u);
	cr_expect(urig.op[slot].canceled);
	cr_expect_not(udp_is_empty(&urig.u));
	urig_from_app(slot, 10, 0, 1);
	from_client(1, 1); /* a new session, in another slot */
	cr_expect_neq(urig_slot(1), slot);
	urig_settle();
	cr_expect_eq(urig.u.v[slot].state, UDP_FREE);
	cr_expect_eq(urig.n_flows, 1);
}

/* A port unreachable ends the session, and is counted; the next datagram opens another. */
UDP_TEST(refused_session_is_opened_again)
{
	uint16_t generation;

	make(1, UDP_ANSWERED);
	udp_end(&urig.u);
	generation = urig_session(1)->generation;
	urig_complete(urig_slot(1), ECONNREFUSED);
	cr_expect_null(urig_session(1));
	cr_expect(udp_is_empty(&urig.u));
	cr_expect_eq(urig_error(STATS_REFUSED), 1);
	from_client(1, 1);
	udp_end(&urig.u);
	cr_expect_neq(urig_session(1)->generation, generation);
	cr_expect_eq(stats_get(&urig.stats.rule[0].flows), 2);
	cr_expect_eq(stats_get(&urig.stats.rule[0].now), 1);
}

/* A session that ends with datagrams gathered sends them first. */
UDP_TEST(gathered_datagrams_leave_before_the_end)
{
	from_client(1, 100);
	from_client(1, 100);
	udp_close_listener(&urig.u, urig.listener.index);
	urig_expect_read(urig.app, 200, 100);
	urig_settle();
	cr_expect(udp_is_empty(&urig.u));
}

/* A route that nobody is there to delete: that is not waited for. */
static void give_route(struct udp_session *s)
{
	static struct udproute route;
	static uint32_t bucket;
	struct udproutes *r = &urig.u.routes;

	route = (struct udproute){ .client = addr_loopback4,
				   .source = addr_loopback4,
				   .table = 4000002,
				   .users = 1,
				   .chain = UDPROUTE_NONE };
	bucket = 0;
	*r = (struct udproutes){ .errands = -1, .v = &route, .hash = &bucket, .max = 1, .used = 1 };
	r->free = UDPROUTE_NONE;
	s->route = 0;
}

/* When the container is reached elsewhere its clients' routes go at once: none is used again. */
UDP_TEST(retarget_gives_routes_back_before_the_sessions_have_ended)
{
	static const uint32_t ifindex[ADDR_FAMILIES] = { 7, 7 };

	make(1, UDP_ANSWERED);
	udp_end(&urig.u);
	give_route(urig_session(1));
	udp_retarget(&urig.u, ifindex);
	cr_expect_not(udp_is_empty(&urig.u));
	cr_expect_eq(urig.u.routes.v[0].users, 0);
	urig_settle();
	cr_expect(udp_is_empty(&urig.u));
	urig.u.routes = (struct udproutes){ 0 };
}

/* Room can be made by ending the session that is worth least, unless all are lasting ones. */
UDP_TEST(room_is_made_by_what_is_worth_least)
{
	make(1, UDP_LASTING);
	make(2, UDP_ONE_WAY);
	udp_end(&urig.u);
	cr_expect(udp_make_room(&urig.u));
	cr_expect(urig_session(1) && !urig_session(2));
	cr_expect_eq(urig.n_flows, 1);
	cr_expect_not(udp_make_room(&urig.u));
	cr_expect_not_null(urig_session(1));
}

/* Bytes and datagrams are counted by direction, segments one by one. */
UDP_TEST(datagrams_are_counted)
{
	uint16_t port;
	int client = urig_client(&port);

	urig_from_client(port, 2500, 1000, 1);
	from_client(port, 7);
	urig_from_app(urig_slot(port), 30, 10, 1);
	udp_end(&urig.u);
	cr_expect_eq(stats_get(&urig.stats.rule[0].datagrams[SIDE_CLIENT]), 4);
	cr_expect_eq(stats_get(&urig.stats.rule[0].bytes[SIDE_CLIENT]), 2507);
	cr_expect_eq(stats_get(&urig.stats.rule[0].datagrams[SIDE_CONTAINER]), 3);
	cr_expect_eq(stats_get(&urig.stats.rule[0].bytes[SIDE_CONTAINER]), 30);
	urig_expect_read(client, 30, 10);
	close(client);
}
