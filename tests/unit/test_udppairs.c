/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs of addresses: each is had once, also by many threads. */
#include "fwd/udppairs.h"

#include <criterion/criterion.h>
#include <pthread.h>

#include "util.h"

#define PAIRS 64u

static struct udppairs pairs;

static void up(void)
{
	cr_assert_eq(udppairs_init(&pairs, PAIRS), 0);
}

static void down(void)
{
	udppairs_fini(&pairs);
}

#define PAIRS_TEST(name) Test(udppairs, name, .init = up, .fini = down, .timeout = 30)

static struct addr addr(uint8_t last, uint16_t port)
{
	struct addr a = addr_from_bytes((uint8_t[]){ 198, 18, 0, last }, 4);

	a.port = port;
	return a;
}

static bool take(uint8_t source, uint16_t port, uint8_t target)
{
	struct addr s = addr(source, port), t = addr(target, 80);

	return udppairs_take(&pairs, &s, &t);
}

static void give(uint8_t source, uint16_t port, uint8_t target)
{
	struct addr s = addr(source, port), t = addr(target, 80);

	udppairs_give(&pairs, &s, &t);
}

/* A pair that is taken is refused until it has been given back. */
PAIRS_TEST(pair_is_had_once)
{
	cr_expect(take(1, 4000, 9));
	cr_expect_not(take(1, 4000, 9));
	give(1, 4000, 9);
	cr_expect(take(1, 4000, 9));
	give(1, 4000, 9);
}

/* What differs in one part is another pair: address, port, target, scope. */
PAIRS_TEST(pairs_differ_in_any_part)
{
	struct addr here = addr_from_bytes((uint8_t[16]){ 0xfe, 0x80, [15] = 1 }, 16);
	struct addr there = here, target = addr_loopback6;

	cr_expect(take(1, 4000, 9));
	cr_expect(take(2, 4000, 9));
	cr_expect(take(1, 4001, 9));
	cr_expect(take(1, 4000, 8));
	here.scope = 2;
	there.scope = 3;
	cr_expect(udppairs_take(&pairs, &here, &target));
	cr_expect(udppairs_take(&pairs, &there, &target));
	cr_expect_not(udppairs_take(&pairs, &here, &target));
}

/* There is room for as many as were asked for; one that is given back makes room. */
PAIRS_TEST(full_table_refuses)
{
	for (uint16_t i = 0; i < PAIRS; i++)
		cr_assert(take(1, i, 9), "number %u", i);
	cr_expect_not(take(1, PAIRS, 9));
	give(1, 7, 9);
	cr_expect(take(1, PAIRS, 9));
	cr_expect_not(take(1, 7, 9));
	for (uint16_t i = 0; i <= PAIRS; i++)
		if (i != 7)
			give(1, i, 9);
	for (uint16_t i = 0; i < PAIRS; i++)
		cr_expect(take(2, i, 9), "number %u of the next", i);
}

/* Any order of giving back leaves the others where they are. */
PAIRS_TEST(giving_back_spares_the_others)
{
	for (uint16_t i = 0; i < PAIRS; i++)
		cr_assert(take(1, i, 9));
	for (uint16_t i = 0; i < PAIRS; i += 2)
		give(1, i, 9);
	for (uint16_t i = 0; i < PAIRS; i++)
		cr_expect_eq(take(1, i, 9), i % 2 == 0, "port %u", i);
}

#define THREADS 4
#define ROUNDS	20000

static _Atomic int owners[8]; /* of the ports that all threads want */
static _Atomic unsigned twice;

static void *want(void *arg)
{
	unsigned n = *(unsigned *)arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint16_t port = (uint16_t)((i * 5 + n) % ARRAY_SIZE(owners));

		if (!take(1, port, 9))
			continue;
		if (owners[port]++ != 0)
			twice++;
		owners[port]--;
		give(1, port, 9);
	}
	return NULL;
}

/* Threads that want the same pairs never have one at the same time. */
PAIRS_TEST(threads_exclude_each_other)
{
	pthread_t thread[THREADS];
	unsigned number[THREADS];

	for (unsigned i = 0; i < THREADS; i++) {
		number[i] = i;
		cr_assert(!pthread_create(&thread[i], NULL, want, &number[i]));
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	cr_expect_eq(twice, 0);
	for (uint16_t i = 0; i < ARRAY_SIZE(owners); i++)
		cr_expect(take(1, i, 9), "port %u was not given back", i);
}
