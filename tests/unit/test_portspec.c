/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_portspec.c - port specifications: what they mean, and what is said of bad ones
 *
 * Unless a test says otherwise the ephemeral ports are 32768 to 60999 and both
 * families are allowed. Parameters are indices into the tables: Criterion
 * copies them into the process of each test.
 */

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fwd/portspec.h"
#include "util.h"

enum { TIMEOUT = 10, ROWS_MAX = 128, RULES_MAX = 3 };

/* What rule_str() does not tell, or tells in words. */
enum { ANY = 1, WEAK = 2, AUTO = 4, TARGET = 8 };

struct good {
	const char *spec;
	struct {
		const char *text;
		uint16_t first, last, to_first;
		unsigned is;
	} rules[RULES_MAX + 1]; /* up to the first without text */
};

struct bad {
	const char *spec, *reason;
};

static const struct portspec_env dual = { 32768, 60999, true, true };
static const struct portspec_env only4 = { 32768, 60999, true, false };
static const struct portspec_env only6 = { 32768, 60999, false, true };

static unsigned row_index[ROWS_MAX];

static struct criterion_test_params rows(size_t n)
{
	cr_assert_leq(n, ROWS_MAX);
	for (unsigned i = 0; i < n; i++)
		row_index[i] = i;
	return cr_make_param_array(unsigned, row_index, n, NULL);
}

static unsigned rule_is(const struct rule *r)
{
	return (r->any ? ANY : 0) | (r->weak ? WEAK : 0) | (r->automatic ? AUTO : 0) |
	       (r->has_target ? TARGET : 0);
}

/* One single rule, which @spec must make. */
static struct rule parse_one(const char *spec)
{
	struct rules rules = { 0 };
	struct err err = { "" };
	struct rule ret;

	cr_assert_eq(portspec_parse(PROTO_TCP, spec, &dual, &rules, &err), 0, "%s", err.text);
	cr_assert_eq(rules.n, 1, "%s: %u rules", spec, rules.n);
	ret = rules.v[0];
	rules_free(&rules);
	return ret;
}

/* The complete message is @reason behind the quoted specification. */
static void assert_refused(const char *spec, const struct portspec_env *env, const char *reason)
{
	struct rules rules = { 0 };
	struct err err = { "" }, want;

	snprintf(want.text, sizeof(want.text), "port specification '%s': %s", spec, reason);
	cr_assert_eq(portspec_parse(PROTO_TCP, spec, env, &rules, &err), -EINVAL, "%s", spec);
	cr_assert_str_eq(err.text, want.text);
	cr_assert_eq(rules.n, 0);
	rules_free(&rules);
}

static const struct good good[] = {
	/* includes */
	{ "80", { { "tcp 80", 80, 80, 80, ANY } } },
	{ "0080", { { "tcp 80", 80, 80, 80, ANY } } },
	{ "1", { { "tcp 1", 1, 1, 1, ANY } } },
	{ "65535", { { "tcp 65535", 65535, 65535, 65535, ANY } } },
	{ "1-65535", { { "tcp 1-65535", 1, 65535, 1, ANY } } },
	{ "22-80", { { "tcp 22-80", 22, 80, 22, ANY } } },
	{ "80-80", { { "tcp 80", 80, 80, 80, ANY } } },
	{ "22,25", { { "tcp 22", 22, 22, 22, ANY }, { "tcp 25", 25, 25, 25, ANY } } },
	{ "25,22", { { "tcp 22", 22, 22, 22, ANY }, { "tcp 25", 25, 25, 25, ANY } } },
	{ "30-39,50:60,20-29",
	  { { "tcp 20-29", 20, 29, 20, ANY },
	    { "tcp 30-39", 30, 39, 30, ANY },
	    { "tcp 50:60", 50, 50, 60, ANY } } },

	/* targets */
	{ "22:23", { { "tcp 22:23", 22, 22, 23, ANY } } },
	{ "22:22", { { "tcp 22", 22, 22, 22, ANY } } },
	{ "22-80:32-90", { { "tcp 22-80:32-90", 22, 80, 32, ANY } } },
	{ "8000-8010:80", { { "tcp 8000-8010:80-90", 8000, 8010, 80, ANY } } },
	{ "65525-65535:1", { { "tcp 65525-65535:1-11", 65525, 65535, 1, ANY } } },
	{ "80:10.0.0.1", { { "tcp 80:10.0.0.1", 80, 80, 80, ANY | TARGET } } },
	{ "80:10.0.0.1/90", { { "tcp 80:10.0.0.1/90", 80, 80, 90, ANY | TARGET } } },
	{ "80-81:10.0.0.1/90-91", { { "tcp 80-81:10.0.0.1/90-91", 80, 81, 90, ANY | TARGET } } },
	{ "80:fd00::1", { { "tcp 80:[fd00::1]", 80, 80, 80, ANY | TARGET } } },
	{ "80:[fd00::1]", { { "tcp 80:[fd00::1]", 80, 80, 80, ANY | TARGET } } },
	{ "80:[fd00::1]/443", { { "tcp 80:[fd00::1]/443", 80, 80, 443, ANY | TARGET } } },
	{ "80:127.0.0.1/81,90:[::1]/91",
	  { { "tcp 80:127.0.0.1/81", 80, 80, 81, ANY | TARGET },
	    { "tcp 90:[::1]/91", 90, 90, 91, ANY | TARGET } } },
	{ "~1,80:10.0.0.1/81", { { "tcp 80:10.0.0.1/81", 80, 80, 81, ANY | TARGET } } },

	/* where to listen */
	{ "192.0.2.1/22", { { "tcp 192.0.2.1/22", 22, 22, 22, 0 } } },
	{ "0.0.0.0/80", { { "tcp 0.0.0.0/80", 80, 80, 80, 0 } } },
	{ "::/80", { { "tcp [::]/80", 80, 80, 80, 0 } } },
	{ "::1/80", { { "tcp [::1]/80", 80, 80, 80, 0 } } },
	{ "[::1]/80", { { "tcp [::1]/80", 80, 80, 80, 0 } } },
	{ "2001:db8::1/80", { { "tcp [2001:db8::1]/80", 80, 80, 80, 0 } } },
	{ "::ffff:192.0.2.1/80", { { "tcp 192.0.2.1/80", 80, 80, 80, 0 } } },
	{ "192.0.2.1/20,30-40",
	  { { "tcp 192.0.2.1/20", 20, 20, 20, 0 }, { "tcp 192.0.2.1/30-40", 30, 40, 30, 0 } } },
	{ "0.0.0.0/5000:192.0.2.5/6000",
	  { { "tcp 0.0.0.0/5000:192.0.2.5/6000", 5000, 5000, 6000, TARGET } } },
	{ "::1/5000:fd00::1/6000",
	  { { "tcp [::1]/5000:[fd00::1]/6000", 5000, 5000, 6000, TARGET } } },
	{ "127.0.0.1/80:fd00::1", { { "tcp 127.0.0.1/80:[fd00::1]", 80, 80, 80, TARGET } } },
	{ "%eth0/80", { { "tcp %eth0/80", 80, 80, 80, ANY } } },
	{ "%abcdefghijklmno/80", { { "tcp %abcdefghijklmno/80", 80, 80, 80, ANY } } },
	{ "0.0.0.0%eth0/8080", { { "tcp 0.0.0.0%eth0/8080", 8080, 8080, 8080, 0 } } },
	{ "fd00::1%eth0/80", { { "tcp [fd00::1]%eth0/80", 80, 80, 80, 0 } } },
	{ "[fd00::1]%eth0/80", { { "tcp [fd00::1]%eth0/80", 80, 80, 80, 0 } } },
	{ "fe80::1%eth0/80", { { "tcp [fe80::1]%eth0/80", 80, 80, 80, 0 } } },

	/* two readings: an address before the first '/' is the one to listen on */
	{ "80:fd00::1/443", { { "tcp [80:fd00::1]/443", 443, 443, 443, 0 } } },
	{ "2001:db8::1", { { "tcp 2001:[db8::1]", 2001, 2001, 2001, ANY | TARGET } } },

	/* exclusions */
	{ "2000-5000,~3000-3010",
	  { { "tcp 2000-2999", 2000, 2999, 2000, ANY },
	    { "tcp 3011-5000", 3011, 5000, 3011, ANY } } },
	{ "192.0.2.1/20-30,~25",
	  { { "tcp 192.0.2.1/20-24", 20, 24, 20, 0 }, { "tcp 192.0.2.1/26-30", 26, 30, 26, 0 } } },
	{ "20-30:120-130,~25",
	  { { "tcp 20-24:120-124", 20, 24, 120, ANY },
	    { "tcp 26-30:126-130", 26, 30, 126, ANY } } },
	{ "~25-30,20-30", { { "tcp 20-24", 20, 24, 20, ANY } } },
	{ "20-30,~20-25", { { "tcp 26-30", 26, 30, 26, ANY } } },
	{ "20-30,~25-40", { { "tcp 20-24", 20, 24, 20, ANY } } },
	{ "20,30,~20", { { "tcp 30", 30, 30, 30, ANY } } },
	{ "20-30,~22,~22-23,~29",
	  { { "tcp 20-21", 20, 21, 20, ANY },
	    { "tcp 24-28", 24, 28, 24, ANY },
	    { "tcp 30", 30, 30, 30, ANY } } },
	{ "80,~90", { { "tcp 80", 80, 80, 80, ANY } } },
	{ "1-65535,~1,~65535", { { "tcp 2-65534", 2, 65534, 2, ANY } } },

	/* all */
	{ "all",
	  { { "tcp 1-32767", 1, 32767, 1, ANY | WEAK },
	    { "tcp 61000-65535", 61000, 65535, 61000, ANY | WEAK } } },
	{ "all:192.0.2.6",
	  { { "tcp 1-32767:192.0.2.6", 1, 32767, 1, ANY | WEAK | TARGET },
	    { "tcp 61000-65535:192.0.2.6", 61000, 65535, 61000, ANY | WEAK | TARGET } } },
	{ "::1/all",
	  { { "tcp [::1]/1-32767", 1, 32767, 1, WEAK },
	    { "tcp [::1]/61000-65535", 61000, 65535, 61000, WEAK } } },
	{ "127.0.0.6/all:[fd00::1]",
	  { { "tcp 127.0.0.6/1-32767:[fd00::1]", 1, 32767, 1, WEAK | TARGET },
	    { "tcp 127.0.0.6/61000-65535:[fd00::1]", 61000, 65535, 61000, WEAK | TARGET } } },
	{ "all,~1000-65535", { { "tcp 1-999", 1, 999, 1, ANY | WEAK } } },
	{ "all,40000",
	  { { "tcp 1-32767", 1, 32767, 1, ANY | WEAK },
	    { "tcp 40000", 40000, 40000, 40000, ANY },
	    { "tcp 61000-65535", 61000, 65535, 61000, ANY | WEAK } } },

	/* nothing but exclusions, or nothing at all: all */
	{ "~20000-20010",
	  { { "tcp 1-19999", 1, 19999, 1, ANY | WEAK },
	    { "tcp 20011-32767", 20011, 32767, 20011, ANY | WEAK },
	    { "tcp 61000-65535", 61000, 65535, 61000, ANY | WEAK } } },
	{ "::1/~1-60000", { { "tcp [::1]/61000-65535", 61000, 65535, 61000, WEAK } } },
	{ "%eth0",
	  { { "tcp %eth0/1-32767", 1, 32767, 1, ANY | WEAK },
	    { "tcp %eth0/61000-65535", 61000, 65535, 61000, ANY | WEAK } } },
	{ "1.2.3.4/",
	  { { "tcp 1.2.3.4/1-32767", 1, 32767, 1, WEAK },
	    { "tcp 1.2.3.4/61000-65535", 61000, 65535, 61000, WEAK } } },

	/* auto */
	{ "auto",
	  { { "tcp 1-32767,auto", 1, 32767, 1, ANY | WEAK | AUTO },
	    { "tcp 61000-65535,auto", 61000, 65535, 61000, ANY | WEAK | AUTO } } },
	{ "all,auto",
	  { { "tcp 1-32767,auto", 1, 32767, 1, ANY | WEAK | AUTO },
	    { "tcp 61000-65535,auto", 61000, 65535, 61000, ANY | WEAK | AUTO } } },
	{ "::1/auto",
	  { { "tcp [::1]/1-32767,auto", 1, 32767, 1, WEAK | AUTO },
	    { "tcp [::1]/61000-65535,auto", 61000, 65535, 61000, WEAK | AUTO } } },
	{ "auto:10.0.0.1,~100-65535",
	  { { "tcp 1-99:10.0.0.1,auto", 1, 99, 1, ANY | WEAK | AUTO | TARGET } } },
	{ "~2-65535,auto", { { "tcp 1,auto", 1, 1, 1, ANY | WEAK | AUTO } } },
	{ "8000-8010,auto", { { "tcp 8000-8010,auto", 8000, 8010, 8000, ANY | AUTO } } },
	{ "auto,8000-8010", { { "tcp 8000-8010,auto", 8000, 8010, 8000, ANY | AUTO } } },
	{ "80:8080,auto:10.0.0.1",
	  { { "tcp 80:10.0.0.1/8080,auto", 80, 80, 8080, ANY | AUTO | TARGET } } },
	{ "auto:10.0.0.1,80,81:10.0.0.2",
	  { { "tcp 80:10.0.0.1,auto", 80, 80, 80, ANY | AUTO | TARGET },
	    { "tcp 81:10.0.0.2,auto", 81, 81, 81, ANY | AUTO | TARGET } } },

	/* as podman writes them */
	{ "8080-8080:80-80", { { "tcp 8080:80", 8080, 8080, 80, ANY } } },
	{ "127.0.0.1/8080-8080:80-80", { { "tcp 127.0.0.1/8080:80", 8080, 8080, 80, 0 } } },
	{ "::1/8080-8080:80-80", { { "tcp [::1]/8080:80", 8080, 8080, 80, 0 } } },
	{ "8000-8002:80-82", { { "tcp 8000-8002:80-82", 8000, 8002, 80, ANY } } },

	/* nothing */
	{ "none", { { 0 } } },
};

ParameterizedTestParameters(portspec, makes_the_rules_that_are_meant)
{
	return rows(ARRAY_SIZE(good));
}

/* Each good specification makes these rules, in this order. */
ParameterizedTest(const unsigned *row, portspec, makes_the_rules_that_are_meant, .timeout = TIMEOUT)
{
	const struct good *g = &good[*row];
	struct rules rules = { 0 };
	struct err err = { "untouched" };

	cr_assert_eq(portspec_parse(PROTO_TCP, g->spec, &dual, &rules, &err), 0, "%s", err.text);
	cr_assert_str_eq(err.text, "untouched");
	for (unsigned i = 0; i < rules.n; i++) {
		const struct rule *r = &rules.v[i];
		char buf[RULE_STRLEN];

		cr_assert_lt(i, RULES_MAX);
		cr_assert_not_null(g->rules[i].text, "%s: %u rules", g->spec, rules.n);
		cr_assert_str_eq(rule_str(r, buf), g->rules[i].text);
		cr_assert_eq(r->first, g->rules[i].first, "%s", g->spec);
		cr_assert_eq(r->last, g->rules[i].last, "%s", g->spec);
		cr_assert_eq(r->to_first, g->rules[i].to_first, "%s", g->spec);
		cr_assert_eq(rule_is(r), g->rules[i].is, "%s: %#x", g->spec, rule_is(r));
	}
	cr_assert_null(g->rules[rules.n].text, "%s: %u rules", g->spec, rules.n);
	rules_free(&rules);
}

#define NOT_A_PORT    "is not a number from 1 to 65535"
#define NOT_IP	      "is not an IP address"
#define NOT_AN_IFNAME "is no possible name of one"
#define MISPLACED     "must begin the specification, with a '/' behind it"
#define UNICAST_ONLY  "only unicast can be forwarded"

static const struct bad bad[] = {
	/* nothing where something should be */
	{ "", "nothing given; 'none' stands for no port" },
	{ "80,,81", "list '80,,81' has an empty entry" },
	{ ",80", "list ',80' has an empty entry" },
	{ "80,", "list '80,' has an empty entry" },
	{ "80:", "entry '80:' has an empty target" },
	{ ":80", "entry ':80' lacks its host port" },
	{ ":", "entry ':' lacks its host port" },
	{ "80-", "range '80-' lacks its last port" },
	{ "-80", "range '-80' lacks its first port" },
	{ "-", "range '-' lacks its first port" },
	{ "80:-90", "range '-90' lacks its first port" },
	{ "~", "entry '~' excludes nothing" },
	{ "/", "no address before '/'" },
	{ "/80", "no address before '/'" },
	{ "80:1.2.3.4/", "entry '80:1.2.3.4/' lacks the target port behind '/'" },
	{ "80:/90", "target '' " NOT_IP },
	{ "all:", "entry 'all:' has an empty target" },
	{ "auto:", "entry 'auto:' has an empty target" },

	/* no ports */
	{ "0", "port '0' " NOT_A_PORT },
	{ "65536", "port '65536' " NOT_A_PORT },
	{ "99999999999", "port '99999999999' " NOT_A_PORT },
	{ "4294967376", "port '4294967376' " NOT_A_PORT },
	{ "0-80", "port '0' " NOT_A_PORT },
	{ "80-65536", "port '65536' " NOT_A_PORT },
	{ "80:0", "port '0' " NOT_A_PORT },
	{ "80:65536", "port '65536' " NOT_A_PORT },
	{ "http", "port 'http' " NOT_A_PORT },
	{ "ALL", "port 'ALL' " NOT_A_PORT },
	{ "all80", "port 'all80' " NOT_A_PORT },
	{ "+80", "port '+80' " NOT_A_PORT },
	{ "~0", "port '0' " NOT_A_PORT },
	{ "~all", "port 'all' " NOT_A_PORT },
	{ "~~80", "port '~80' " NOT_A_PORT },

	/* white space */
	{ " ", "port ' ' " NOT_A_PORT },
	{ " 80", "port ' 80' " NOT_A_PORT },
	{ "80, 81", "port ' 81' " NOT_A_PORT },
	{ "1.2.3.4 /80", "listening address '1.2.3.4 ' " NOT_IP },

	/* garbage behind */
	{ "80x", "port '80x' " NOT_A_PORT },
	{ "80-90-100", "port '90-100' " NOT_A_PORT },
	{ "80:90x", "port '90x' " NOT_A_PORT },
	{ "80:81:82", "target '81:82' " NOT_IP },
	{ "80:1.2.3.4x", "target '1.2.3.4x' " NOT_IP },
	{ "80:1.2.3.4:81", "target '1.2.3.4:81' " NOT_IP },
	{ "80:1.2.3.4/81/82", "port '81/82' " NOT_A_PORT },
	{ "::1/80/81", "port '80/81' " NOT_A_PORT },
	{ "80/tcp", "listening address '80' " NOT_IP },
	{ "all:1.2.3.4/80", "target '1.2.3.4/80' " NOT_IP },
	{ "all:80", "target '80' " NOT_IP },
	{ "auto:80", "target '80' " NOT_IP },
	{ "~80:90", "entry '~80:90' excludes, and so cannot have a target" },

	/* ranges */
	{ "80-70", "range '80-70' ends before it begins" },
	{ "80-90:90-80", "range '90-80' ends before it begins" },
	{ "~80-70", "range '80-70' ends before it begins" },
	{ "80:81-85", "entry '80:81-85' maps to a range of another length" },
	{ "80-90:80-80", "entry '80-90:80-80' maps to a range of another length" },
	{ "80-90:1.2.3.4/80-91", "entry '80-90:1.2.3.4/80-91' maps to a range of another length" },
	{ "80-90:65526", "entry '80-90:65526' leads beyond port 65535" },

	/* given twice */
	{ "80,80", "entry '80' repeats port 80" },
	{ "80,80:90", "entry '80:90' repeats port 80" },
	{ "80-90,85-95", "entry '85-95' repeats port 85" },
	{ "80-90,70-80", "entry '70-80' repeats port 80" },
	{ "80,80,~80", "entry '80' repeats port 80" },
	{ "all,80", "entry '80' repeats port 80" },
	{ "61000,all", "entry 'all' repeats port 61000" },
	{ "all,all", "entry 'all' repeats port 1" },
	{ "auto,auto", "entry 'auto' repeats 'auto'" },

	/* nothing left */
	{ "80,~80", "no port is left to forward" },
	{ "~1-65535", "no port is left to forward" },
	{ "~1-32767,~61000-65535", "no port is left to forward" },
	{ "auto,~1-65535", "no port is left to forward" },

	/* none and something */
	{ "none,80", "entry 'none' must be the whole specification" },
	{ "80,none", "entry 'none' must be the whole specification" },
	{ "::1/none", "entry 'none' must be the whole specification" },

	/* addresses */
	{ "localhost/80", "listening address 'localhost' " NOT_IP },
	{ "fd00::g/80", "listening address 'fd00::g' " NOT_IP },
	{ "[::1/80", "listening address '[::1' " NOT_IP },
	{ "[1.2.3.4]/80", "listening address '[1.2.3.4]' " NOT_IP },
	{ "80:localhost", "target 'localhost' " NOT_IP },
	{ "80:localhost/80", "target 'localhost' " NOT_IP },
	{ "80:[::1", "target '[::1' " NOT_IP },
	{ "80:~90", "target '~90' " NOT_IP },
	{ "1.2.3.4", "address '1.2.3.4' " MISPLACED },
	{ "::1", "address '::1' " MISPLACED },
	{ "127.0.0.1:8080:80", "address '127.0.0.1' " MISPLACED },
	{ "80,127.0.0.1/81", "address '127.0.0.1' " MISPLACED },
	{ "80,[::1]/81", "address '[::1]' " MISPLACED },
	{ "224.0.0.1/80", "listening address '224.0.0.1' is multicast: " UNICAST_ONLY },
	{ "ff02::1%eth0/80", "listening address 'ff02::1' is multicast: " UNICAST_ONLY },
	{ "255.255.255.255/80", "listening address '255.255.255.255' is broadcast: " UNICAST_ONLY },
	{ "80:239.1.2.3", "target '239.1.2.3' is multicast: " UNICAST_ONLY },
	{ "80:0.0.0.0", "target '0.0.0.0' is not the address of a host" },
	{ "80:[::]/81", "target '[::]' is not the address of a host" },

	/* interfaces and zones */
	{ "%", "no interface behind '%'" },
	{ "%/80", "no interface behind '%'" },
	{ "1.2.3.4%/80", "no interface behind '%'" },
	{ "%abcdefghijklmnop/80", "interface 'abcdefghijklmnop' is longer than 15 bytes" },
	{ "%eth/0/80", "port '0/80' " NOT_A_PORT },
	{ "%eth 0", "interface 'eth 0' " NOT_AN_IFNAME },
	{ "%eth0:1/80", "interface 'eth0:1' " NOT_AN_IFNAME },
	{ "%eth0%1/80", "interface 'eth0%1' " NOT_AN_IFNAME },
	{ "%eth0,80", "interface 'eth0,80' " NOT_AN_IFNAME },
	{ "80%eth0", "port '80%eth0' " NOT_A_PORT },
	{ "80%eth0/80", "listening address '80' " NOT_IP },
	{ "fe80::1/80", "listening address 'fe80::1' is link-local: add '%interface'" },
	{ "[fe80::1%eth0]/80",
	  "address '[fe80::1%eth0]' has a zone in its brackets: write '[address]%interface'" },
	{ "80:fe80::1%eth0",
	  "target 'fe80::1%eth0' has a zone: only a listening address takes an interface" },
};

ParameterizedTestParameters(portspec, says_what_is_wrong)
{
	return rows(ARRAY_SIZE(bad));
}

/* Each bad specification is refused with exactly this reason. */
ParameterizedTest(const unsigned *row, portspec, says_what_is_wrong, .timeout = TIMEOUT)
{
	assert_refused(bad[*row].spec, &dual, bad[*row].reason);
}

/* The address to listen on, its interface and the target's address arrive in the rule. */
Test(portspec, fills_addresses_and_interface, .timeout = TIMEOUT)
{
	struct rule r = parse_one("::1%eth0/8080:10.0.0.1/80");
	char buf[ADDR_STRLEN];

	cr_assert_eq(r.proto, PROTO_TCP);
	cr_assert(addr_same_ip(&r.bind, &addr_loopback6));
	cr_assert_str_eq(r.ifname, "eth0");
	cr_assert_str_eq(addr_ip_str(&r.target, buf), "10.0.0.1");
	cr_assert_eq(r.bind.port, 0);
	cr_assert_eq(r.target.port, 0);
}

/* Without an address and an interface a rule names neither. */
Test(portspec, leaves_out_what_was_not_given, .timeout = TIMEOUT)
{
	struct rule r = parse_one("80");

	cr_assert(r.any);
	cr_assert_str_eq(r.ifname, "");
	cr_assert_not(r.has_target);
}

/* The protocol is the caller's. */
Test(portspec, makes_rules_of_the_given_protocol, .timeout = TIMEOUT)
{
	struct rules rules = { 0 };
	struct err err;

	cr_assert_eq(portspec_parse(PROTO_UDP, "53", &dual, &rules, &err), 0);
	cr_assert_eq(rules.v[0].proto, PROTO_UDP);
	rules_free(&rules);
}

/* A second specification adds to the rules of the first, whatever their ports. */
Test(portspec, appends_to_earlier_rules, .timeout = TIMEOUT)
{
	struct rules rules = { 0 };
	struct err err;

	cr_assert_eq(portspec_parse(PROTO_TCP, "90", &dual, &rules, &err), 0);
	cr_assert_eq(portspec_parse(PROTO_TCP, "81,80", &dual, &rules, &err), 0);
	cr_assert_eq(rules.n, 3);
	cr_assert_eq(rules.v[0].first, 90);
	cr_assert_eq(rules.v[1].first, 80);
	cr_assert_eq(rules.v[2].first, 81);
	rules_free(&rules);
}

/* A bad specification leaves earlier rules as they were. */
Test(portspec, leaves_earlier_rules_alone_on_failure, .timeout = TIMEOUT)
{
	struct rules rules = { 0 };
	struct rule before;
	struct err err;

	cr_assert_eq(portspec_parse(PROTO_TCP, "90", &dual, &rules, &err), 0);
	before = rules.v[0];
	cr_assert_eq(portspec_parse(PROTO_TCP, "80,81,x", &dual, &rules, &err), -EINVAL);
	cr_assert_eq(rules.n, 1);
	cr_assert_arr_eq(&rules.v[0], &before, sizeof(before));
	rules_free(&rules);
}

/* With -4 an IPv6 address is refused, to listen on as well as in a target. */
Test(portspec, refuses_ipv6_when_only_ipv4_is_allowed, .timeout = TIMEOUT)
{
	assert_refused("::1/80", &only4,
		       "listening address '::1' is IPv6, but -4 allows IPv4 only");
	assert_refused("80:[::1]/81", &only4, "target '[::1]' is IPv6, but -4 allows IPv4 only");
}

/* With -6 an IPv4 address is refused, to listen on as well as in a target. */
Test(portspec, refuses_ipv4_when_only_ipv6_is_allowed, .timeout = TIMEOUT)
{
	assert_refused("0.0.0.0/80", &only6,
		       "listening address '0.0.0.0' is IPv4, "
		       "but -6 allows IPv6 only");
	assert_refused("auto:1.2.3.4", &only6, "target '1.2.3.4' is IPv4, but -6 allows IPv6 only");
}

/* Addresses of the one allowed family, and no address at all, pass. */
Test(portspec, accepts_the_family_that_is_allowed, .timeout = TIMEOUT)
{
	struct rules rules = { 0 };
	struct err err = { "" };

	cr_assert_eq(portspec_parse(PROTO_TCP, "1.2.3.4/80:5.6.7.8", &only4, &rules, &err), 0);
	cr_assert_eq(portspec_parse(PROTO_TCP, "::1/80:[::2]", &only6, &rules, &err), 0);
	cr_assert_eq(portspec_parse(PROTO_TCP, "80", &only4, &rules, &err), 0);
	cr_assert_eq(portspec_parse(PROTO_TCP, "%eth0/80", &only6, &rules, &err), 0);
	cr_assert_eq(rules.n, 4);
	rules_free(&rules);
}

static const struct {
	uint16_t first, last;
	const char *want; /* rules of "all" */
} ephemeral[] = {
	{ 32768, 60999, "tcp 1-32767 tcp 61000-65535 " },
	{ 1024, 65535, "tcp 1-1023 " },
	{ 1, 1023, "tcp 1024-65535 " },
	{ 0, 1023, "tcp 1024-65535 " },
	{ 0, 0, "tcp 1-65535 " },
	{ 2, 65534, "tcp 1 tcp 65535 " },
	{ 1, 65535, "" },
};

ParameterizedTestParameters(portspec, keeps_ephemeral_ports_out_of_all)
{
	return rows(ARRAY_SIZE(ephemeral));
}

/* "all" is what lies on both sides of the ephemeral range, wherever that is. */
ParameterizedTest(const unsigned *row, portspec, keeps_ephemeral_ports_out_of_all,
		  .timeout = TIMEOUT)
{
	struct portspec_env env = { ephemeral[*row].first, ephemeral[*row].last, true, true };
	char got[2 * RULE_STRLEN] = "", buf[RULE_STRLEN];
	struct rules rules = { 0 };
	struct err err = { "" };
	int ret = portspec_parse(PROTO_TCP, "all", &env, &rules, &err);

	for (unsigned i = 0; i < rules.n; i++) {
		strcat(got, rule_str(&rules.v[i], buf));
		strcat(got, " ");
	}
	cr_assert_str_eq(got, ephemeral[*row].want);
	cr_assert_eq(ret, rules.n ? 0 : -EINVAL);
	if (ret)
		cr_assert_str_eq(err.text, "port specification 'all': no port is left to forward");
	rules_free(&rules);
}

ParameterizedTestParameters(portspec, reads_back_what_is_printed)
{
	return rows(ARRAY_SIZE(good));
}

/* Printed rules are specifications of themselves, but for being weak. */
ParameterizedTest(const unsigned *row, portspec, reads_back_what_is_printed, .timeout = TIMEOUT)
{
	for (unsigned i = 0; good[*row].rules[i].text; i++) {
		const char *text = good[*row].rules[i].text;
		struct rule r = parse_one(text + strlen("tcp "));
		char buf[RULE_STRLEN];

		cr_assert_str_eq(rule_str(&r, buf), text);
		cr_assert_eq(rule_is(&r), good[*row].rules[i].is & ~WEAK, "%s", text);
	}
}

/* Whatever a specification holds, the message is one printable line. */
Test(portspec, keeps_control_characters_out_of_the_message, .timeout = TIMEOUT)
{
	struct rules rules = { 0 };
	struct err err;

	cr_assert_eq(portspec_parse(PROTO_TCP, "80\n\x1b[m", &dual, &rules, &err), -EINVAL);
	cr_assert_str_eq(err.text, "port specification '80??[m': port '80??[m' " NOT_A_PORT);
}

/* A specification too long to be quoted whole is cut, what is wrong with it is not. */
Test(portspec, cuts_a_long_specification_in_the_message, .timeout = TIMEOUT)
{
	char spec[2048], want[512];
	struct rules rules = { 0 };
	struct err err;
	int n = 0;

	for (unsigned port = 1000; port < 1300; port++)
		n += snprintf(spec + n, sizeof(spec) - n, "%u,", port);
	snprintf(spec + n, sizeof(spec) - n, "%0100d", 0);
	snprintf(want, sizeof(want), "port specification '%.256s...': port '%064d...' " NOT_A_PORT,
		 spec, 0);
	cr_assert_eq(portspec_parse(PROTO_TCP, spec, &dual, &rules, &err), -EINVAL);
	cr_assert_str_eq(err.text, want);
}

/* Exclusions can cut one range into as many rules as it has ports. */
Test(portspec, cuts_a_range_as_often_as_it_is_told, .timeout = TIMEOUT)
{
	char spec[64 + 1000 * sizeof("~65535,")];
	int n = snprintf(spec, sizeof(spec), "1-2000:10001-12000");
	struct rules rules = { 0 };
	struct err err = { "" };

	for (unsigned port = 2; port <= 2000; port += 2)
		n += snprintf(spec + n, sizeof(spec) - n, ",~%u", port);
	cr_assert_eq(portspec_parse(PROTO_TCP, spec, &dual, &rules, &err), 0, "%s", err.text);
	cr_assert_eq(rules.n, 1000);
	for (unsigned i = 0; i < rules.n; i++) {
		cr_assert_eq(rules.v[i].first, 2 * i + 1);
		cr_assert_eq(rules.v[i].last, 2 * i + 1);
		cr_assert_eq(rules.v[i].to_first, 2 * i + 10001);
	}
	rules_free(&rules);
}

/* How much of a specification says where to listen. */
Test(portspec, head_is_measured, .timeout = TIMEOUT)
{
	static const struct {
		const char *spec;
		size_t len;
	} rows[] = {
		{ "80", 0 },
		{ "8080:198.18.0.1/80", 0 },
		{ "~80/x", 0 },
		{ "", 0 },
		{ "198.18.0.1/80", 11 },
		{ "[fd00::1]%eth0/80", 15 },
		{ "80:fd00::1/443", 11 },
		{ "80:[fd00::1]/443", 0 },
		{ "%eth0", 5 },
		{ "%eth0/", 6 },
		{ "/80", 1 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		cr_expect_eq(portspec_head(rows[i].spec, strlen(rows[i].spec)), rows[i].len, "%s",
			     rows[i].spec);
	cr_expect_eq(portspec_head("198.18.0.1/80", 10), 0);
}
