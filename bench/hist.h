/* SPDX-License-Identifier: Apache-2.0 */
/* hist.h - a histogram of times, exact to 1/64, of fixed size */
#pragma once

#include <stdint.h>

enum {
	HIST_SUB_BITS = 6,
	HIST_SUB = 1 << HIST_SUB_BITS,
	HIST_BUCKETS = (64 - HIST_SUB_BITS + 1) * HIST_SUB,
};

struct hist {
	uint64_t total;		      /* samples */
	uint64_t max;		      /* the largest, exact */
	uint64_t count[HIST_BUCKETS]; /* by power of two, in HIST_SUB steps each */
};

/* Add one sample of @value (any unit; here nanoseconds). */
void hist_add(struct hist *h, uint64_t value);

/* The value that the part @q (0 to 1) of the samples does not exceed; 0 if there are none. */
uint64_t hist_quantile(const struct hist *h, double q);

/* Write p50, p90, p99, p99.9 and max into the JSON line, in microseconds, as @name_p50_us ... */
void hist_json(const struct hist *h, const char *name);
