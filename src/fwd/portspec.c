/* SPDX-License-Identifier: Apache-2.0 */
/*
 * portspec.c - parse the port specifications of -t and -u
 *
 * Theory of operation. The text is cut from the outside in: the listening
 * address off the front, the rest at its commas, each entry at its first ':'.
 * Entries are only collected; what depends on all of them ("auto", exclusions
 * that come late, no include at all) is settled at the end, when each include
 * loses its excluded ports and becomes one rule per piece left.
 *
 * Two texts can be read in two ways. What stands before the first '/' is the
 * listening address if it is an address at all, so "80:fd00::1/443" listens on
 * 80:fd00::1; "80:[fd00::1]/443" leads from port 80 to fd00::1. Without a '/'
 * there is no listening address, so "2001:db8::1" leads from port 2001 to
 * db8::1. Brackets always settle it.
 *
 * Readers work on a struct cursor: on success they have moved it past what
 * they took, on failure it and all outputs are untouched. Messages are all of
 * one form, made in spec_fail() and part_fail().
 */

#include "fwd/portspec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util.h"

enum {
	PORT_MAX = 65535,
	QUOTE_SPEC_MAX = 256, /* bytes of the specification in a message */
	QUOTE_PART_MAX = 64,  /* bytes of its offending part */
	REASON_STRLEN = 224,
};

_Static_assert(QUOTE_SPEC_MAX + REASON_STRLEN + sizeof("port specification '...': ") <=
		       sizeof(((struct err *)0)->text),
	       "a long specification must not push the reason out of the message");

/* Text that is still to be read. */
struct cursor {
	const char *p, *end;
};

struct range {
	uint16_t first, last; /* both included */
};

struct parser {
	const char *spec;
	const struct portspec_env *env;
	struct err *err;

	struct rule head;	  /* what all rules share: protocol and where to listen */
	struct rules includes;	  /* owned; in the order given, exclusions not yet cut out */
	bool given[PORT_MAX + 1]; /* by @includes */
	bool excluded[PORT_MAX + 1];

	bool automatic;	      /* "auto" was given */
	bool has_auto_target; /* with an address: for includes without one */
	struct addr auto_target;
};

static int spec_fail(const struct parser *ps, const char *reason)
{
	const char *cut = strlen(ps->spec) > QUOTE_SPEC_MAX ? "..." : "";

	return err_set(ps->err, EINVAL, "port specification '%.*s%s': %s", QUOTE_SPEC_MAX, ps->spec,
		       cut, reason);
}

/* "@what '@part' @why" */
static int part_fail(const struct parser *ps, const char *what, struct cursor part, const char *why)
{
	bool fits = part.end - part.p <= QUOTE_PART_MAX;
	int len = fits ? (int)(part.end - part.p) : QUOTE_PART_MAX;
	char reason[REASON_STRLEN];

	snprintf(reason, sizeof(reason), "%s '%.*s%s' %s", what, len, part.p, fits ? "" : "...",
		 why);
	return spec_fail(ps, reason);
}

static bool cursor_is_empty(struct cursor c)
{
	return c.p == c.end;
}

static bool cursor_has(struct cursor c, char wanted)
{
	return memchr(c.p, wanted, (size_t)(c.end - c.p));
}

static bool cursor_char(struct cursor *c, char wanted)
{
	if (cursor_is_empty(*c) || *c->p != wanted)
		return false;
	c->p++;
	return true;
}

/* All characters that are of @wanted: at least one. */
static bool cursor_span(struct cursor *c, const char *wanted)
{
	const char *p = c->p;

	while (p < c->end && strchr(wanted, *p))
		p++;
	if (p == c->p)
		return false;
	c->p = p;
	return true;
}

/* All before @stop, or all there is: always succeeds, maybe with nothing. */
static struct cursor cursor_until(struct cursor *c, char stop)
{
	const char *p = memchr(c->p, stop, (size_t)(c->end - c->p));
	struct cursor ret = { c->p, p ? p : c->end };

	c->p = ret.end;
	return ret;
}

/* @word, with one of @stops or the end behind it. */
static bool cursor_word(struct cursor *c, const char *word, const char *stops)
{
	size_t len = strlen(word);
	const char *after = c->p + len;

	if ((size_t)(c->end - c->p) < len || memcmp(c->p, word, len) != 0)
		return false;
	if (after < c->end && !strchr(stops, *after))
		return false;
	c->p = after;
	return true;
}

/* A port, with nothing behind it. */
static bool cursor_port(struct cursor *c, uint16_t *ret)
{
	uint32_t port = 0;
	const char *p;

	for (p = c->p; p < c->end && *p >= '0' && *p <= '9' && port <= PORT_MAX; p++)
		port = port * 10 + (uint32_t)(*p - '0');
	if (p != c->end || port == 0 || port > PORT_MAX)
		return false;
	c->p = p;
	*ret = (uint16_t)port;
	return true;
}

/* address = IPv4 | IPv6 | "[" IPv6 "]", with nothing behind it. */
static bool cursor_address(struct cursor *c, struct addr *ret)
{
	struct cursor ip = *c;

	if (cursor_char(&ip, '[')) {
		if (cursor_is_empty(ip) || ip.end[-1] != ']' || !cursor_has(ip, ':'))
			return false;
		ip.end--;
	}
	if (!addr_parse(ip.p, (size_t)(ip.end - ip.p), ret))
		return false;
	c->p = c->end;
	return true;
}

/* Is @text meant as a range, right or wrong, rather than as an address? */
static bool range_like(struct cursor text)
{
	return cursor_span(&text, "0123456789-") && !cursor_has(text, '.') &&
	       !cursor_has(text, ':');
}

static int range_parse(const struct parser *ps, struct cursor text, struct range *ret)
{
	struct cursor rest = text, first = cursor_until(&rest, '-');
	struct cursor last = cursor_char(&rest, '-') ? rest : first;
	struct range range = { 0 };

	if (cursor_is_empty(first))
		return part_fail(ps, "range", text, "lacks its first port");
	if (cursor_is_empty(last))
		return part_fail(ps, "range", text, "lacks its last port");
	if (!cursor_port(&first, &range.first))
		return part_fail(ps, "port", first, "is not a number from 1 to 65535");
	if (!cursor_port(&last, &range.last))
		return part_fail(ps, "port", last, "is not a number from 1 to 65535");
	if (range.last < range.first)
		return part_fail(ps, "range", text, "ends before it begins");
	*ret = range;
	return 0;
}

/* What holds for every address, listening or target; @what it is, @text for the message. */
static int address_check(const struct parser *ps, const char *what, struct cursor text,
			 const struct addr *a)
{
	static const struct addr broadcast = { .ip = { [10] = 0xff, 0xff, 255, 255, 255, 255 } };

	if (addr_is_multicast(a))
		return part_fail(ps, what, text, "is multicast: only unicast can be forwarded");
	if (addr_same_ip(a, &broadcast))
		return part_fail(ps, what, text, "is broadcast: only unicast can be forwarded");
	if (addr_family(a) == ADDR_V4 && !ps->env->v4)
		return part_fail(ps, what, text, "is IPv4, but -6 allows IPv6 only");
	if (addr_family(a) == ADDR_V6 && !ps->env->v6)
		return part_fail(ps, what, text, "is IPv6, but -4 allows IPv4 only");
	return 0;
}

/* The address of a target, into @r. */
static int target_address(const struct parser *ps, struct cursor text, struct rule *r)
{
	struct cursor c = text;
	struct addr a;
	int ret;

	if (cursor_has(text, '%'))
		return part_fail(ps, "target", text,
				 "has a zone: only a listening address takes an interface");
	if (!cursor_address(&c, &a))
		return part_fail(ps, "target", text, "is not an IP address");
	if (addr_is_any(&a))
		return part_fail(ps, "target", text, "is not the address of a host");
	ret = address_check(ps, "target", text, &a);
	if (ret < 0)
		return ret;
	r->has_target = true;
	r->target = a;
	return 0;
}

/* Take @r, for which @entry stands, as an include. */
static int include_add(struct parser *ps, struct cursor entry, const struct rule *r)
{
	for (unsigned port = r->first; port <= r->last; port++) {
		char why[32];

		if (ps->given[port]) {
			snprintf(why, sizeof(why), "repeats port %u", port);
			return part_fail(ps, "entry", entry, why);
		}
		ps->given[port] = true;
	}
	if (rules_add(&ps->includes, r) < 0)
		return err_sys(ps->err, ENOMEM, "port specification '%s'", ps->spec);
	return 0;
}

/* Every port but the ephemeral ones; @like tells the rest. */
static int include_all(struct parser *ps, struct cursor entry, const struct rule *like)
{
	const int parts[][2] = { { 1, ps->env->ephemeral_first - 1 },
				 { ps->env->ephemeral_last + 1, PORT_MAX } };
	struct rule r = *like;

	r.weak = true;
	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
		int ret;

		if (parts[i][0] > parts[i][1])
			continue;
		r.first = r.to_first = (uint16_t)parts[i][0];
		r.last = (uint16_t)parts[i][1];
		ret = include_add(ps, entry, &r);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* What may follow "all" and "auto": nothing, or ":" and an address. */
static int keyword_target(const struct parser *ps, struct cursor entry, struct cursor rest,
			  struct rule *r)
{
	if (!cursor_char(&rest, ':'))
		return 0;
	if (cursor_is_empty(rest))
		return part_fail(ps, "entry", entry, "has an empty target");
	return target_address(ps, rest, r);
}

static int entry_all(struct parser *ps, struct cursor entry, struct cursor rest)
{
	struct rule r = ps->head;
	int ret = keyword_target(ps, entry, rest, &r);

	return ret < 0 ? ret : include_all(ps, entry, &r);
}

static int entry_auto(struct parser *ps, struct cursor entry, struct cursor rest)
{
	struct rule r = { 0 };
	int ret = keyword_target(ps, entry, rest, &r);

	if (ret < 0)
		return ret;
	if (ps->automatic)
		return part_fail(ps, "entry", entry, "repeats 'auto'");
	ps->automatic = true;
	ps->has_auto_target = r.has_target;
	ps->auto_target = r.target;
	return 0;
}

static int entry_exclude(struct parser *ps, struct cursor entry, struct cursor rest)
{
	struct range range = { 0 };
	int ret;

	if (cursor_is_empty(rest))
		return part_fail(ps, "entry", entry, "excludes nothing");
	if (cursor_has(rest, ':'))
		return part_fail(ps, "entry", entry, "excludes, and so cannot have a target");
	ret = range_parse(ps, rest, &range);
	if (ret < 0)
		return ret;
	for (unsigned port = range.first; port <= range.last; port++)
		ps->excluded[port] = true;
	return 0;
}

/* target = range | address | address "/" range: of @r, whose host range is set. */
static int entry_target(const struct parser *ps, struct cursor entry, struct cursor text,
			struct rule *r)
{
	struct cursor range = text, address = cursor_until(&range, '/');
	bool has_slash = cursor_char(&range, '/');
	struct range to;
	int ret;

	if (cursor_is_empty(text))
		return part_fail(ps, "entry", entry, "has an empty target");
	if (has_slash || !range_like(text)) {
		ret = target_address(ps, address, r);
		if (ret < 0 || !has_slash)
			return ret;
	} else {
		range = text;
	}

	if (cursor_is_empty(range))
		return part_fail(ps, "entry", entry, "lacks the target port behind '/'");
	ret = range_parse(ps, range, &to);
	if (ret < 0)
		return ret;
	if (cursor_has(range, '-') && to.last - to.first != r->last - r->first)
		return part_fail(ps, "entry", entry, "maps to a range of another length");
	if (to.first + (r->last - r->first) > PORT_MAX)
		return part_fail(ps, "entry", entry, "leads beyond port 65535");
	r->to_first = to.first;
	return 0;
}

/* Those who write an address where none can be deserve to hear just that. */
static bool entry_begins_with_address(struct cursor entry, struct cursor *ret)
{
	for (const char *stop = "/:"; *stop; stop++) {
		struct cursor rest = entry, text = cursor_until(&rest, *stop), c = text;
		struct addr ignored;

		if (cursor_address(&c, &ignored)) {
			*ret = text;
			return true;
		}
	}
	return false;
}

static int entry_include(struct parser *ps, struct cursor entry)
{
	struct cursor rest = entry, host = cursor_until(&rest, ':'), address;
	struct rule r = ps->head;
	struct range range = { 0 };
	int ret;

	if (!range_like(host) && entry_begins_with_address(entry, &address))
		return part_fail(ps, "address", address,
				 "must begin the specification, with a '/' behind it");
	if (cursor_is_empty(host))
		return part_fail(ps, "entry", entry, "lacks its host port");
	ret = range_parse(ps, host, &range);
	if (ret < 0)
		return ret;
	r.first = r.to_first = range.first;
	r.last = range.last;

	if (cursor_char(&rest, ':')) {
		ret = entry_target(ps, entry, rest, &r);
		if (ret < 0)
			return ret;
	}
	return include_add(ps, entry, &r);
}

static int entry_parse(struct parser *ps, struct cursor entry)
{
	struct cursor c = entry;

	if (cursor_word(&c, "none", ""))
		return part_fail(ps, "entry", entry, "must be the whole specification");
	if (cursor_char(&c, '~'))
		return entry_exclude(ps, entry, c);
	if (cursor_word(&c, "all", ":"))
		return entry_all(ps, entry, c);
	if (cursor_word(&c, "auto", ":"))
		return entry_auto(ps, entry, c);
	return entry_include(ps, entry);
}

/* ports = entry *( "," entry ), or nothing */
static int entries_parse(struct parser *ps, struct cursor list)
{
	struct cursor c = list;

	if (cursor_is_empty(list))
		return 0;
	do {
		struct cursor entry = cursor_until(&c, ',');
		int ret;

		if (cursor_is_empty(entry))
			return part_fail(ps, "list", list, "has an empty entry");
		ret = entry_parse(ps, entry);
		if (ret < 0)
			return ret;
	} while (cursor_char(&c, ','));
	return 0;
}

/*
 * Refuses what the kernel does (dev_valid_name() in net/core/dev.c), '%', and
 * ',': "%eth0,80" lacks a '/' rather than names such a device.
 */
static int head_interface(struct parser *ps, struct cursor name)
{
	size_t len = (size_t)(name.end - name.p);

	if (len == 0)
		return spec_fail(ps, "no interface behind '%'");
	if (len >= IFNAMSIZ)
		return part_fail(ps, "interface", name, "is longer than 15 bytes");
	for (const char *p = name.p; p < name.end; p++) {
		if (strchr(" \t\n\v\f\r:,%/", *p))
			return part_fail(ps, "interface", name, "is no possible name of one");
	}
	memcpy(ps->head.ifname, name.p, len);
	ps->head.ifname[len] = '\0';
	return 0;
}

/* Does @text begin as a list of entries does, rather than as an address? */
static bool head_is_list(struct cursor text)
{
	struct cursor c = text;

	if (cursor_char(&c, '~') || cursor_word(&c, "all", ":,") || cursor_word(&c, "auto", ":,"))
		return true;
	return cursor_span(&c, "0123456789") && !cursor_is_empty(c) && strchr("-:,", *c.p);
}

/* [address] [ "%" interface ], in the parser's head */
static int head_parse(struct parser *ps, struct cursor text)
{
	struct cursor rest = text, address = cursor_until(&rest, '%'), c = address;
	struct addr a;
	int ret;

	if (!cursor_is_empty(address)) {
		if (cursor_has(address, '[') && !cursor_has(address, ']') && cursor_has(rest, ']'))
			return part_fail(ps, "address", text,
					 "has a zone in its brackets: write '[address]%interface'");
		if (!cursor_address(&c, &a))
			return part_fail(ps, "listening address", address, "is not an IP address");
		ret = address_check(ps, "listening address", address, &a);
		if (ret < 0)
			return ret;
		if (addr_is_link_local(&a) && cursor_is_empty(rest))
			return part_fail(ps, "listening address", address,
					 "is link-local: add '%interface'");
		ps->head.any = false;
		ps->head.bind = a;
	}
	return cursor_char(&rest, '%') ? head_interface(ps, rest) : 0;
}

/* Does @c begin with where to listen? That, without the '/' behind it, is @ret then. */
static bool head_find(struct cursor c, struct cursor *ret)
{
	struct cursor text = cursor_until(&c, '/');
	struct cursor rest = text, address = cursor_until(&rest, '%');
	bool has_slash = cursor_char(&c, '/');
	struct addr ignored;

	if (!has_slash && (cursor_is_empty(text) || *text.p != '%'))
		return false;
	if (!cursor_is_empty(text) && !cursor_address(&address, &ignored) && head_is_list(text))
		return false;
	*ret = text;
	return true;
}

/* Take what stands before the list of entries off @c, if anything does. */
static int head_take(struct parser *ps, struct cursor *c)
{
	struct cursor text;
	int ret;

	if (!head_find(*c, &text))
		return 0;
	if (cursor_is_empty(text))
		return spec_fail(ps, "no address before '/'");
	ret = head_parse(ps, text);
	if (ret < 0)
		return ret;
	c->p = text.end;
	cursor_char(c, '/');
	return 0;
}

static int rule_compare(const void *a, const void *b)
{
	const struct rule *x = a, *y = b;

	return x->first - y->first;
}

/* Append to @ret what the exclusions leave of @include. */
static int include_cut(const struct rule *include, const bool *excluded, struct rules *ret)
{
	struct rule r = *include;

	for (unsigned port = include->first; port <= include->last; port++) {
		if (excluded[port])
			continue;
		r.first = (uint16_t)port;
		r.to_first = rule_target_port(include, r.first);
		while (port < include->last && !excluded[port + 1])
			port++;
		r.last = (uint16_t)port;
		if (rules_add(ret, &r) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* All is read: from what was collected to rules. */
static int parser_finish(struct parser *ps, struct rules *ret)
{
	unsigned before = ret->n;

	if (ps->includes.n > 0) /* qsort(NULL, 0) is undefined */
		qsort(ps->includes.v, ps->includes.n, sizeof(*ps->includes.v), rule_compare);
	for (unsigned i = 0; i < ps->includes.n; i++) {
		struct rule *include = &ps->includes.v[i];

		include->automatic = ps->automatic;
		if (ps->has_auto_target && !include->has_target) {
			include->has_target = true;
			include->target = ps->auto_target;
		}
		if (include_cut(include, ps->excluded, ret) < 0) {
			ret->n = before;
			return err_sys(ps->err, ENOMEM, "port specification '%s'", ps->spec);
		}
	}
	return ret->n > before ? 0 : spec_fail(ps, "no port is left to forward");
}

static int parser_run(struct parser *ps, struct rules *ret)
{
	struct cursor c = { ps->spec, ps->spec + strlen(ps->spec) };
	struct cursor nothing = c;
	int rc;

	fwd_assert(ps->env->ephemeral_first <= ps->env->ephemeral_last);
	if (cursor_is_empty(c))
		return spec_fail(ps, "nothing given; 'none' stands for no port");
	if (cursor_word(&nothing, "none", ""))
		return 0;

	rc = head_take(ps, &c);
	if (rc == 0)
		rc = entries_parse(ps, c);
	if (rc == 0 && ps->includes.n == 0)
		rc = include_all(ps, c, &ps->head);
	return rc == 0 ? parser_finish(ps, ret) : rc;
}

int portspec_parse(enum proto proto, const char *spec, const struct portspec_env *env,
		   struct rules *ret, struct err *err)
{
	struct parser ps = {
		.spec = spec,
		.env = env,
		.err = err,
		.head = { .proto = proto, .any = true },
	};
	int rc = parser_run(&ps, ret);

	rules_free(&ps.includes);
	return rc;
}

size_t portspec_head(const char *spec, size_t len)
{
	struct cursor c = { spec, spec + len }, text;

	if (!head_find(c, &text))
		return 0;
	c.p = text.end;
	cursor_char(&c, '/');
	return (size_t)(c.p - spec);
}
