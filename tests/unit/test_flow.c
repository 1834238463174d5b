/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_flow.c - the table of flows: slots, generations, states and lists
 */

#include <criterion/criterion.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fwd/flow.h"
#include "util.h"

enum { TIMEOUT = 10, MAX = 8, FD = 1000 };

static struct flows table;

static void set_up(void)
{
	struct err err;

	cr_assert_eq(flows_init(&table, MAX, &err), 0, "%s", err.text);
}

static void tear_down(void)
{
	flows_fini(&table);
}

TestSuite(flow, .init = set_up, .fini = tear_down);

static struct flow *new_flow(void)
{
	struct flow *f = flow_new(&table, FD);

	cr_assert_not_null(f);
	return f;
}

/* By the shortest way that the diagram allows. */
static void reach(struct flow *f, enum flow_state state)
{
	static const enum flow_state before[] = {
		[FLOW_CONNECTING] = FLOW_WAITING, [FLOW_OPEN] = FLOW_WAITING,
		[FLOW_ENDING] = FLOW_OPEN,	  [FLOW_HALF_CLOSED] = FLOW_ENDING,
		[FLOW_DRAINING] = FLOW_OPEN,	  [FLOW_CLOSING] = FLOW_WAITING,
		[FLOW_DONE] = FLOW_CLOSING,	  [FLOW_FREE] = FLOW_DONE,
	};

	if (f->state == state)
		return;
	reach(f, before[state]);
	flow_set_state(&table, f, state);
}

static void end_flow(struct flow *f)
{
	reach(f, FLOW_DONE);
	f->fd[SIDE_CLIENT] = f->fd[SIDE_CONTAINER] = -1;
	flow_free(&table, f);
}

/* ---------------------------------------------------------------- slots */

/* A new flow waits, has the client's descriptor and no other, and nothing in flight. */
Test(flow, begins_by_waiting, .timeout = TIMEOUT)
{
	struct flow *f = new_flow();

	cr_assert_eq(f->state, FLOW_WAITING);
	cr_assert_eq(f->fd[SIDE_CLIENT], FD);
	cr_assert_eq(f->fd[SIDE_CONTAINER], -1);
	cr_assert(flow_is_quiet(f));
	cr_assert_eq(table.list[FLOW_WAITING].n, 1);
}

/* A flow that ends before its pumps were set up has no buffer and no pipe to give back. */
Test(flow, has_nothing_to_give_back_at_first, .timeout = TIMEOUT)
{
	struct flow *f = new_flow();

	for (int side = 0; side < SIDES; side++) {
		cr_assert_eq(f->pump[side].state, PUMP_IDLE);
		cr_assert_not(pump_holds_data(&f->pump[side]));
		cr_assert_eq(f->pump[side].sending.id, BUF_NONE);
		cr_assert_eq(f->pump[side].next.id, BUF_NONE);
		cr_assert(pipe_is_none(&f->pump[side].pipe));
	}
}

/* A full table refuses, until one flow has been freed. */
Test(flow, refuses_when_the_table_is_full, .timeout = TIMEOUT)
{
	struct flow *f[MAX];

	for (int i = 0; i < MAX; i++)
		f[i] = new_flow();
	cr_assert_null(flow_new(&table, FD));
	cr_assert_eq(table.list[FLOW_WAITING].n, MAX);
	end_flow(f[3]);
	cr_assert_eq(flow_new(&table, FD), f[3]);
	cr_assert_null(flow_new(&table, FD));
}

/* The slot that was freed last is the first to be used again, as another generation. */
Test(flow, reuses_the_last_one_freed_with_another_generation, .timeout = TIMEOUT)
{
	struct flow *a = new_flow(), *b = new_flow(), *c = new_flow();
	uint16_t generation = b->generation;

	end_flow(c);
	end_flow(a);
	end_flow(b);
	cr_assert_eq(new_flow(), b);
	cr_assert_eq(b->generation, generation + 1);
	cr_assert_eq(new_flow(), a);
	cr_assert_eq(new_flow(), c);
	cr_assert_eq(table.used, 3);
}

/* Nothing of the flow before is left in a slot that is used again. */
Test(flow, forgets_the_flow_before, .timeout = TIMEOUT)
{
	struct flow *f = new_flow();

	f->reset = true;
	f->fate = SOURCE_LOST;
	f->try_index = 3;
	f->port = 80;
	f->rule = 5;
	f->client = addr_loopback4;
	f->deadline = f->seen = 12345;
	f->pump[SIDE_CLIENT].state = f->pump[SIDE_CONTAINER].state = PUMP_EOF;
	end_flow(f);
	cr_assert_eq(new_flow(), f);
	cr_assert_not(f->reset || f->connecting);
	cr_assert_eq(f->fate + f->try_index + f->port, 0);
	cr_assert_eq(f->rule, 0);
	cr_assert_eq(f->deadline + f->seen, 0);
	cr_assert_eq(f->fd[SIDE_CONTAINER], -1);
	cr_assert_eq(f->pump[SIDE_CLIENT].state, PUMP_IDLE);
	cr_assert_eq(f->pump[SIDE_CONTAINER].state, PUMP_IDLE);
}

/* Generations wrap around, and each of them is told from the one before. */
Test(flow, wraps_generations, .timeout = TIMEOUT)
{
	uint16_t before = 0;

	for (unsigned i = 0; i < 2 * 65536 + 1; i++) {
		struct flow *f = new_flow();

		cr_assert(i == 0 || f->generation == (uint16_t)(before + 1));
		cr_assert_eq(flow_of(&table, flow_ref(&table, f, SIDE_CLIENT)), f);
		before = f->generation;
		end_flow(f);
	}
}

/* ---------------------------------------------------------------- references */

/* A reference leads back to its flow, and survives being packed. */
Test(flow, is_found_by_its_reference, .timeout = TIMEOUT)
{
	for (uint32_t i = 0; i < MAX; i++) {
		struct flow *f = new_flow();

		for (int side = 0; side < SIDES; side++) {
			struct loop_ref ref = flow_ref(&table, f, (enum side)side);

			cr_assert_eq(ref.op, OP_NONE);
			cr_assert_eq(ref.side, side);
			cr_assert_eq(ref.slot, i);
			ref.op = OP_RECV;
			ref = loop_ref_unpack(loop_ref_pack(ref));
			cr_assert_eq(ref.op, OP_RECV);
			cr_assert_eq(ref.side, side);
			cr_assert_eq(flow_of(&table, ref), f);
		}
	}
}

/* A reference to a flow that is gone is a bug, */
Test(flow, aborts_on_a_reference_to_a_freed_flow, .signal = SIGABRT, .timeout = TIMEOUT)
{
	struct flow *f = new_flow();
	struct loop_ref ref = flow_ref(&table, f, SIDE_CLIENT);

	end_flow(f);
	flow_of(&table, ref);
}

/* also when its slot has a new flow, */
Test(flow, aborts_on_a_reference_of_the_generation_before, .signal = SIGABRT, .timeout = TIMEOUT)
{
	struct flow *f = new_flow();
	struct loop_ref ref = flow_ref(&table, f, SIDE_CLIENT);

	end_flow(f);
	new_flow();
	flow_of(&table, ref);
}

/* or when the slot is free and the generation that of its next flow. */
Test(flow, aborts_on_a_reference_to_a_free_slot, .signal = SIGABRT, .timeout = TIMEOUT)
{
	struct flow *f = new_flow();
	struct loop_ref ref = flow_ref(&table, f, SIDE_CLIENT);

	end_flow(f);
	ref.generation++;
	flow_of(&table, ref);
}

/* A slot that was never used has no flow. */
Test(flow, aborts_on_a_reference_to_an_unused_slot, .signal = SIGABRT, .timeout = TIMEOUT)
{
	new_flow();
	flow_of(&table, (struct loop_ref){ .slot = 1 });
}

/* A slot beyond the table is none. */
Test(flow, aborts_on_a_reference_beyond_the_table, .signal = SIGABRT, .timeout = TIMEOUT)
{
	new_flow();
	flow_of(&table, (struct loop_ref){ .slot = UINT32_MAX });
}

/* ---------------------------------------------------------------- what is in flight */

/* Each thing that may be in flight makes a flow not quiet. */
Test(flow, is_quiet_with_nothing_in_flight, .timeout = TIMEOUT)
{
	struct flow *f = new_flow();

	f->connecting = true;
	cr_assert_not(flow_is_quiet(f));
	f->connecting = false;
	for (int side = 0; side < SIDES; side++) {
		f->pump[side].in_flight = 1 << OP_RECV;
		cr_assert_not(flow_is_quiet(f));
		f->pump[side].in_flight = 0;
		f->watched[side] = true;
		cr_assert_not(flow_is_quiet(f));
		f->watched[side] = false;
		cr_assert(flow_is_quiet(f));
	}
}

/* A flow whose connect is in flight is not freed. */
Test(flow, aborts_when_freed_while_connecting, .signal = SIGABRT, .timeout = TIMEOUT)
{
	struct flow *f = new_flow();

	f->connecting = true;
	end_flow(f);
}

/* Nor one with a pump's operation in flight. */
Test(flow, aborts_when_freed_with_a_pump_in_flight, .signal = SIGABRT, .timeout = TIMEOUT)
{
	struct flow *f = new_flow();

	f->pump[SIDE_CONTAINER].in_flight = 1 << OP_SEND;
	end_flow(f);
}

/* Nor one whose descriptors are still open. */
Test(flow, aborts_when_freed_with_a_descriptor, .signal = SIGABRT, .timeout = TIMEOUT)
{
	struct flow *f = new_flow();

	reach(f, FLOW_DONE);
	flow_free(&table, f);
}

/* Nor one that is not done. */
Test(flow, aborts_when_freed_before_it_is_done, .signal = SIGABRT, .timeout = TIMEOUT)
{
	struct flow *f = new_flow();

	f->fd[SIDE_CLIENT] = -1;
	reach(f, FLOW_CLOSING);
	flow_free(&table, f);
}

/* ---------------------------------------------------------------- states */

/* The diagram in flow.c. */
static const bool allowed[FLOW_STATES][FLOW_STATES] = {
	[FLOW_FREE] = { [FLOW_WAITING] = true },
	[FLOW_WAITING] = { [FLOW_CONNECTING] = true, [FLOW_OPEN] = true, [FLOW_CLOSING] = true },
	[FLOW_CONNECTING] = { [FLOW_WAITING] = true, [FLOW_OPEN] = true, [FLOW_CLOSING] = true },
	[FLOW_OPEN] = { [FLOW_ENDING] = true, [FLOW_DRAINING] = true, [FLOW_CLOSING] = true },
	[FLOW_ENDING] = { [FLOW_HALF_CLOSED] = true,
			  [FLOW_DRAINING] = true,
			  [FLOW_CLOSING] = true },
	[FLOW_HALF_CLOSED] = { [FLOW_DRAINING] = true, [FLOW_CLOSING] = true },
	[FLOW_DRAINING] = { [FLOW_CLOSING] = true },
	[FLOW_CLOSING] = { [FLOW_DONE] = true },
	[FLOW_DONE] = { [FLOW_FREE] = true },
};

static void take_step(enum flow_state from, enum flow_state to)
{
	struct flow *f = new_flow();

	reach(f, from);
	flow_set_state(&table, f, to);
}

/* Each step of the diagram moves the flow from list to list. */
Test(flow, takes_each_step_of_the_diagram, .timeout = TIMEOUT)
{
	for (int from = 0; from < FLOW_STATES; from++) {
		for (int to = 0; to < FLOW_STATES; to++) {
			if (!allowed[from][to])
				continue;
			take_step((enum flow_state)from, (enum flow_state)to);
			cr_assert_eq(table.list[from].n, 0);
			cr_assert_eq(table.list[to].n, 1);
			tear_down();
			set_up();
		}
	}
}

/* Whether a step aborts, tried by a child. */
static bool step_aborts(enum flow_state from, enum flow_state to)
{
	pid_t pid = fork();
	int status;

	cr_assert_geq(pid, 0);
	if (pid == 0) {
		close(STDERR_FILENO);
		take_step(from, to);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

/* Any other step is a bug. */
Test(flow, aborts_on_any_other_step, .timeout = TIMEOUT)
{
	for (int from = 0; from < FLOW_STATES; from++)
		for (int to = 0; to < FLOW_STATES; to++)
			cr_assert_eq(step_aborts((enum flow_state)from, (enum flow_state)to),
				     !allowed[from][to], "%s to %s",
				     flow_state_str((enum flow_state)from),
				     flow_state_str((enum flow_state)to));
}

/* Every state has a name for the log. */
Test(flow, has_a_name_for_each_state, .timeout = TIMEOUT)
{
	for (int i = 0; i < FLOW_STATES; i++)
		for (int j = 0; j < i; j++)
			cr_assert_str_neq(flow_state_str((enum flow_state)i),
					  flow_state_str((enum flow_state)j));
}

/* ---------------------------------------------------------------- lists */

/* No flow is the oldest of none. */
Test(flow, has_no_oldest_in_an_empty_list, .timeout = TIMEOUT)
{
	for (int i = 0; i < FLOW_STATES; i++)
		cr_assert_null(flow_oldest(&table, (enum flow_state)i));
}

/* The list of a state is in the order in which flows came to it. */
Test(flow, lists_the_oldest_first, .timeout = TIMEOUT)
{
	struct flow *a = new_flow(), *b = new_flow(), *c = new_flow();

	cr_assert_eq(flow_oldest(&table, FLOW_WAITING), a);
	flow_set_state(&table, b, FLOW_OPEN);
	flow_set_state(&table, a, FLOW_OPEN);
	cr_assert_eq(flow_oldest(&table, FLOW_WAITING), c);
	cr_assert_eq(flow_oldest(&table, FLOW_OPEN), b);
	flow_set_state(&table, b, FLOW_CLOSING);
	cr_assert_eq(flow_oldest(&table, FLOW_OPEN), a);
}

/* One that is touched is the youngest. */
Test(flow, goes_to_the_end_when_touched, .timeout = TIMEOUT)
{
	struct flow *f[3] = { new_flow(), new_flow(), new_flow() };

	for (int i = 0; i < 9; i++) {
		cr_assert_eq(flow_oldest(&table, FLOW_WAITING), f[i % 3]);
		flow_touch(&table, f[i % 3]);
	}
	flow_touch(&table, f[2]);
	flow_touch(&table, f[1]);
	cr_assert_eq(flow_oldest(&table, FLOW_WAITING), f[0]);
	cr_assert_eq(table.list[FLOW_WAITING].n, 3);
}

/* Each flow is in the list of its state, once, with links that agree. */
static void check_lists(void)
{
	unsigned total = 0;

	for (unsigned state = 0; state < FLOW_STATES; state++) {
		const struct flow_list *l = &table.list[state];
		uint32_t before = FLOW_NONE, n = 0;

		for (uint32_t i = l->head; i != FLOW_NONE; i = table.v[i].next) {
			cr_assert_lt(i, table.used);
			cr_assert_eq(table.v[i].state, state);
			cr_assert_eq(table.v[i].prev, before);
			cr_assert_leq(++n, MAX);
			before = i;
		}
		cr_assert_eq(l->tail, before);
		cr_assert_eq(l->n, n);
		total += n;
	}
	cr_assert_eq(total, table.used);
}

/* Thousands of steps of flows that come, go on and end. */
Test(flow, keeps_its_lists_in_any_order_of_events, .timeout = TIMEOUT)
{
	uint32_t seed = 1;

	for (int i = 0; i < 50000; i++) {
		struct flow *f;
		unsigned state;

		seed = seed * 1664525u + 1013904223u;
		f = &table.v[(seed >> 16) % MAX];
		state = (seed >> 24) % FLOW_STATES;
		if ((uint32_t)(f - table.v) >= table.used || f->state == FLOW_FREE)
			flow_new(&table, FD);
		else if (f->state == FLOW_DONE)
			end_flow(f);
		else if (allowed[f->state][state])
			flow_set_state(&table, f, (enum flow_state)state);
		else
			flow_touch(&table, f);
		check_lists();
	}
	cr_assert_eq(table.used, MAX);
}
