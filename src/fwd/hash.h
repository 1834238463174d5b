/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A keyed hash for tables whose keys come from the network: SipHash-1-3 of
 * Aumasson and Bernstein, as the kernel's hsiphash(), with a random key, so that a
 * sender cannot choose keys that fall into one bucket.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

struct hash_state {
	uint64_t v[4];
};

static inline uint64_t hash_rotl(uint64_t x, int b)
{
	return x << b | x >> (64 - b);
}

static inline void hash_round(struct hash_state *s)
{
	s->v[0] += s->v[1];
	s->v[1] = hash_rotl(s->v[1], 13) ^ s->v[0];
	s->v[0] = hash_rotl(s->v[0], 32);
	s->v[2] += s->v[3];
	s->v[3] = hash_rotl(s->v[3], 16) ^ s->v[2];
	s->v[0] += s->v[3];
	s->v[3] = hash_rotl(s->v[3], 21) ^ s->v[0];
	s->v[2] += s->v[1];
	s->v[1] = hash_rotl(s->v[1], 17) ^ s->v[2];
	s->v[2] = hash_rotl(s->v[2], 32);
}

/* Hash @len bytes, a multiple of 8. */
static inline uint32_t hash_bytes(uint64_t key, const void *data, size_t len)
{
	struct hash_state s = { { 0x736f6d6570736575ull ^ key, 0x646f72616e646f6dull,
				  0x6c7967656e657261ull ^ key, 0x7465646279746573ull } };
	const uint8_t *p = data;

	for (size_t i = 0; i + 8 <= len; i += 8) {
		uint64_t word;

		memcpy(&word, p + i, sizeof(word));
		s.v[3] ^= word;
		hash_round(&s);
		s.v[0] ^= word;
	}
	s.v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		hash_round(&s);
	return (uint32_t)(s.v[0] ^ s.v[1] ^ s.v[2] ^ s.v[3]);
}

static inline uint64_t hash_random_key(void)
{
	uint64_t key = 0;

	/* At most 256 bytes never fail once the kernel has its entropy (getrandom(2)). */
	return getrandom(&key, sizeof(key), 0) == sizeof(key) ? key : 0x9e3779b97f4a7c15ull;
}

/* A table of a power of two buckets for @n keys: the mask of its index. */
static inline uint32_t hash_mask_for(uint32_t n)
{
	uint32_t size = 64;

	while (size < n && size < 1u << 30)
		size *= 2;
	return size - 1;
}
