/* SPDX-License-Identifier: Apache-2.0 */
/*
 * udppairs.c - pairs of addresses that sessions have
 */
#include "fwd/udppairs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fwd/hash.h"
#include "util.h"

#define UDPPAIR_NONE UINT32_MAX

int udppairs_init(struct udppairs *p, uint32_t max)
{
	void *v;

	*p = (struct udppairs){ .max = max,
				.free = UDPPAIR_NONE,
				.hash_mask = hash_mask_for(max),
				.hash_key = hash_random_key() };
	v = mmap(NULL, max * sizeof(*p->v), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	p->v = v == MAP_FAILED ? NULL : v;
	p->hash = malloc((p->hash_mask + 1ul) * sizeof(*p->hash));
	if (!p->v || !p->hash) {
		udppairs_fini(p);
		return -ENOMEM;
	}
	memset(p->hash, 0xff, (p->hash_mask + 1ul) * sizeof(*p->hash));
	pthread_mutex_init(&p->lock, NULL);
	return 0;
}

void udppairs_fini(struct udppairs *p)
{
	if (p->v && p->hash)
		pthread_mutex_destroy(&p->lock);
	if (p->v)
		munmap(p->v, p->max * sizeof(*p->v));
	free(p->hash);
	p->v = NULL;
	p->hash = NULL;
}

static uint32_t *udppair_bucket(const struct udppairs *p, const struct addr *source,
				const struct addr *target)
{
	struct {
		uint8_t source[16], target[16];
		uint16_t source_port, target_port;
		uint32_t scope;
	} key = { .source_port = source->port,
		  .target_port = target->port,
		  .scope = source->scope };

	memcpy(key.source, source->ip, sizeof(key.source));
	memcpy(key.target, target->ip, sizeof(key.target));
	return &p->hash[hash_bytes(p->hash_key, &key, sizeof(key)) & p->hash_mask];
}

/* The link that leads to the pair; it holds UDPPAIR_NONE if there is no such pair. */
static uint32_t *udppair_find(const struct udppairs *p, const struct addr *source,
			      const struct addr *target)
{
	uint32_t *link = udppair_bucket(p, source, target);

	while (*link != UDPPAIR_NONE && !(addr_equal(&p->v[*link].source, source) &&
					  addr_equal(&p->v[*link].target, target)))
		link = &p->v[*link].chain;
	return link;
}

static uint32_t udppair_slot(struct udppairs *p)
{
	uint32_t i = p->free;

	if (i != UDPPAIR_NONE)
		p->free = p->v[i].chain;
	else if (p->used < p->max)
		i = p->used++;
	return i;
}

bool udppairs_take(struct udppairs *p, const struct addr *source, const struct addr *target)
{
	uint32_t *link, i = UDPPAIR_NONE;

	pthread_mutex_lock(&p->lock);
	link = udppair_find(p, source, target);
	if (*link == UDPPAIR_NONE)
		i = udppair_slot(p);
	if (i != UDPPAIR_NONE) {
		p->v[i] = (struct udppair){ .source = *source,
					    .target = *target,
					    .chain = UDPPAIR_NONE };
		*link = i;
	}
	pthread_mutex_unlock(&p->lock);
	return i != UDPPAIR_NONE;
}

void udppairs_give(struct udppairs *p, const struct addr *source, const struct addr *target)
{
	uint32_t *link, i;

	pthread_mutex_lock(&p->lock);
	link = udppair_find(p, source, target);
	i = *link;
	fwd_assert(i != UDPPAIR_NONE);
	*link = p->v[i].chain;
	p->v[i].chain = p->free;
	p->free = i;
	pthread_mutex_unlock(&p->lock);
}
