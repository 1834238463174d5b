/* SPDX-License-Identifier: Apache-2.0 */
/* The keyed hash of tables whose keys come from the network. */
#include "fwd/hash.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#define KEY 0x0706050403020100ull

struct known {
	uint64_t key;
	size_t len;
	uint32_t hash;
};

/* By another implementation of SipHash-1-3, of the bytes 0, 1, 2, ... */
ParameterizedTestParameters(hash, values_are_those_of_siphash)
{
	static struct known known[] = { { 0, 0, 0x0a2d3391 }, { KEY, 16, 0x0ece0c62 } };

	return cr_make_param_array(struct known, known, sizeof(known) / sizeof(known[0]));
}

/* The values are those of the published function, whatever the byte order and compiler. */
ParameterizedTest(struct known *k, hash, values_are_those_of_siphash, .timeout = 5)
{
	uint8_t data[16];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)i;
	cr_expect_eq(hash_bytes(k->key, data, k->len), k->hash, "%08x",
		     hash_bytes(k->key, data, k->len));
}

/* Each bit of the data and of the key changes about half of the result. */
Test(hash, every_bit_counts, .timeout = 5)
{
	uint8_t data[48] = { 0 };
	uint32_t plain = hash_bytes(KEY, data, sizeof(data));
	int changed = 0, bits = 0;

	for (size_t i = 0; i < 8 * sizeof(data); i++) {
		uint32_t other;

		data[i / 8] ^= (uint8_t)(1u << (i % 8));
		other = hash_bytes(KEY, data, sizeof(data));
		data[i / 8] ^= (uint8_t)(1u << (i % 8));
		cr_expect_neq(other, plain, "bit %zu", i);
		changed += __builtin_popcount(other ^ plain);
		bits += 32;
	}
	for (int i = 0; i < 64; i++) {
		uint32_t other = hash_bytes(KEY ^ 1ull << i, data, sizeof(data));

		cr_expect_neq(other, plain, "bit %d of the key", i);
		changed += __builtin_popcount(other ^ plain);
		bits += 32;
	}
	cr_expect(changed > bits * 45 / 100 && changed < bits * 55 / 100, "%d of %d", changed,
		  bits);
}

/* Keys that follow each other, as ports of one client do, spread over all buckets. */
Test(hash, ports_of_one_client_spread, .timeout = 5)
{
	static unsigned bucket[1024];
	uint64_t data[6] = { 0 };
	unsigned longest = 0, empty = 0;

	for (uint64_t port = 0; port < 65536; port++) {
		unsigned *b;

		data[5] = port;
		b = &bucket[hash_bytes(KEY, data, sizeof(data)) & 1023];
		(*b)++;
	}
	for (unsigned i = 0; i < 1024; i++) {
		longest = bucket[i] > longest ? bucket[i] : longest;
		empty += bucket[i] == 0;
	}
	/* 64 each on average; with chance alone, 5 deviations are 40 more. */
	cr_expect_leq(longest, 64 + 48);
	cr_expect_eq(empty, 0);
}

/* What falls into one bucket under one key is scattered under another. */
Test(hash, collisions_depend_on_the_key, .timeout = 5)
{
	uint64_t data[2] = { 0 };
	unsigned in_one = 0, still = 0;

	for (data[0] = 0; data[0] < 100000; data[0]++) {
		if ((hash_bytes(KEY, data, sizeof(data)) & 255) != 0)
			continue;
		in_one++;
		still += (hash_bytes(KEY + 1, data, sizeof(data)) & 255) == 0;
	}
	cr_expect_geq(in_one, 200);
	cr_expect_leq(still, in_one / 20);
}

/* Two tables do not have one key. */
Test(hash, keys_are_random, .timeout = 5)
{
	uint64_t a = hash_random_key(), b = hash_random_key();

	cr_expect_neq(a, b);
	cr_expect(a != 0 && b != 0);
}

struct size {
	uint32_t n, mask;
};

ParameterizedTestParameters(hash, table_has_room_for_its_keys)
{
	static struct size sizes[] = { { 0, 63 },
				       { 1, 63 },
				       { 64, 63 },
				       { 65, 127 },
				       { 65536, 65535 },
				       { 65537, 131071 },
				       { 1u << 30, (1u << 30) - 1 },
				       { UINT32_MAX, (1u << 30) - 1 } };

	return cr_make_param_array(struct size, sizes, sizeof(sizes) / sizeof(sizes[0]));
}

/* A table is a power of two of buckets, one for each key, within reason. */
ParameterizedTest(struct size *s, hash, table_has_room_for_its_keys, .timeout = 5)
{
	cr_expect_eq(hash_mask_for(s->n), s->mask, "%u: %u", s->n, hash_mask_for(s->n));
}
