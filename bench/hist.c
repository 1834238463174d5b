/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hist.c - a histogram of times, exact to 1/64, of fixed size
 *
 * Values under HIST_SUB have a bucket each. Above, each power of two is cut
 * into HIST_SUB equal steps, so a bucket is never wider than 1/64 of its value.
 */
#include "hist.h"

#include <stdio.h>

#include "load.h"

static unsigned int hist_bucket(uint64_t value)
{
	unsigned int shift;

	if (value < HIST_SUB)
		return (unsigned int)value;
	shift = 63 - (unsigned int)__builtin_clzll(value) - HIST_SUB_BITS;
	return (shift + 1) * HIST_SUB + (unsigned int)((value >> shift) - HIST_SUB);
}

/* The middle of bucket @i. */
static uint64_t hist_value(unsigned int i)
{
	unsigned int shift;

	if (i < HIST_SUB)
		return i;
	shift = i / HIST_SUB - 1;
	return ((uint64_t)(HIST_SUB + i % HIST_SUB) << shift) + ((1ULL << shift) >> 1);
}

void hist_add(struct hist *h, uint64_t value)
{
	h->total++;
	h->count[hist_bucket(value)]++;
	if (value > h->max)
		h->max = value;
}

uint64_t hist_quantile(const struct hist *h, double q)
{
	uint64_t want = (uint64_t)(q * (double)h->total), seen = 0;

	for (unsigned int i = 0; i < HIST_BUCKETS; i++) {
		seen += h->count[i];
		if (seen > want)
			return hist_value(i);
	}
	return h->max;
}

void hist_json(const struct hist *h, const char *name)
{
	static const struct {
		const char *name;
		double q;
	} cut[] = { { "p50", .5 }, { "p90", .9 }, { "p99", .99 }, { "p99_9", .999 } };
	char key[64];

	for (unsigned int i = 0; i < sizeof(cut) / sizeof(cut[0]); i++) {
		snprintf(key, sizeof(key), "%s_%s_us", name, cut[i].name);
		json_f64(key, (double)hist_quantile(h, cut[i].q) / 1e3);
	}
	snprintf(key, sizeof(key), "%s_max_us", name);
	json_f64(key, (double)h->max / 1e3);
}
