/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow.c - the table of flows
 *
 *	FREE -> WAITING -> CONNECTING -> OPEN -> ENDING -> HALF_CLOSED -> DRAINING
 *	  ^        |  ________|  |        |        |            |             |
 *	  |        v             v        v        v            v             v
 *	DONE <- CLOSING <-----------------------------------------------------'
 *
 * CONNECTING goes back to WAITING when the ladder of source addresses needs
 * another socket. CLOSING becomes DONE at once if nothing is in flight. Slots
 * are freed in one place, after a batch of completions, so a completion of
 * the same batch never meets a slot that was used again.
 *
 * A flow is in the list of its state. All flows of one state wait equally long,
 * so each list is in order of deadlines.
 */
#include "fwd/flow.h"

#include <errno.h>
#include <sys/mman.h>

#include "util.h"

#define BIT(state) (1u << (state))

static const struct {
	const char *name;
	unsigned next; /* states that may follow */
} flow_states[] = {
	[FLOW_FREE] = { "free", BIT(FLOW_WAITING) },
	[FLOW_WAITING] = { "waiting", BIT(FLOW_CONNECTING) | BIT(FLOW_OPEN) | BIT(FLOW_CLOSING) },
	[FLOW_CONNECTING] = { "connecting",
			      BIT(FLOW_WAITING) | BIT(FLOW_OPEN) | BIT(FLOW_CLOSING) },
	[FLOW_OPEN] = { "open", BIT(FLOW_ENDING) | BIT(FLOW_DRAINING) | BIT(FLOW_CLOSING) },
	[FLOW_ENDING] = { "ending",
			  BIT(FLOW_HALF_CLOSED) | BIT(FLOW_DRAINING) | BIT(FLOW_CLOSING) },
	[FLOW_HALF_CLOSED] = { "half-closed", BIT(FLOW_DRAINING) | BIT(FLOW_CLOSING) },
	[FLOW_DRAINING] = { "draining", BIT(FLOW_CLOSING) },
	[FLOW_CLOSING] = { "closing", BIT(FLOW_DONE) },
	[FLOW_DONE] = { "done", BIT(FLOW_FREE) },
};
_Static_assert(ARRAY_SIZE(flow_states) == FLOW_STATES, "a row for each state");

const char *flow_state_str(enum flow_state state)
{
	return flow_states[state].name;
}

/* ---------------------------------------------------------------- lists */

static void flow_link(struct flows *fs, struct flow *f)
{
	struct flow_list *l = &fs->list[f->state];
	uint32_t i = (uint32_t)(f - fs->v);

	f->next = FLOW_NONE;
	f->prev = l->tail;
	if (l->tail != FLOW_NONE)
		fs->v[l->tail].next = i;
	else
		l->head = i;
	l->tail = i;
	l->n++;
}

static void flow_unlink(struct flows *fs, struct flow *f)
{
	struct flow_list *l = &fs->list[f->state];

	if (f->prev != FLOW_NONE)
		fs->v[f->prev].next = f->next;
	else
		l->head = f->next;
	if (f->next != FLOW_NONE)
		fs->v[f->next].prev = f->prev;
	else
		l->tail = f->prev;
	l->n--;
}

struct flow *flow_oldest(const struct flows *fs, enum flow_state state)
{
	uint32_t i = fs->list[state].head;

	return i == FLOW_NONE ? NULL : &fs->v[i];
}

void flow_touch(struct flows *fs, struct flow *f)
{
	flow_unlink(fs, f);
	flow_link(fs, f);
}

/* ---------------------------------------------------------------- slots */

int flows_init(struct flows *fs, uint32_t max, struct err *err)
{
	void *v;

	*fs = (struct flows){ .max = max };
	/* Pages that no flow ever used cost nothing. */
	v = mmap(NULL, max * sizeof(struct flow), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (v == MAP_FAILED)
		return err_sys(err, errno, "reserve memory for %u flows", max);
	fs->v = v;
	for (unsigned i = 0; i < FLOW_STATES; i++)
		fs->list[i] = (struct flow_list){ .head = FLOW_NONE, .tail = FLOW_NONE };
	return 0;
}

void flows_fini(struct flows *fs)
{
	if (fs->v)
		munmap(fs->v, fs->max * sizeof(struct flow));
	fs->v = NULL;
}

void flow_set_state(struct flows *fs, struct flow *f, enum flow_state state)
{
	fwd_assert(flow_states[f->state].next & BIT(state));
	flow_unlink(fs, f);
	f->state = (uint8_t)state;
	flow_link(fs, f);
}

struct loop_ref flow_ref(const struct flows *fs, const struct flow *f, enum side side)
{
	return (struct loop_ref){ .side = (uint8_t)side,
				  .generation = f->generation,
				  .slot = (uint32_t)(f - fs->v) };
}

struct flow *flow_new(struct flows *fs, int fd)
{
	/* The last one freed is the one whose memory is warm. */
	uint32_t i = fs->list[FLOW_FREE].tail;
	struct flow *f;
	uint16_t generation;

	if (i == FLOW_NONE) {
		if (fs->used == fs->max)
			return NULL;
		i = fs->used++;
		fs->v[i].state = FLOW_FREE;
		flow_link(fs, &fs->v[i]);
	}
	f = &fs->v[i];
	flow_set_state(fs, f, FLOW_WAITING);
	generation = f->generation;
	*f = (struct flow){ .state = FLOW_WAITING,
			    .generation = generation,
			    .next = f->next,
			    .prev = f->prev,
			    .fd = { fd, -1 } };
	/* A flow may end before its pumps start: they must own nothing. */
	for (int side = 0; side < SIDES; side++)
		pump_init(&f->pump[side], -1, -1, flow_ref(fs, f, (enum side)side));
	return f;
}

void flow_free(struct flows *fs, struct flow *f)
{
	fwd_assert(flow_is_quiet(f) && f->fd[SIDE_CLIENT] < 0 && f->fd[SIDE_CONTAINER] < 0);
	f->generation++;
	flow_set_state(fs, f, FLOW_FREE);
}

struct flow *flow_of(struct flows *fs, struct loop_ref ref)
{
	struct flow *f;

	fwd_assert(ref.slot < fs->used);
	f = &fs->v[ref.slot];
	fwd_assert(f->generation == ref.generation && f->state != FLOW_FREE);
	return f;
}

bool flow_is_quiet(const struct flow *f)
{
	return !f->connecting && !f->watched[SIDE_CLIENT] && !f->watched[SIDE_CONTAINER] &&
	       f->pump[SIDE_CLIENT].in_flight == 0 && f->pump[SIDE_CONTAINER].in_flight == 0;
}
