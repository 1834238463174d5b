/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_bufs.c - receive buffers: as many as were asked for, warm ones first, and
 * memory that goes back to the kernel
 */

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "fwd/bufs.h"
#include "util.h"

/* WARM: so many free ones keep their memory, as in bufs.c. */
enum { TIMEOUT = 10, FEW = 128, WARM = 256, MANY = 512 };

static struct bufs bufs;

static void set_up_n(uint32_t max)
{
	struct err err;

	cr_assert_eq(bufs_init(&bufs, max, BUF_SIZE, &err), 0, "%s", err.text);
}

static void tear_down(void)
{
	bufs_fini(&bufs);
}

TestSuite(bufs, .fini = tear_down);

static buf_id take(void)
{
	buf_id id = bufs_get(&bufs);

	cr_assert_neq(id, BUF_NONE);
	return id;
}

static void fill(buf_id id)
{
	memset(bufs_data(&bufs, id), (int)(id % 255) + 1, BUF_SIZE);
}

/* @byte in the first, a middle and the last place. */
static bool holds(buf_id id, uint8_t byte)
{
	const uint8_t *data = bufs_data(&bufs, id);

	return data[0] == byte && data[BUF_SIZE / 2] == byte && data[BUF_SIZE - 1] == byte;
}

static bool is_as_filled(buf_id id)
{
	return holds(id, (uint8_t)(id % 255 + 1));
}

/* Every buffer is there, can be written to its end, and is nobody else's. */
Test(bufs, are_all_usable_and_distinct, .timeout = TIMEOUT)
{
	buf_id id[FEW];

	set_up_n(FEW);
	for (unsigned i = 0; i < FEW; i++) {
		id[i] = take();
		cr_assert_lt(id[i], FEW);
		fill(id[i]);
	}
	for (unsigned i = 0; i < FEW; i++)
		cr_assert(is_as_filled(id[i]));
}

/* When all are taken there is none, until one is put back. */
Test(bufs, are_none_when_all_are_taken, .timeout = TIMEOUT)
{
	buf_id last = BUF_NONE;

	set_up_n(FEW);
	for (unsigned i = 0; i < FEW; i++)
		last = take();
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(bufs_get(&bufs), BUF_NONE);
		bufs_put(&bufs, last);
		cr_assert_eq(bufs_get(&bufs), last);
	}
}

/* There are as many as were asked for, or a few more. */
Test(bufs, are_at_least_as_many_as_asked_for, .timeout = TIMEOUT)
{
	for (uint32_t max = 1; max <= FEW; max++) {
		uint32_t n = 0;

		set_up_n(max);
		while (bufs_get(&bufs) != BUF_NONE)
			n++;
		cr_assert(n >= max && n < max + FEW);
		bufs_fini(&bufs);
	}
}

/* The one put back last is taken first: its memory is in the cache. */
Test(bufs, are_reused_last_in_first_out, .timeout = TIMEOUT)
{
	buf_id a, b;

	set_up_n(FEW);
	a = take();
	b = take();
	bufs_put(&bufs, a);
	bufs_put(&bufs, b);
	cr_assert_eq(take(), b);
	cr_assert_eq(take(), a);
}

/* For as many flows as there may be, reserving costs address space and nothing else. */
Test(bufs, cost_nothing_before_they_are_used, .timeout = TIMEOUT)
{
	set_up_n(4 * 65536 + 256);
	cr_assert_eq(bufs.n_ready, 0);
	fill(take());
	cr_assert_leq(bufs.n_ready, FEW);
}

/* Take @n, fill them, and put them back. */
static void burst(buf_id id[], unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		id[i] = take();
		fill(id[i]);
	}
	for (unsigned i = 0; i < n; i++)
		bufs_put(&bufs, id[i]);
}

static unsigned n_filled(const buf_id id[], unsigned n)
{
	unsigned ret = 0;

	for (unsigned i = 0; i < n; i++)
		ret += is_as_filled(id[i]);
	return ret;
}

/* Memory that was not needed since the last trim goes back; the warm ones keep theirs. */
Test(bufs, give_back_what_a_burst_left_behind, .timeout = TIMEOUT)
{
	buf_id id[MANY];

	set_up_n(MANY);
	burst(id, MANY);
	bufs_trim(&bufs);
	cr_assert_eq(n_filled(id, MANY), MANY, "all were in use since the last trim");
	bufs_trim(&bufs);
	cr_assert_eq(n_filled(id, MANY), WARM);
	for (unsigned i = 0; i < MANY; i++)
		cr_assert(is_as_filled(id[i]) || holds(id[i], 0));
}

/* What is in use keeps its bytes, however often is trimmed. */
Test(bufs, keep_what_is_in_use, .timeout = TIMEOUT)
{
	buf_id id[MANY], held;

	set_up_n(MANY);
	held = take();
	fill(held);
	burst(id, MANY - 1);
	for (int i = 0; i < 5; i++)
		bufs_trim(&bufs);
	cr_assert(is_as_filled(held));
}

/* One that was in use since the last trim, if only for a moment, is not trimmed. */
Test(bufs, keep_what_was_in_use_lately, .timeout = TIMEOUT)
{
	buf_id id[MANY];

	set_up_n(MANY);
	burst(id, MANY);
	bufs_trim(&bufs);
	burst(id, MANY);
	bufs_trim(&bufs);
	cr_assert_eq(n_filled(id, MANY), MANY);
}

/* Trimmed ones can be used as before. */
Test(bufs, are_usable_after_a_trim, .timeout = TIMEOUT)
{
	buf_id id[MANY];

	set_up_n(MANY);
	for (int round = 0; round < 3; round++) {
		burst(id, MANY);
		cr_assert_eq(n_filled(id, MANY), MANY);
		bufs_trim(&bufs);
		bufs_trim(&bufs);
	}
}

/* A kernel that has no more memory is no reason to fail: there is none, for now. */
Test(bufs, are_none_when_memory_is_short, .timeout = TIMEOUT)
{
	struct rlimit was, none = { 4096, 0 };
	buf_id id;

	set_up_n(FEW);
	cr_assert_eq(getrlimit(RLIMIT_DATA, &was), 0);
	none.rlim_max = was.rlim_max;
	cr_assert_eq(setrlimit(RLIMIT_DATA, &none), 0);
	id = bufs_get(&bufs);
	setrlimit(RLIMIT_DATA, &was);
	cr_assert_eq(id, BUF_NONE);
	fill(take());
}

/* Thousands of takes and puts in any order: each buffer has one holder. */
Test(bufs, have_one_holder_each, .timeout = TIMEOUT)
{
	bool held[FEW] = { false };
	buf_id id[FEW];
	uint32_t seed = 1;
	unsigned n = 0;

	set_up_n(FEW);
	for (int i = 0; i < 100000; i++) {
		seed = seed * 1664525u + 1013904223u;
		if (n < FEW && (n == 0 || seed >> 31)) {
			id[n] = take();
			cr_assert_not(held[id[n]]);
			held[id[n++]] = true;
		} else {
			unsigned k = (seed >> 8) % n;

			bufs_put(&bufs, id[k]);
			held[id[k]] = false;
			id[k] = id[--n];
		}
		if (i % 1000 == 0)
			bufs_trim(&bufs);
	}
}

/* Freeing twice, or what was never set up, does nothing. */
Test(bufs, can_be_freed_twice, .timeout = TIMEOUT)
{
	bufs_fini(&bufs);
	set_up_n(FEW);
	bufs_fini(&bufs);
	bufs_fini(&bufs);
}

/* More than the address space holds is an error that says so. */
Test(bufs, say_when_there_is_no_room_for_them, .timeout = TIMEOUT)
{
	struct rlimit limit = { 64 << 20, RLIM_INFINITY };
	struct rlimit was;
	struct err err = { "" };
	int ret;

	cr_assert_eq(getrlimit(RLIMIT_AS, &was), 0);
	limit.rlim_max = was.rlim_max;
	cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
	ret = bufs_init(&bufs, 1u << 16, BUF_SIZE, &err);
	setrlimit(RLIMIT_AS, &was);
	cr_assert_lt(ret, 0);
	cr_assert_str_eq(err.text, "reserve 2048 MiB for buffers: Cannot allocate memory");
}

/* Putting back a buffer that was never taken is a bug. */
Test(bufs, abort_on_an_unknown_buffer, .signal = SIGABRT, .timeout = TIMEOUT)
{
	set_up_n(FEW);
	take();
	bufs_put(&bufs, FEW - 1);
}

/* So is putting back more than were taken. */
Test(bufs, abort_on_too_many, .signal = SIGABRT, .timeout = TIMEOUT)
{
	buf_id id;

	set_up_n(FEW);
	id = take();
	bufs_put(&bufs, id);
	bufs_put(&bufs, id);
}
