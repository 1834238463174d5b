/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_publish.c - annotations of a container: the options they stand for, and what is said
 * of bad ones
 */

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fwd/publish.h"
#include "util.h"

enum { TIMEOUT = 10, ROWS_MAX = 64, TEXT = 16384 };

struct row {
	const char *text, *want; /* options with a blank between them, or the error */
};

static const struct row specs[] = {
	{ "8080:80", "-t 8080:80" },
	{ "8080:80/tcp", "-t 8080:80" },
	{ "53/udp", "-u 53" },
	{ "53/tcp+udp", "-t 53 -u 53" },
	{ "0.0.0.0%eth0/8080:80/tcp,8443:443", "-t 0.0.0.0%eth0/8080:80,8443:443" },
	{ "198.18.0.1/8080:80/tcp,[fd00::1]/8080:80/tcp",
	  "-t 198.18.0.1/8080:80 -t [fd00::1]/8080:80" },
	{ "127.0.0.1/1,2 3", "-t 127.0.0.1/1,2 -t 3" },
	{ "127.0.0.1/1 , 2", "-t 127.0.0.1/1,2" },
	{ " 1\n2\t3/udp ", "-t 1,2 -u 3" },
	{ "127.0.0.1/1/udp,2", "-u 127.0.0.1/1 -t 127.0.0.1/2" },
	{ "8000-8010:9000-9010,~8005", "-t 8000-8010:9000-9010,~8005" },
	{ "8000-8010/udp,~8005/udp,~8006/udp", "-u 8000-8010,~8005,~8006" },
	{ "~22,all", "-t ~22,all" },
	{ "all", "-t all" },
	{ "auto/udp", "-u auto" },
	{ "198.18.0.1/auto", "-t 198.18.0.1/auto" },
	{ "198.18.0.1/auto:198.18.0.2/tcp+udp",
	  "-t 198.18.0.1/auto:198.18.0.2 -u 198.18.0.1/auto:198.18.0.2" },
	{ "none", "-t none" },
	{ "%eth0", "-t %eth0/all" },
	{ "%eth0/udp", "-u %eth0/all" },
	{ "198.18.0.1/", "-t 198.18.0.1/all" },
	{ "8080:198.18.0.1/80", "-t 8080:198.18.0.1/80" },
	{ "80:[fd00::1]/443/udp", "-u 80:[fd00::1]/443" },
	{ "fd00::1/443/udp", "-u fd00::1/443" },
	{ "[fd00::1]%eth0/443/udp", "-u [fd00::1]%eth0/443" },
	/* Wrong, which portspec_parse() will say. */
	{ "0", "-t 0" },
	{ "/80", "-t /80" },
	{ "eth0/80", "-t eth0/80" },
	{ "-t", "-t -t" },
	{ "80/tcp/udp", "-u 80/tcp" },
	{ "", "" },
	{ " \n", "" },
};

static const struct row bad_specs[] = {
	{ ",", "an item is empty" },
	{ "80,", "an item is empty" },
	{ "80,,81", "an item is empty" },
	{ "80, ,81", "an item is empty" },
	{ ",80", "an item is empty" },
	{ "80/sctp", "'80/sctp' has a protocol that is not tcp, udp or tcp+udp" },
	{ "80/tcp+", "has a protocol" },
	{ "/tcp", "'/tcp' names no port" },
	{ "~22", "tcp '~22' excludes ports of nothing" },
	{ "8000-8010,~8005/udp", "udp '~8005' excludes ports of nothing" },
	{ "8000-8010 127.0.0.1/~8005", "tcp '127.0.0.1/~8005' excludes ports of nothing" },
};

static const struct row options[] = {
	{ "", "" },
	{ "-4", "-4" },
	{ " --source=require\n--udp-timeout=10,30 -d ", "--source=require --udp-timeout=10,30 -d" },
	{ "--engine=epoll --threads=1 --max-flows=10 --connect-timeout=1 --half-closed-timeout=2",
	  "--engine=epoll --threads=1 --max-flows=10 --connect-timeout=1 --half-closed-timeout=2" },
	{ "-6 -q --ipv4-only --ipv6-only --quiet --debug --freebind --host-lo-to-ns-lo",
	  "-6 -q --ipv4-only --ipv6-only --quiet --debug --freebind --host-lo-to-ns-lo" },
	{ "--source=", "--source=" },
};

static const struct row bad_options[] = {
	{ "--sandbox=off", "'--sandbox' cannot be set by an annotation" },
	{ "--netns=1", "'--netns' cannot be set by an annotation" },
	{ "--netns", "'--netns' cannot" },
	{ "-4 -P/tmp/x", "'-P/tmp/x' cannot" },
	{ "--pid=/tmp/x", "'--pid' cannot" },
	{ "-l", "'-l' cannot" },
	{ "--log-file=x", "'--log-file' cannot" },
	{ "--control=x", "'--control' cannot" },
	{ "--exit-fd=3", "'--exit-fd' cannot" },
	{ "--ready-fd=3", "'--ready-fd' cannot" },
	{ "--listen-fd=a=b", "'--listen-fd' cannot" },
	{ "--foreground", "'--foreground' cannot" },
	{ "-46", "'-46' cannot" },
	{ "-t80", "'-t80' cannot" },
	{ "--sour=off", "'--sour' cannot" },
	{ "--", "'--' cannot" },
	{ "sh", "'sh' cannot" },
	{ "--source off", "'--source' takes a value, behind '='" },
	{ "--freebind=yes", "'--freebind' takes no value" },
};

static unsigned row_index[ROWS_MAX];

static struct criterion_test_params rows(size_t n)
{
	cr_assert_leq(n, ROWS_MAX);
	for (unsigned i = 0; i < n; i++)
		row_index[i] = i;
	return cr_make_param_array(unsigned, row_index, n);
}

/* With a blank between them. */
static const char *joined(const struct publish *p)
{
	static char text[TEXT];
	size_t len = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < p->n; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i ? " " : "",
					p->v[i]);
	cr_assert_null(p->v[p->n]);
	return text;
}

static void good(const struct row *row, int (*fn)(const char *, struct publish *, struct err *))
{
	struct publish p = { .n = 0 };
	struct err err = { "" };

	cr_assert_eq(fn(row->text, &p, &err), 0, "'%s': %s", row->text, err.text);
	cr_expect_str_eq(joined(&p), row->want);
	publish_free(&p);
}

static void bad(const struct row *row, int (*fn)(const char *, struct publish *, struct err *))
{
	struct publish p = { .n = 0 };
	struct err err = { "" };

	cr_expect_eq(fn(row->text, &p, &err), -EINVAL, "'%s'", row->text);
	cr_expect(strstr(err.text, row->want), "'%s': %s", row->text, err.text);
	cr_expect(strncmp(err.text, "annotation fwd.", 15) == 0, "%s", err.text);
	publish_free(&p);
}

/* Items become specifications, one for each place to listen and protocol. */
ParameterizedTestParameters(publish, specs_become_options)
{
	return rows(ARRAY_SIZE(specs));
}

ParameterizedTest(unsigned *i, publish, specs_become_options, .timeout = TIMEOUT)
{
	good(&specs[*i], publish_specs);
}

/* What no specification could say is refused. */
ParameterizedTestParameters(publish, bad_specs_are_named)
{
	return rows(ARRAY_SIZE(bad_specs));
}

ParameterizedTest(unsigned *i, publish, bad_specs_are_named, .timeout = TIMEOUT)
{
	bad(&bad_specs[*i], publish_specs);
}

/* Options that say how to forward are passed on. */
ParameterizedTestParameters(publish, options_are_passed_on)
{
	return rows(ARRAY_SIZE(options));
}

ParameterizedTest(unsigned *i, publish, options_are_passed_on, .timeout = TIMEOUT)
{
	good(&options[*i], publish_options);
}

/* All others are not, however they are written. */
ParameterizedTestParameters(publish, other_options_are_refused)
{
	return rows(ARRAY_SIZE(bad_options));
}

ParameterizedTest(unsigned *i, publish, other_options_are_refused, .timeout = TIMEOUT)
{
	bad(&bad_options[*i], publish_options);
}

/* Thousands of items of one place are one specification; many places are too many. */
Test(publish, has_limits, .timeout = TIMEOUT)
{
	struct publish p = { .n = 0 };
	char text[TEXT] = "";
	struct err err;
	size_t len = 0;

	for (unsigned i = 1; i <= 2000; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%u", i > 1 ? "," : "",
					i);
	cr_assert_eq(publish_specs(text, &p, &err), 0);
	cr_expect_eq(p.n, 2);
	cr_expect_str_eq(p.v[1], text);
	publish_free(&p);

	len = 0;
	for (unsigned i = 0; i < 65; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "198.18.0.%u/80 ", i);
	cr_expect_eq(publish_specs(text, &p, &err), -E2BIG);
	cr_expect(strstr(err.text, "more than 64 addresses"), "%s", err.text);
	publish_free(&p);

	len = 0;
	for (unsigned i = 0; i < 300; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "-d ");
	cr_expect_eq(publish_options(text, &p, &err), -E2BIG);
	cr_expect(strstr(err.text, "more than 256"), "%s", err.text);
	publish_free(&p);
}

/* A long item is cut in a message. */
Test(publish, long_items_are_cut, .timeout = TIMEOUT)
{
	struct publish p = { .n = 0 };
	char text[4096];
	struct err err;

	memset(text, '1', sizeof(text) - 6);
	memcpy(text + sizeof(text) - 6, "/sctp", 6);
	cr_expect_eq(publish_specs(text, &p, &err), -EINVAL);
	cr_expect(strstr(err.text, "1...' has a protocol"), "%s", err.text);
	publish_free(&p);
}
