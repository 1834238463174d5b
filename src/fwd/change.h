/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Rules that come and go while workers run. For the main thread. */

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "fwd/forwarder.h"
#include "fwd/rule.h"

/*
 * Add all of @rules, or none: their ports are open when this returns, but for those that
 * automatic rules wait with. 0, and @ret_slots has @rules->n slots; or -errno with @err.
 */
int change_add(struct forwarder *f, const struct rules *rules, uint32_t *ret_slots,
	       struct err *err);

/* What to delete: rules that are the same as these, and rules by id. */
struct change_delete {
	const struct rules *rules;
	const uint32_t *ids;
	unsigned n_ids;
	bool drop; /* end the TCP flows, too, also of rules that are deleted already */
};

/*
 * Delete all of them, or none if there is no such rule. How many there were, whose slots
 * @ret_slots (room for @f->rules.max) has; or -errno with @err.
 */
int change_delete(struct forwarder *f, const struct change_delete *d, uint32_t *ret_slots,
		  struct err *err);

/* Free the slots of deleted rules whose last flow has ended. */
void change_collect(struct forwarder *f);
