/* SPDX-License-Identifier: Apache-2.0 */
/*
 * udpfamily.c - by which family the container is reached for UDP
 *
 * The client's own family is tried first. Only if a datagram is refused, and the
 * kernel says that nobody listens on that family but somebody on the other one, the
 * other one is: until the kernel says otherwise, which it is asked every ten
 * seconds at most.
 */
#include "fwd/udpfamily.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "nl/diag.h"

#define UDPFAMILY_ASK_NS (10 * 1000000000ull)

struct udpfamily_hint {
	bool other;	   /* the other family first */
	uint16_t port;	   /* asked for this one */
	uint64_t asked_at; /* 0: never */
};

int udpfamily_init(struct udpfamily *f, int fd, unsigned n_rules, struct err *err)
{
	int ret = nl_adopt(&f->diag, fd, err);

	if (ret < 0)
		return ret;
	f->open = true;
	f->hint = calloc((size_t)n_rules * ADDR_FAMILIES + 1, sizeof(*f->hint));
	return f->hint ? 0 : err_sys(err, ENOMEM, "UDP rules");
}

void udpfamily_fini(struct udpfamily *f)
{
	if (f->open)
		nl_close(&f->diag);
	f->open = false;
	free(f->hint);
	f->hint = NULL;
}

struct udpfamily_question {
	const struct udpfamily_key *key;
	bool listens[ADDR_FAMILIES];
};

static void udpfamily_on_listener(const struct nl_listener *l, void *data)
{
	struct udpfamily_question *q = data;
	struct addr bound = addr_from_bytes(l->ip.bytes, l->ip.family == AF_INET ? 4 : 16);
	enum addr_family family = addr_family(&bound);

	if (l->port != q->key->port)
		return;
	if (addr_is_any(&bound) || addr_same_ip(&bound, &q->key->targets->addr[family]))
		q->listens[family] = true;
	if (addr_is_any(&bound) && family == ADDR_V6 && !l->v6only)
		q->listens[ADDR_V4] = true;
}

static void udpfamily_ask(struct udpfamily *f, const struct udpfamily_key *key,
			  struct udpfamily_hint *hint, uint64_t now)
{
	struct udpfamily_question q = { .key = key };
	struct err ignored;

	hint->asked_at = now; /* also in vain */
	if (nl_diag_listeners(&f->diag, IPPROTO_UDP, udpfamily_on_listener, NULL, &q, &ignored) < 0)
		return;
	*hint = (struct udpfamily_hint){ .other = !q.listens[key->family] &&
						  q.listens[!key->family],
					 .port = key->port,
					 .asked_at = now };
}

static struct udpfamily_hint *udpfamily_hint(const struct udpfamily *f,
					     const struct udpfamily_key *key)
{
	return &f->hint[key->rule * ADDR_FAMILIES + key->family];
}

bool udpfamily_other_first(struct udpfamily *f, const struct udpfamily_key *key, uint64_t now)
{
	struct udpfamily_hint *hint;

	if (!f->open)
		return false;
	hint = udpfamily_hint(f, key);
	if (hint->other && now - hint->asked_at > UDPFAMILY_ASK_NS)
		udpfamily_ask(f, key, hint, now);
	return hint->other && hint->port == key->port;
}

void udpfamily_forget(struct udpfamily *f, unsigned rule)
{
	for (int family = 0; f->open && family < ADDR_FAMILIES; family++)
		f->hint[rule * ADDR_FAMILIES + family] = (struct udpfamily_hint){ 0 };
}

void udpfamily_refused(struct udpfamily *f, const struct udpfamily_key *key, uint64_t now)
{
	struct udpfamily_hint *hint;

	if (!f->open)
		return;
	hint = udpfamily_hint(f, key);
	/* A flood of refused datagrams is no reason to ask each time, to whatever ports it is. */
	if (now - hint->asked_at > UDPFAMILY_ASK_NS / 100)
		udpfamily_ask(f, key, hint, now);
}
