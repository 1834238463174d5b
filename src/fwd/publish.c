/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish.c - annotations of a container to options of fwd
 *
 * Items are sorted into groups, by where they listen and by protocol. Each group becomes one
 * specification, so that its exclusions hold for all of it.
 */
#include "fwd/publish.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fwd/portspec.h"
#include "util.h"

#define PUBLISH_SPACE  " \t\r\n"
#define PUBLISH_GROUPS 64
#define PUBLISH_QUOTE  64 /* bytes of an item in a message */

/* Part of the annotation. */
struct part {
	const char *p;
	size_t len;
};

/* What becomes one specification. */
struct group {
	struct part where; /* with its '/', if it has one; nothing: all addresses */
	enum proto proto;
	char *spec;    /* owned */
	bool includes; /* an entry that is no exclusion */
};

struct groups {
	struct group v[PUBLISH_GROUPS];
	unsigned n;
};

static int publish_no_memory(struct err *err)
{
	return err_sys(err, ENOMEM, "annotations");
}

static int publish_fail(struct part item, const char *why, struct err *err)
{
	bool fits = item.len <= PUBLISH_QUOTE;

	return err_set(err, EINVAL, "annotation fwd.publish: '%.*s%s' %s",
		       fits ? (int)item.len : PUBLISH_QUOTE, item.p, fits ? "" : "...", why);
}

static bool part_is(struct part a, const char *text)
{
	return a.len == strlen(text) && memcmp(a.p, text, a.len) == 0;
}

/* ---------------------------------------------------------------- protocols */

/* Bits of what is to be done for an item. */
enum { PUBLISH_TCP = 1 << PROTO_TCP, PUBLISH_UDP = 1 << PROTO_UDP };

/* A word behind the last '/' that belongs to a specification, not a protocol. */
static bool publish_is_keyword(struct part word)
{
	const char *colon = memchr(word.p, ':', word.len);

	if (colon)
		word.len = (size_t)(colon - word.p);
	return part_is(word, "all") || part_is(word, "auto") || part_is(word, "none");
}

/* Cut the protocol off @item. Its bits, or -EINVAL with @err. */
static int publish_protocol(struct part *item, struct err *err)
{
	static const struct {
		const char *name;
		int bits;
	} protocols[] = {
		{ "tcp", PUBLISH_TCP },
		{ "udp", PUBLISH_UDP },
		{ "tcp+udp", PUBLISH_TCP | PUBLISH_UDP },
	};
	const char *slash = memrchr(item->p, '/', item->len);
	struct part word;

	if (!slash)
		return PUBLISH_TCP;
	word = (struct part){ slash + 1, (size_t)(item->p + item->len - slash - 1) };
	for (unsigned i = 0; i < ARRAY_SIZE(protocols); i++) {
		if (part_is(word, protocols[i].name)) {
			item->len = (size_t)(slash - item->p);
			return protocols[i].bits;
		}
	}
	if (word.len > 0 && *word.p >= 'a' && *word.p <= 'z' && !publish_is_keyword(word))
		return publish_fail(*item, "has a protocol that is not tcp, udp or tcp+udp", err);
	return PUBLISH_TCP;
}

/* ---------------------------------------------------------------- groups */

/* The group of these; NULL if there are too many. */
static struct group *group_find(struct groups *g, struct part where, enum proto proto)
{
	struct group *found = g->v;

	while (found < g->v + g->n &&
	       (found->proto != proto || found->where.len != where.len ||
		(where.len > 0 && memcmp(found->where.p, where.p, where.len) != 0)))
		found++;
	if (found == g->v + PUBLISH_GROUPS)
		return NULL;
	if (found == g->v + g->n) {
		*found = (struct group){ .where = where, .proto = proto };
		g->n++;
	}
	return found;
}

static int group_add(struct groups *g, struct part where, enum proto proto, struct part entry,
		     struct err *err)
{
	struct group *group = group_find(g, where, proto);
	char *longer;
	int n;

	if (!group)
		return err_set(err, E2BIG,
			       "annotation fwd.publish: more than %u addresses, each counted for "
			       "each protocol",
			       PUBLISH_GROUPS);
	if (group->spec)
		n = asprintf(&longer, "%s,%.*s", group->spec, (int)entry.len, entry.p);
	else
		n = asprintf(&longer, "%.*s%s%.*s", (int)where.len, where.len ? where.p : "",
			     where.len > 0 && where.p[where.len - 1] != '/' ? "/" : "",
			     (int)entry.len, entry.p);
	if (n < 0)
		return publish_no_memory(err);
	free(group->spec);
	group->spec = longer;
	group->includes |= *entry.p != '~';
	return 0;
}

/* One item; *@where is that of the item before it, and then its own. */
static int publish_item(struct groups *g, struct part item, struct part *where, struct err *err)
{
	struct part entry = item;
	int bits = publish_protocol(&entry, err), ret = 0;
	size_t head;

	if (bits < 0)
		return bits;
	head = portspec_head(entry.p, entry.len);
	if (head > 0)
		*where = (struct part){ entry.p, head };
	entry.p += head;
	entry.len -= head;
	if (entry.len == 0 && head == 0)
		return publish_fail(item, "names no port", err);
	if (entry.len == 0)
		entry = (struct part){ "all", 3 };
	for (enum proto proto = PROTO_TCP; proto < PROTO_NUM && ret == 0; proto++)
		if (bits & 1 << proto)
			ret = group_add(g, *where, proto, entry, err);
	return ret;
}

static int publish_groups(const struct groups *g, struct publish *p, struct err *err)
{
	int ret = 0;

	for (const struct group *group = g->v; group < g->v + g->n && ret == 0; group++) {
		if (!group->includes)
			return err_set(err, EINVAL,
				       "annotation fwd.publish: %s '%s' excludes ports of nothing",
				       proto_str(group->proto), group->spec);
		ret = publish_add(p, group->proto == PROTO_TCP ? "-t" : "-u", err);
		if (ret == 0)
			ret = publish_add(p, group->spec, err);
	}
	return ret;
}

/* ---------------------------------------------------------------- the annotations */

int publish_add(struct publish *p, const char *arg, struct err *err)
{
	if (p->n == PUBLISH_ARGS)
		return err_set(err, E2BIG, "annotations: more than %u arguments", PUBLISH_ARGS);
	p->v[p->n] = strdup(arg);
	return p->v[p->n++] ? 0 : publish_no_memory(err);
}

/* All items, sorted into @g. */
static int publish_items(const char *text, struct groups *g, struct err *err)
{
	const char *s = text + strspn(text, PUBLISH_SPACE);
	struct part where = { NULL, 0 };
	bool more = *s;

	while (more) {
		struct part item = { s, strcspn(s, "," PUBLISH_SPACE) };
		int ret;

		if (item.len == 0)
			return err_set(err, EINVAL, "annotation fwd.publish: an item is empty");
		ret = publish_item(g, item, &where, err);
		if (ret < 0)
			return ret;
		s += item.len;
		s += strspn(s, PUBLISH_SPACE);
		more = *s;
		if (*s == ',') {
			s++;
			s += strspn(s, PUBLISH_SPACE);
		} else {
			where.len = 0;
		}
	}
	return 0;
}

int publish_specs(const char *text, struct publish *p, struct err *err)
{
	struct groups groups = { .n = 0 };
	int ret = publish_items(text, &groups, err);

	if (ret == 0)
		ret = publish_groups(&groups, p, err);
	for (unsigned i = 0; i < groups.n; i++)
		free(groups.v[i].spec);
	return ret;
}

/* Is @word, of @len bytes, an option that an annotation may give? */
static int publish_check_option(const char *word, size_t len, struct err *err)
{
	static const struct {
		const char *name;
		bool has_value;
	} options[] = {
		{ "-4", false },
		{ "-6", false },
		{ "-q", false },
		{ "-d", false },
		{ "--ipv4-only", false },
		{ "--ipv6-only", false },
		{ "--quiet", false },
		{ "--debug", false },
		{ "--freebind", false },
		{ "--host-lo-to-ns-lo", false },
		{ "--source", true },
		{ "--engine", true },
		{ "--threads", true },
		{ "--max-flows", true },
		{ "--connect-timeout", true },
		{ "--half-closed-timeout", true },
		{ "--udp-timeout", true },
	};
	const char *equals = memchr(word, '=', len);
	struct part name = { word, equals ? (size_t)(equals - word) : len };

	for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
		if (!part_is(name, options[i].name))
			continue;
		if (options[i].has_value == (equals != NULL))
			return 0;
		return err_set(err, EINVAL, "annotation fwd.options: '%s' takes %s",
			       options[i].name, equals ? "no value" : "a value, behind '='");
	}
	return err_set(err, EINVAL, "annotation fwd.options: '%.*s' cannot be set by an annotation",
		       (int)(name.len < PUBLISH_QUOTE ? name.len : PUBLISH_QUOTE), word);
}

int publish_options(const char *text, struct publish *p, struct err *err)
{
	int ret = 0;

	for (const char *s = text + strspn(text, PUBLISH_SPACE); *s && ret == 0;) {
		size_t len = strcspn(s, PUBLISH_SPACE);
		char *word = strndup(s, len);

		if (!word)
			return publish_no_memory(err);
		ret = publish_check_option(s, len, err);
		if (ret == 0)
			ret = publish_add(p, word, err);
		free(word);
		s += len;
		s += strspn(s, PUBLISH_SPACE);
	}
	return ret;
}

void publish_free(struct publish *p)
{
	for (unsigned i = 0; i < p->n; i++)
		free(p->v[i]);
	p->n = 0;
}
