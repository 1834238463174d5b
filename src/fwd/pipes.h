/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Pipes for splice(2), borrowed only while bytes are in them. The kernel
 * limits their memory per user, over all of the user's processes
 * (fs.pipe-user-pages-soft, pipe(7)); over the limit new pipes have two slots
 * only, which is slower than copying: such a pipe is never handed out.
 */

#include <stdbool.h>
#include <stddef.h>

#define PIPE_FILL (512u * 1024) /* bytes to gather before they are passed on */

struct pipe {
	int rd, wr; /* -1: none */
};

#define PIPE_NONE ((struct pipe){ .rd = -1, .wr = -1 })

struct pipes {
	struct pipe *idle; /* stack */
	unsigned n_idle, max_idle;
	unsigned n_open;    /* idle and lent */
	bool over_limit;    /* the last new one came out too small */
	unsigned until_try; /* then: requests to refuse before trying again */
};

/* Keep up to @max_idle pipes open between uses. 0 or -ENOMEM. */
int pipes_init(struct pipes *p, unsigned max_idle);
void pipes_fini(struct pipes *p);

/* Borrow one that holds at least 256 KiB. False if there is none to be had: copy. */
bool pipes_get(struct pipes *p, struct pipe *ret);

/* Give one back, @clean if it is known to be empty; *@pipe is PIPE_NONE after. */
void pipes_put(struct pipes *p, struct pipe *pipe, bool clean);

static inline bool pipe_is_none(const struct pipe *p)
{
	return p->rd < 0;
}
