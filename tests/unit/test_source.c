/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_source.c - the ladder of source addresses, rung by rung
 *
 * A ladder is compared as text, one line for each try:
 *
 *	TARGET < SOURCE FATE		bind to SOURCE first
 *	TARGET < SOURCE FATE !		and check that it has not met itself
 *	TARGET FATE !			let the kernel choose
 */

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fwd/source.h"
#include "util.h"

enum { TIMEOUT = 10, ROWS_MAX = 64, TEXT = 1024, CONTAINER_PORT = 80, CLIENT_PORT = 4000 };

/* What a row is about. Without a flag: keep, transparent, both families. */
enum {
	REQUIRE = 1 << 0,
	OFF = 1 << 1,
	LO_TO_LO = 1 << 2,
	OPAQUE = 1 << 3, /* foreign addresses cannot be bound in there */
	ONLY4 = 1 << 4,	 /* the container has no IPv6 */
	ONLY6 = 1 << 5,	 /* and no IPv4 */
	NO_NET = 1 << 6, /* it has only its loopback device */
	OTHER = 1 << 7,	 /* the other family first */
};

struct row {
	const char *client, *target; /* NULL: the container's own */
	unsigned is;
	const char *want;
};

static unsigned row_index[ROWS_MAX];

static struct addr parse(const char *text, uint16_t port)
{
	struct addr ret;

	cr_assert(addr_parse(text, strlen(text), &ret), "%s", text);
	ret.port = port;
	if (addr_is_link_local(&ret))
		ret.scope = 7; /* a device of the host */
	return ret;
}

static struct source_policy policy_of(unsigned is)
{
	return (struct source_policy){ .mode = is & REQUIRE ? SOURCE_MODE_REQUIRE
					       : is & OFF   ? SOURCE_MODE_OFF
							    : SOURCE_MODE_KEEP,
				       .loopback_to_loopback = is & LO_TO_LO };
}

static struct source_targets targets_of(unsigned is)
{
	return (struct source_targets){
		.addr = { [ADDR_V4] = parse(is & NO_NET ? "127.0.0.1" : "10.0.2.100", 0),
			  [ADDR_V6] = parse(is & NO_NET ? "::1" : "fd00::100", 0) },
		.have = { [ADDR_V4] = !(is & ONLY6), [ADDR_V6] = !(is & ONLY4) },
		.transparent = !(is & OPAQUE),
	};
}

static unsigned climb(const char *client, const char *target, unsigned is,
		      struct source_try ret[SOURCE_TRIES])
{
	struct source_policy policy = policy_of(is);
	struct source_targets targets = targets_of(is);
	struct addr from = parse(client, CLIENT_PORT), to;

	if (target)
		to = parse(target, 0);
	return source_ladder(&policy, &targets, &from, target ? &to : NULL, CONTAINER_PORT,
			     is & OTHER, ret);
}

static const char *fate_word(enum source_fate fate)
{
	static const char *const words[] = { "kept", "port", "standin", "lost" };

	return words[fate];
}

static void print(const struct source_try *tries, unsigned n, char buf[TEXT])
{
	char to[ADDR_STRLEN], from[ADDR_STRLEN];
	size_t len = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < n; i++)
		len += (size_t)snprintf(buf + len, TEXT - len, "%s%s%s %s%s\n",
					addr_str(&tries[i].target, to), tries[i].bind ? " < " : "",
					tries[i].bind ? addr_str(&tries[i].source, from) : "",
					fate_word(tries[i].fate),
					tries[i].may_meet_itself ? " !" : "");
}

/* ---------------------------------------------------------------- the table */

#define V4_KEPT	   "10.0.2.100:80 < 198.51.100.7:4000 kept\n"
#define V4_PORT	   "10.0.2.100:80 < 198.51.100.7:0 port\n"
#define V4_LOST	   "10.0.2.100:80 lost !\n"
#define V6_KEPT	   "[fd00::100]:80 < [2001:db8::7]:4000 kept\n"
#define V6_PORT	   "[fd00::100]:80 < [2001:db8::7]:0 port\n"
#define V6_LOST	   "[fd00::100]:80 lost !\n"
#define NAT64_KEPT "[fd00::100]:80 < [64:ff9b::c633:6407]:4000 kept\n"
#define NAT64	   NAT64_KEPT "[fd00::100]:80 < [64:ff9b::c633:6407]:0 port\n"
#define STANDIN4                                                                                   \
	"10.0.2.100:80 < 192.0.0.8:4000 standin\n"                                                 \
	"10.0.2.100:80 < 192.0.0.8:0 standin\n"
#define STANDIN6                                                                                   \
	"[fd00::100]:80 < [100:0:0:1::1]:4000 standin\n"                                           \
	"[fd00::100]:80 < [100:0:0:1::1]:0 standin\n"
#define LO4_STANDIN_LOST                                                                           \
	"127.0.0.1:80 < 192.0.0.8:4000 lost\n"                                                     \
	"127.0.0.1:80 < 192.0.0.8:0 lost\n"
#define LO6_STANDIN_LOST                                                                           \
	"[::1]:80 < [100:0:0:1::1]:4000 lost\n"                                                    \
	"[::1]:80 < [100:0:0:1::1]:0 lost\n"

static const struct row rows[] = {
	/* address and port, address, nothing; then the other family */
	{ "198.51.100.7", NULL, ONLY4, V4_KEPT V4_PORT V4_LOST },
	{ "2001:db8::7", NULL, ONLY6, V6_KEPT V6_PORT V6_LOST },
	{ "198.51.100.7", NULL, 0, V4_KEPT V4_PORT V4_LOST NAT64 V6_LOST },
	{ "198.51.100.7", NULL, OTHER, NAT64 V6_LOST V4_KEPT V4_PORT V4_LOST },
	{ "2001:db8::7", NULL, 0, V6_KEPT V6_PORT V6_LOST V4_LOST },
	{ "2001:db8::7", NULL, OTHER, V4_LOST V6_KEPT V6_PORT V6_LOST },

	/* an IPv4 client is shown to IPv6 by NAT64; an IPv6 client cannot be shown to IPv4 */
	{ "198.51.100.7", NULL, ONLY6, NAT64 V6_LOST },
	{ "198.51.100.7", NULL, ONLY6 | REQUIRE, NAT64_KEPT },
	{ "2001:db8::7", NULL, ONLY4, V4_LOST },
	{ "2001:db8::7", NULL, ONLY4 | REQUIRE, "" },
	{ "198.51.100.7", NULL, ONLY4 | ONLY6, "" },

	/* --source=require: kept or nothing; off: do not try */
	{ "198.51.100.7", NULL, REQUIRE | ONLY4, V4_KEPT },
	{ "2001:db8::7", NULL, REQUIRE, V6_KEPT },
	{ "2001:db8::7", NULL, REQUIRE | OTHER, V6_KEPT },
	{ "198.51.100.7", NULL, OFF, V4_LOST V6_LOST },
	{ "198.51.100.7", NULL, OFF | OTHER, V6_LOST V4_LOST },

	/* where foreign addresses cannot be bound */
	{ "198.51.100.7", NULL, OPAQUE, V4_LOST V6_LOST },
	{ "2001:db8::7", NULL, OPAQUE, V6_LOST V4_LOST },
	{ "198.51.100.7", NULL, OPAQUE | REQUIRE, "" },
	{ "127.0.0.1", NULL, OPAQUE, V4_LOST V6_LOST },
	{ "127.0.0.1", NULL, OPAQUE | REQUIRE, "" },

	/* clients on the host's loopback: a stand-in */
	{ "127.0.0.1", NULL, ONLY4, STANDIN4 },
	{ "127.1.2.3", NULL, ONLY4, STANDIN4 },
	{ "::1", NULL, ONLY6, STANDIN6 },
	{ "127.0.0.1", NULL, 0, STANDIN4 STANDIN6 },
	{ "::1", NULL, 0, STANDIN6 STANDIN4 },
	{ "::1", NULL, ONLY4, STANDIN4 },
	{ "127.0.0.1", NULL, REQUIRE | ONLY4, STANDIN4 },
	{ "127.0.0.1", NULL, OFF | ONLY4, V4_LOST },

	/* --host-lo-to-ns-lo: shown as it is, at the container's loopback */
	{ "127.0.0.1", NULL, LO_TO_LO | ONLY4,
	  "127.0.0.1:80 < 127.0.0.1:4000 kept !\n"
	  "127.0.0.1:80 < 127.0.0.1:0 port !\n"
	  "127.0.0.1:80 lost !\n" },
	{ "127.9.9.9", NULL, LO_TO_LO | ONLY4,
	  "127.0.0.1:80 < 127.9.9.9:4000 kept\n"
	  "127.0.0.1:80 < 127.9.9.9:0 port\n"
	  "127.0.0.1:80 lost !\n" },
	{ "::1", NULL, LO_TO_LO | ONLY6 | OPAQUE,
	  "[::1]:80 < [::1]:4000 kept !\n"
	  "[::1]:80 < [::1]:0 port !\n"
	  "[::1]:80 lost !\n" },
	{ "::1", NULL, LO_TO_LO | REQUIRE | ONLY6, "[::1]:80 < [::1]:4000 kept !\n" },
	{ "::1", NULL, LO_TO_LO | OFF | ONLY6, "[::1]:80 lost !\n" },
	{ "::1", NULL, LO_TO_LO | ONLY4, "127.0.0.1:80 lost !\n" },
	{ "198.51.100.7", NULL, LO_TO_LO | ONLY4, V4_KEPT V4_PORT V4_LOST },

	/* network=none: the container has only its loopback, and nothing is shown as that */
	{ "198.51.100.7", NULL, NO_NET | ONLY4,
	  "127.0.0.1:80 < 198.51.100.7:4000 kept\n"
	  "127.0.0.1:80 < 198.51.100.7:0 port\n" LO4_STANDIN_LOST },
	{ "2001:db8::7", NULL, NO_NET | ONLY6,
	  "[::1]:80 < [2001:db8::7]:4000 kept\n"
	  "[::1]:80 < [2001:db8::7]:0 port\n" LO6_STANDIN_LOST },
	{ "2001:db8::7", NULL, NO_NET | ONLY4, LO4_STANDIN_LOST },
	{ "198.51.100.7", NULL, NO_NET | OFF, LO4_STANDIN_LOST LO6_STANDIN_LOST },
	{ "198.51.100.7", NULL, NO_NET | OPAQUE, "" },
	{ "127.0.0.1", NULL, NO_NET | OPAQUE, "" },
	{ "127.0.0.1", NULL, NO_NET | ONLY4,
	  "127.0.0.1:80 < 192.0.0.8:4000 standin\n"
	  "127.0.0.1:80 < 192.0.0.8:0 standin\n" },

	/* a target in the port specification: that and no other */
	{ "198.51.100.7", "10.9.9.9", 0,
	  "10.9.9.9:80 < 198.51.100.7:4000 kept\n"
	  "10.9.9.9:80 < 198.51.100.7:0 port\n"
	  "10.9.9.9:80 lost !\n" },
	{ "198.51.100.7", "10.9.9.9", OTHER | ONLY6,
	  "10.9.9.9:80 < 198.51.100.7:4000 kept\n"
	  "10.9.9.9:80 < 198.51.100.7:0 port\n"
	  "10.9.9.9:80 lost !\n" },
	{ "2001:db8::7", "10.9.9.9", 0, "10.9.9.9:80 lost !\n" },
	{ "198.51.100.7", "127.0.0.5", OPAQUE, "" },
	{ "127.0.0.1", "10.9.9.9", LO_TO_LO, "10.9.9.9:80 lost !\n" },
	{ "127.0.0.1", "10.9.9.9", LO_TO_LO | REQUIRE, "" },
	{ "127.0.0.1", "127.0.0.5", LO_TO_LO,
	  "127.0.0.5:80 < 127.0.0.1:4000 kept\n"
	  "127.0.0.5:80 < 127.0.0.1:0 port\n"
	  "127.0.0.5:80 lost !\n" },

	/* link-local clients arrive over the container's loopback device */
	{ "fe80::7", NULL, ONLY6,
	  "[fd00::100]:80 < [fe80::7%1]:4000 kept\n"
	  "[fd00::100]:80 < [fe80::7%1]:0 port\n" V6_LOST },
	{ "fe80::7", NULL, ONLY4, V4_LOST },

	/* a client with the container's address may meet itself */
	{ "10.0.2.100", NULL, ONLY4,
	  "10.0.2.100:80 < 10.0.2.100:4000 kept !\n"
	  "10.0.2.100:80 < 10.0.2.100:0 port !\n" V4_LOST },
};

ParameterizedTestParameters(source, climbs_down_the_ladder)
{
	cr_assert_leq(ARRAY_SIZE(rows), ROWS_MAX);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		row_index[i] = i;
	return cr_make_param_array(unsigned, row_index, ARRAY_SIZE(rows), NULL);
}

/* Each row of the table. */
ParameterizedTest(const unsigned *row, source, climbs_down_the_ladder, .timeout = TIMEOUT)
{
	struct source_try tries[SOURCE_TRIES];
	char got[TEXT];

	print(tries, climb(rows[*row].client, rows[*row].target, rows[*row].is, tries), got);
	cr_assert_str_eq(got, rows[*row].want, "%s to %s, %#x:\n%swanted:\n%s", rows[*row].client,
			 rows[*row].target ? rows[*row].target : "the container", rows[*row].is,
			 got, rows[*row].want);
}

/* A client with the very address and port of the target would meet nobody but itself. */
Test(source, leaves_out_the_target_as_its_own_source, .timeout = TIMEOUT)
{
	struct source_policy policy = policy_of(0);
	struct source_targets targets = targets_of(ONLY4);
	struct addr client = parse("10.0.2.100", CLIENT_PORT);
	struct source_try tries[SOURCE_TRIES];
	char got[TEXT];

	print(tries, source_ladder(&policy, &targets, &client, NULL, CLIENT_PORT, false, tries),
	      got);
	cr_assert_str_eq(got, "10.0.2.100:4000 < 10.0.2.100:0 port !\n"
			      "10.0.2.100:4000 lost !\n");
}

/* ---------------------------------------------------------------- for all combinations */

static const char *const all_clients[] = {
	"198.51.100.7", "10.0.2.100",	   "2001:db8::7", "fd00::100",	 "fe80::7", "192.0.0.8",
	"100:0:0:1::1", "64:ff9b::7f00:1", "127.0.0.1",	  "127.255.0.9", "::1",
};

static const char *const all_targets[] = {
	NULL, "10.9.9.9", "fd00::9", "127.0.0.1", "127.0.0.9", "::1", "192.0.0.8", "100:0:0:1::1",
};

typedef void check_fn(const struct addr *client, unsigned is, const struct source_try *t);

static void check_all_of(const char *client, const char *target, unsigned is, check_fn *check)
{
	struct source_try tries[SOURCE_TRIES];
	struct addr from = parse(client, CLIENT_PORT);
	unsigned n = climb(client, target, is, tries);

	cr_assert_leq(n, SOURCE_TRIES);
	for (unsigned i = 0; i < n; i++) {
		if (target) {
			struct addr to = parse(target, CONTAINER_PORT);

			cr_assert(addr_equal(&tries[i].target, &to));
		}
		check(&from, is, &tries[i]);
	}
}

/* Every client to every target under every combination of flags. */
static void check_all(check_fn *check)
{
	for (unsigned is = 0; is < 2 * OTHER; is++)
		for (size_t c = 0; c < ARRAY_SIZE(all_clients); c++)
			for (size_t t = 0; t < ARRAY_SIZE(all_targets); t++)
				if ((is & (REQUIRE | OFF)) != (REQUIRE | OFF))
					check_all_of(all_clients[c], all_targets[t], is, check);
}

/* The kernel's own choice towards a loopback address is a loopback address. */
static void check_not_loopback(const struct addr *client, unsigned is, const struct source_try *t)
{
	bool shown = addr_is_loopback(t->bind ? &t->source : &t->target);

	if (addr_is_loopback(client) && is & LO_TO_LO)
		return;
	cr_assert_not(shown, "flags %#x", is);
}

/* What applications trust is shown for the host's loopback alone, and only if the user says so. */
Test(source, never_shows_a_client_as_loopback, .timeout = TIMEOUT)
{
	check_all(check_not_loopback);
}

static void check_mode(const struct addr *client, unsigned is, const struct source_try *t)
{
	if (is & REQUIRE)
		cr_assert(t->fate == SOURCE_KEPT || t->fate == SOURCE_STANDIN);
	if (is & OFF)
		cr_assert_eq(t->fate, SOURCE_LOST);
	if (t->fate == SOURCE_STANDIN)
		cr_assert(addr_is_loopback(client) && !(is & LO_TO_LO));
}

/* require never loses an address, off never tries to keep one. */
Test(source, obeys_the_policy, .timeout = TIMEOUT)
{
	check_all(check_mode);
}

static void check_bind(const struct addr *client, unsigned is, const struct source_try *t)
{
	(void)client;
	if (!t->bind)
		return;
	cr_assert_eq(addr_family(&t->source), addr_family(&t->target));
	cr_assert_not(addr_equal(&t->source, &t->target), "it would meet itself");
	if (is & OPAQUE)
		cr_assert(addr_is_loopback(&t->source), "flags %#x", is);
}

/* What is bound is of the target's family, not the target, and needs no privilege that lacks. */
Test(source, binds_only_what_can_be_bound, .timeout = TIMEOUT)
{
	check_all(check_bind);
}

static void check_fate(const struct addr *client, unsigned is, const struct source_try *t)
{
	struct addr shown = t->source;

	(void)is;
	cr_assert_eq(t->target.port, CONTAINER_PORT);
	cr_assert(t->may_meet_itself || (t->bind && !addr_same_ip(&t->source, &t->target)));
	if (t->fate != SOURCE_KEPT && t->fate != SOURCE_PORT)
		return;
	cr_assert(t->bind);
	cr_assert_eq(shown.port, t->fate == SOURCE_KEPT ? CLIENT_PORT : 0);
	shown.scope = client->scope;
	if (addr_family(client) != addr_family(&shown)) {
		struct addr nat64 = addr_nat64(client);

		cr_assert(addr_same_ip(&shown, &nat64));
	} else {
		cr_assert(addr_same_ip(&shown, client));
	}
}

/* What is called kept is the client's own. */
Test(source, tells_the_truth_about_what_it_shows, .timeout = TIMEOUT)
{
	check_all(check_fate);
}

/* ---------------------------------------------------------------- the way down */

/* 0-2: IPv4, 3-5: IPv6 */
static const struct {
	int code;
	unsigned from, want;
} steps[] = {
	/* taken in there: one step down */
	{ EADDRINUSE, 0, 1 },
	{ EADDRINUSE, 1, 2 },
	{ EADDRNOTAVAIL, 0, 1 },
	{ EADDRNOTAVAIL, 1, 2 },
	{ EPERM, 0, 1 },
	{ EADDRNOTAVAIL, 2, 3 },
	{ EADDRNOTAVAIL, 5, 6 },
	/* nobody there: the other target */
	{ ECONNREFUSED, 0, 3 },
	{ ECONNREFUSED, 1, 3 },
	{ ECONNREFUSED, 2, 3 },
	{ ENETUNREACH, 0, 3 },
	{ EHOSTUNREACH, 0, 3 },
	{ ETIMEDOUT, 0, 3 },
	{ ECONNREFUSED, 3, 6 },
	{ ECONNREFUSED, 5, 6 },
};

/* An address that is taken leads one step down, a target that does not answer to the next one. */
Test(source, goes_on_by_what_has_failed, .timeout = TIMEOUT)
{
	struct source_try tries[SOURCE_TRIES];
	unsigned n = climb("198.51.100.7", NULL, 0, tries);

	cr_assert_eq(n, 6);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
		cr_assert_eq(source_next(tries, n, steps[i].from, steps[i].code), steps[i].want,
			     "%s at %u", strerror(steps[i].code), steps[i].from);
}

/* Where the address must be kept, one that is taken is not tried at another target. */
Test(source, does_not_leave_a_target_for_a_taken_address, .timeout = TIMEOUT)
{
	struct source_try tries[SOURCE_TRIES];
	unsigned n = climb("198.51.100.7", NULL, REQUIRE, tries);

	cr_assert_eq(n, 2);
	cr_assert_eq(source_next(tries, n, 0, EADDRINUSE), n);
	cr_assert_eq(source_next(tries, n, 0, ECONNREFUSED), 1);
}

/* From any try, with any error, it goes forward and comes to an end. */
Test(source, always_comes_to_an_end, .timeout = TIMEOUT)
{
	struct source_try tries[SOURCE_TRIES];
	unsigned n = climb("198.51.100.7", NULL, 0, tries);

	for (int code = 1; code < 134; code++) {
		for (unsigned i = 0; i < n; i++) {
			unsigned next = source_next(tries, n, i, code);

			cr_assert(next > i && next <= n);
		}
	}
}

/* Every fate has words for the user. */
Test(source, has_words_for_each_fate, .timeout = TIMEOUT)
{
	for (int i = 0; i < SOURCE_FATES; i++)
		for (int j = 0; j < i; j++)
			cr_assert_str_neq(source_fate_str((enum source_fate)i),
					  source_fate_str((enum source_fate)j));
}
