/* SPDX-License-Identifier: Apache-2.0 */

/* test_nl_route.c - routes and policy rules, against the kernel and iproute2 */

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "nl/link.h"
#include "nl/route.h"
#include "userns.h"
#include "util.h"

enum {
	TEST_LO = 1, /* lo is always the first interface */
	TEST_PROTO = 77,
	TEST_PROTO_FOREIGN = 78,
	TEST_TABLE = 100001, /* does not fit into rtm_table */
};

static void __attribute__((constructor)) test_begin(void)
{
	userns_begin();
}

/* ------------------------------------------------------------ helpers */

static struct nl nl; /* in the test's namespace */
static struct err err;

static void test_setup(void)
{
	userns_fresh_net();
	cr_assert_eq(nl_open(&nl, NETLINK_ROUTE, 0, &err), 0, "%s", err.text);
	cr_assert_eq(nl_link_up(&nl, TEST_LO, &err), 0, "%s", err.text);
}

static void test_teardown(void)
{
	nl_close(&nl);
}

TestSuite(nl_route, .init = test_setup, .fini = test_teardown, .timeout = 60);

/* Run iproute2: another pair of eyes, and somebody else's routes. */
static void __attribute__((format(printf, 1, 2))) ip(const char *fmt, ...)
{
	char cmd[256] = "ip ";
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(cmd + 3, sizeof(cmd) - 3, fmt, ap);
	va_end(ap);
	cr_assert_eq(system(cmd), 0, "%s", cmd);
}

/* The first line that iproute2 prints; "" for none. */
static void ip_line(char *buf, int size, const char *cmd)
{
	FILE *f = popen(cmd, "re");

	cr_assert_not_null(f);
	if (!fgets(buf, size, f))
		buf[0] = '\0';
	(void)pclose(f);
}

static struct nl_ip ip_parse(const char *text, unsigned plen)
{
	struct nl_ip ret = { .plen = (uint8_t)plen };

	ret.family = strchr(text, ':') ? AF_INET6 : AF_INET;
	cr_assert_eq(inet_pton(ret.family, text, ret.bytes), 1, "%s", text);
	return ret;
}

static struct nl_route route_of(const char *dst, unsigned plen, uint32_t metric)
{
	return (struct nl_route){
		.dst = ip_parse(dst, plen),
		.oif = TEST_LO,
		.table = TEST_TABLE,
		.metric = metric,
		.protocol = TEST_PROTO,
	};
}

static void add_route(const struct nl_route *r, bool want_change)
{
	bool changed = !want_change;

	cr_assert_eq(nl_route_add(&nl, r, &changed, &err), 0, "%s", err.text);
	cr_assert_eq(changed, want_change);
}

static void add_rule(const struct nl_rule *r, bool want_change)
{
	bool changed = !want_change;

	cr_assert_eq(nl_rule_add(&nl, r, &changed, &err), 0, "%s", err.text);
	cr_assert_eq(changed, want_change);
}

/* ------------------------------------------------------------ routes */

/* Many at once: each has a result of its own. */
Test(nl_route, many_routes_by_one_request)
{
	struct nl_route v[NL_ROUTES];
	int codes[NL_ROUTES];
	char dst[32];

	for (unsigned i = 0; i < NL_ROUTES; i++) {
		snprintf(dst, sizeof(dst), i % 2 ? "fd00:5::%u" : "198.18.5.%u", i);
		v[i] = route_of(dst, i % 2 ? 128 : 32, 7);
	}
	v[3].oif = 9999;
	add_route(&v[5], true);
	nl_routes_add(&nl, v, NL_ROUTES, codes);
	for (unsigned i = 0; i < NL_ROUTES; i++)
		cr_expect(i == 3 ? codes[i] == -ENODEV : codes[i] == 0, "%u: %d", i, codes[i]);
	add_route(&v[NL_ROUTES - 1], false);
	v[4].table = TEST_TABLE + 1;
	nl_routes_del(&nl, v, NL_ROUTES, codes);
	for (unsigned i = 0; i < NL_ROUTES; i++)
		cr_expect(i == 3 || codes[i] == 0, "%u: %d", i, codes[i]);
	cr_expect_eq(nl_route_flush(&nl, AF_INET, TEST_TABLE, TEST_PROTO, &err), 1);
	cr_expect_eq(nl_route_flush(&nl, AF_INET6, TEST_TABLE, TEST_PROTO, &err), 0);
	nl_routes_add(&nl, v, 0, codes);
	add_route(&v[0], true); /* the socket is in step */
}

/* Adding twice and deleting twice succeeds, and says which of them did something. */
Test(nl_route, route_add_and_del_are_idempotent)
{
	const struct nl_route v[] = {
		route_of("198.18.5.0", 24, 7),
		route_of("0.0.0.0", 0, 0),
		route_of("fd00:5::", 64, 7),
		route_of("::", 0, 0),
	};

	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		bool changed = false;

		add_route(&v[i], true);
		add_route(&v[i], false);
		cr_assert_eq(nl_route_del(&nl, &v[i], &changed, &err), 0, "%s", err.text);
		cr_assert(changed);
		cr_assert_eq(nl_route_del(&nl, &v[i], &changed, &err), 0, "%s", err.text);
		cr_assert_not(changed);
	}
}

/* The route is the one that `ip route add local` makes, preferred source and all. */
Test(nl_route, route_is_as_iproute2_would_make_it)
{
	struct nl_route r = route_of("198.18.5.0", 24, 7);
	char line[256];

	r.src = ip_parse("127.0.0.1", 32);
	add_route(&r, true);
	ip_line(line, sizeof(line), "ip -d route show table 100001");
	cr_assert_not_null(strstr(line, "local 198.18.5.0/24 dev lo proto 77 scope host "
					"src 127.0.0.1 metric 7"),
			   "%s", line);
	cr_assert_eq(nl_route_del(&nl, &r, NULL, &err), 0, "%s", err.text);
}

static void flush_check(void)
{
	struct nl_route v4 = route_of("198.18.5.0", 24, 1);
	struct nl_route v6 = route_of("fd00:5::", 64, 1);
	struct nl_route elsewhere = route_of("198.18.5.0", 24, 1);
	struct nl_route theirs = route_of("198.18.5.0", 24, 9);

	for (unsigned i = 1; i <= 100; i++) { /* more than the first array of keys */
		v4.metric = i + 10;
		v6.metric = i + 10;
		add_route(&v4, true);
		add_route(&v6, true);
	}
	elsewhere.table++;
	add_route(&elsewhere, true);
	theirs.protocol = TEST_PROTO_FOREIGN;
	add_route(&theirs, true);
	ip("route add blackhole 198.18.6.0/24 table %d proto %d", TEST_TABLE, TEST_PROTO);
	ip("route add local 198.18.7.0/24 dev lo table %d", TEST_TABLE);

	cr_assert_eq(nl_route_flush(&nl, AF_INET, TEST_TABLE, TEST_PROTO, &err), 101, "%s",
		     err.text);
	cr_assert_eq(nl_route_flush(&nl, AF_INET, TEST_TABLE, TEST_PROTO, &err), 0);
	cr_assert_eq(nl_route_flush(&nl, AF_INET6, TEST_TABLE, TEST_PROTO, &err), 100);
	add_route(&elsewhere, false); /* still there */
	add_route(&theirs, false);
	ip("route del local 198.18.7.0/24 dev lo table %d", TEST_TABLE);
}

/* Flushing takes all of ours in that table and nobody else's. */
Test(nl_route, route_flush_leaves_foreign_routes)
{
	flush_check();
}

/* The same where the kernel does not filter dumps, as before Linux 4.20. */
Test(nl_route, route_flush_filters_what_the_kernel_does_not)
{
	int off = 0;

	cr_assert_eq(mnl_socket_setsockopt(nl.sock, NETLINK_GET_STRICT_CHK, &off, sizeof(off)), 0);
	flush_check();
}

/* There is nothing to flush where there is no table, and 0 is nobody's protocol. */
Test(nl_route, route_flush_has_its_limits)
{
	cr_assert_eq(nl_route_flush(&nl, AF_INET, 4242, TEST_PROTO, &err), 0, "%s", err.text);
	cr_assert_eq(nl_route_flush(&nl, AF_INET6, 4242, TEST_PROTO, &err), 0, "%s", err.text);
	cr_assert_eq(nl_route_flush(&nl, AF_INET, TEST_TABLE, 0, &err), -EINVAL);
	cr_assert_eq(nl_rule_flush(&nl, AF_INET, 0, 50, &err), -EINVAL);
}

/* Where the kernel explains itself, its text is in the error; else strerror()'s is. */
Test(nl_route, errors_carry_the_kernels_text)
{
	struct nl_route r = route_of("198.18.5.1", 24, 0);

	cr_assert_eq(nl_route_add(&nl, &r, NULL, &err), -EINVAL);
	cr_assert_str_eq(err.text, "add local route 198.18.5.1/24, device 1, table 100001: "
				   "Invalid prefix for given prefix length (Invalid argument)");
	r = route_of("198.18.5.0", 24, 0);
	r.oif = 999;
	cr_assert_eq(nl_route_add(&nl, &r, NULL, &err), -ENODEV);
	cr_assert_str_eq(err.text, "add local route 198.18.5.0/24, device 999, table 100001: "
				   "No such device");
}

/* ------------------------------------------------------------ rules */

static const struct nl_rule rule_mark = {
	.protocol = TEST_PROTO,
	.priority = 50,
	.table = TEST_TABLE,
	.fwmark = 0x1234,
};

static const struct nl_rule rule_ports = {
	.protocol = TEST_PROTO,
	.ip_proto = IPPROTO_UDP,
	.sport_first = 4000,
	.sport_last = 4010,
	.priority = 51,
	.table = TEST_TABLE + 1,
	.iif = "lo",
};

/* Adding twice and deleting twice succeeds, and says which of them did something. */
Test(nl_route, rule_add_and_del_are_idempotent)
{
	static const int families[] = { AF_INET, AF_INET6 };

	for (size_t i = 0; i < 4; i++) {
		struct nl_rule r = i % 2 ? rule_mark : rule_ports;
		bool changed = false;

		r.family = (uint8_t)families[i / 2];
		add_rule(&r, true);
		add_rule(&r, false);
		cr_assert_eq(nl_rule_count(&nl, r.family, TEST_PROTO, &err), 1);
		cr_assert_eq(nl_rule_del(&nl, &r, &changed, &err), 0, "%s", err.text);
		cr_assert(changed);
		cr_assert_eq(nl_rule_del(&nl, &r, &changed, &err), 0, "%s", err.text);
		cr_assert_not(changed);
	}
}

/* Selectors reach the kernel as `ip rule` would have written them. */
Test(nl_route, rules_are_as_iproute2_would_make_them)
{
	struct nl_rule mark = rule_mark;
	struct nl_rule ports = rule_ports;
	char line[256];

	mark.family = AF_INET;
	ports.family = AF_INET6;
	add_rule(&mark, true);
	add_rule(&ports, true);
	ip_line(line, sizeof(line), "ip rule show pref 50");
	cr_assert_str_eq(line, "50:\tfrom all fwmark 0x1234 lookup 100001 proto 77\n");
	ip_line(line, sizeof(line), "ip -6 rule show pref 51");
	cr_assert_str_eq(line, "51:\tfrom all iif lo ipproto udp sport 4000-4010 "
			       "lookup 100002 proto 77\n");
}

/* Flushing takes all of ours with that priority and nobody else's. */
Test(nl_route, rule_flush_leaves_foreign_rules)
{
	struct nl_rule r = rule_mark;
	struct nl_rule ports = rule_ports;

	r.family = ports.family = AF_INET;
	for (r.fwmark = 1; r.fwmark <= 100; r.fwmark++)
		add_rule(&r, true);
	add_rule(&ports, true);
	r.protocol = TEST_PROTO_FOREIGN;
	add_rule(&r, true);
	cr_assert_eq(nl_rule_count(&nl, AF_INET, TEST_PROTO, &err), 101, "%s", err.text);

	cr_assert_eq(nl_rule_flush(&nl, AF_INET, TEST_PROTO, 50, &err), 100, "%s", err.text);
	cr_assert_eq(nl_rule_flush(&nl, AF_INET, TEST_PROTO, 50, &err), 0);
	cr_assert_eq(nl_rule_count(&nl, AF_INET, TEST_PROTO, &err), 1);
	cr_assert_eq(nl_rule_count(&nl, AF_INET, TEST_PROTO_FOREIGN, &err), 1);
	cr_assert_eq(nl_rule_count(&nl, AF_INET6, TEST_PROTO, &err), 0);
	cr_assert_gt(nl_rule_count(&nl, AF_INET, RTPROT_KERNEL, &err), 0);
}
