/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_rule.c - rules: printed as the user would write them, mapped, collected
 */

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <string.h>

#include "fwd/rule.h"
#include "util.h"

enum { TIMEOUT = 10, ROWS_MAX = 32 };

static unsigned row_index[ROWS_MAX];

static const struct {
	const char *bind, *ifname, *target; /* NULL: not given */
	uint16_t first, last, to_first;
	bool automatic;
	const char *want;
} printed[] = {
	{ NULL, "", NULL, 80, 80, 80, false, "tcp 80" },
	{ NULL, "", NULL, 80, 80, 8080, false, "tcp 80:8080" },
	{ NULL, "", NULL, 80, 90, 80, false, "tcp 80-90" },
	{ NULL, "", NULL, 8080, 8090, 80, false, "tcp 8080-8090:80-90" },
	{ NULL, "eth0", NULL, 80, 80, 80, false, "tcp %eth0/80" },
	{ "0.0.0.0", "eth0", NULL, 8080, 8090, 80, false, "tcp 0.0.0.0%eth0/8080-8090:80-90" },
	{ "127.0.0.1", "", NULL, 80, 80, 80, false, "tcp 127.0.0.1/80" },
	{ "::", "", NULL, 80, 80, 80, false, "tcp [::]/80" },
	{ "fe80::1", "eth0", NULL, 80, 80, 80, false, "tcp [fe80::1]%eth0/80" },
	{ NULL, "", "10.0.2.100", 80, 80, 80, false, "tcp 80:10.0.2.100" },
	{ NULL, "", "10.0.2.100", 80, 80, 443, false, "tcp 80:10.0.2.100/443" },
	{ NULL, "", "fd00::1", 80, 80, 80, false, "tcp 80:[fd00::1]" },
	{ "::1", "", "fd00::1", 80, 81, 443, false, "tcp [::1]/80-81:[fd00::1]/443-444" },
	{ NULL, "", NULL, 8000, 8010, 8000, true, "tcp 8000-8010,auto" },
	{ "fe80:1111:2222:3333:4444:5555:6666:7777", "abcdefghijklmno",
	  "fe80:1111:2222:3333:4444:5555:6666:7777", 55555, 55559, 65531, true,
	  "tcp [fe80:1111:2222:3333:4444:5555:6666:7777]%abcdefghijklmno/55555-55559:"
	  "[fe80:1111:2222:3333:4444:5555:6666:7777]/65531-65535,auto" },
};

ParameterizedTestParameters(rule, prints_as_the_user_would_write_it)
{
	for (unsigned i = 0; i < ARRAY_SIZE(printed); i++)
		row_index[i] = i;
	return cr_make_param_array(unsigned, row_index, ARRAY_SIZE(printed), NULL);
}

/* Each part of a rule is printed if it says something, the longest rule whole. */
ParameterizedTest(const unsigned *row, rule, prints_as_the_user_would_write_it, .timeout = TIMEOUT)
{
	const char *bind = printed[*row].bind, *target = printed[*row].target;
	struct rule r = {
		.any = !bind,
		.first = printed[*row].first,
		.last = printed[*row].last,
		.to_first = printed[*row].to_first,
		.has_target = target,
		.automatic = printed[*row].automatic,
	};
	char buf[RULE_STRLEN];

	strcpy(r.ifname, printed[*row].ifname);
	if (bind)
		cr_assert(addr_parse(bind, strlen(bind), &r.bind));
	if (target)
		cr_assert(addr_parse(target, strlen(target), &r.target));
	cr_assert_str_eq(rule_str(&r, buf), printed[*row].want);
	cr_assert_lt(strlen(buf), sizeof(buf) - 1);
}

/* A rule says which protocol it is for. */
Test(rule, prints_its_protocol, .timeout = TIMEOUT)
{
	struct rule r = {
		.proto = PROTO_UDP, .any = true, .first = 53, .last = 53, .to_first = 53
	};
	char buf[RULE_STRLEN];

	cr_assert_str_eq(proto_str(PROTO_TCP), "tcp");
	cr_assert_str_eq(proto_str(PROTO_UDP), "udp");
	cr_assert_str_eq(rule_str(&r, buf), "udp 53");
}

/* Container ports follow the host's in step, up as well as down. */
Test(rule, maps_ports_in_step, .timeout = TIMEOUT)
{
	struct rule up = { .first = 80, .last = 90, .to_first = 65525 };
	struct rule down = { .first = 65525, .last = 65535, .to_first = 1 };

	cr_assert_eq(rule_target_port(&up, 80), 65525);
	cr_assert_eq(rule_target_port(&up, 90), 65535);
	cr_assert_eq(rule_target_port(&down, 65525), 1);
	cr_assert_eq(rule_target_port(&down, 65535), 11);
}

/* The list keeps copies in the order of adding. */
Test(rule, collects_copies_in_order, .timeout = TIMEOUT)
{
	struct rules rules = { 0 };
	struct rule r = { 0 };

	for (uint16_t port = 1; port <= 100; port++) {
		r.first = r.last = r.to_first = port;
		cr_assert_eq(rules_add(&rules, &r), 0);
	}
	cr_assert_eq(rules.n, 100);
	for (unsigned i = 0; i < rules.n; i++)
		cr_assert_eq(rules.v[i].first, i + 1);
	rules_free(&rules);
}

/* Freeing leaves an empty list that can be freed and filled again. */
Test(rule, leaves_an_empty_list_when_freed, .timeout = TIMEOUT)
{
	struct rules rules = { 0 };
	struct rule r = { 0 };

	rules_free(&rules);
	cr_assert_eq(rules_add(&rules, &r), 0);
	rules_free(&rules);
	cr_assert_eq(rules.n, 0);
	cr_assert_null(rules.v);
	cr_assert_eq(rules_add(&rules, &r), 0);
	cr_assert_eq(rules.n, 1);
	rules_free(&rules);
}
