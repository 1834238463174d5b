/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_conf_bad.c - what is said of a bad command line
 */

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <string.h>

#include "args.h"
#include "fwd/conf.h"
#include "util.h"

enum { TIMEOUT = 10, ROWS_MAX = 64 };

static unsigned row_index[ROWS_MAX];

static const struct {
	const char *line, *want;
} bad[] = {
	/* something is missing */
	{ "",
	  "no namespace: give --netns PID, PATH or NAME, or a COMMAND to run (see fwd --help)" },
	{ "-t 80",
	  "no namespace: give --netns PID, PATH or NAME, or a COMMAND to run (see fwd --help)" },
	{ "-t 80 --",
	  "no namespace: give --netns PID, PATH or NAME, or a COMMAND to run (see fwd --help)" },
	{ "123", "nothing to forward: give -t, for example -t 8080:80 or -t auto" },
	{ "--netns web", "nothing to forward: give -t, for example -t 8080:80 or -t auto" },

	/* what does not go together */
	{ "-4 -6 -t 80 123", "options '-4' and '-6' exclude each other" },
	{ "--ipv6-only -t 80 --ipv4-only 123", "options '-4' and '-6' exclude each other" },
	{ "-qd -t 80 123", "options '-q' and '-d' exclude each other" },
	{ "-t 80 --netns web 123", "'123': --netns and a PID exclude each other" },
	{ "-t 80 --netns web nginx", "'nginx': --netns and a COMMAND exclude each other" },

	/* options that there are not, and options without what they need */
	{ "--x true", "unrecognized option '--x'" },
	{ "--x=1 true", "unrecognized option '--x=1'" },
	{ "-f --no-such true", "unrecognized option '--no-such'" },
	{ "-x true", "unrecognized option '-x'" },
	{ "-fx true", "unrecognized option '-x'" },
	{ "-xf true", "unrecognized option '-x'" },
	{ "--freebind -xf true", "unrecognized option '-x'" },
	{ "--pid file -xf true", "unrecognized option '-x'" },
	{ "--h true", "unrecognized option '--h'" },
	{ "-t", "option requires an argument -- 't'" },
	{ "-fP", "option requires an argument -- 'P'" },
	{ "--tcp-ports", "option '--tcp-ports' requires an argument" },
	{ "--engine", "option '--engine' requires an argument" },
	{ "-f --threads", "option '--threads' requires an argument" },
	{ "--freebind=1 true", "option '--freebind=1' doesn't allow an argument" },

	/* bad values */
	{ "--source x true", "option '--source': 'x' is not keep, require or off" },
	{ "--source '' true", "option '--source': '' is not keep, require or off" },
	{ "--source Keep true", "option '--source': 'Keep' is not keep, require or off" },
	{ "--engine uring true", "option '--engine': 'uring' is not io_uring or epoll" },
	{ "--threads 0 true", "option '--threads': '0' is not a number from 1 to 64" },
	{ "--threads 65 true", "option '--threads': '65' is not a number from 1 to 64" },
	{ "--threads -1 true", "option '--threads': '-1' is not a number from 1 to 64" },
	{ "--threads 4x true", "option '--threads': '4x' is not a number from 1 to 64" },
	{ "--threads '' true", "option '--threads': '' is not a number from 1 to 64" },
	{ "--threads 18446744073709551617 true",
	  "option '--threads': '18446744073709551617' is not a number from 1 to 64" },
	{ "--max-flows 0 true", "option '--max-flows': '0' is not a number from 1 to 1048576" },
	{ "--max-flows 1048577 true",
	  "option '--max-flows': '1048577' is not a number from 1 to 1048576" },
	{ "--connect-timeout 0 true",
	  "option '--connect-timeout': '0' is not a number from 1 to 3600" },
	{ "--connect-timeout 3601 true",
	  "option '--connect-timeout': '3601' is not a number from 1 to 3600" },
	{ "--half-closed-timeout 0 true",
	  "option '--half-closed-timeout': '0' is not a number from 1 to 1000000" },
	{ "--udp-timeout 0 true", "option '--udp-timeout': '0' is not a number from 1 to 1000000" },
	{ "--udp-timeout 5,x true",
	  "option '--udp-timeout': 'x' is not a number from 1 to 1000000" },
	{ "--udp-timeout 5, true", "option '--udp-timeout': '' is not a number from 1 to 1000000" },
	{ "--udp-timeout ,5 true", "option '--udp-timeout': '' is not a number from 1 to 1000000" },
	{ "--udp-timeout 5,6,7 true",
	  "option '--udp-timeout': '6,7' is not a number from 1 to 1000000" },
	{ "--log-size 4095 true",
	  "option '--log-size': '4095' is not a number from 4096 to 4294967295" },
	{ "--log-size 1M true",
	  "option '--log-size': '1M' is not a number from 4096 to 4294967295" },

	/* port specifications, which the families decide on */
	{ "-t 80,x 123", "port specification '80,x': port 'x' is not a number from 1 to 65535" },
};

ParameterizedTestParameters(conf_bad, are_refused_with_one_line)
{
	cr_assert_leq(ARRAY_SIZE(bad), ROWS_MAX);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		row_index[i] = i;
	return cr_make_param_array(unsigned, row_index, ARRAY_SIZE(bad), NULL);
}

static void assert_refused(const char *line, struct err *ret)
{
	struct conf c = { .threads = 77 };
	struct args args;

	args_split(line, &args);
	cr_assert_eq(conf_parse(args.argc, args.argv, &c, ret), -EINVAL, "%s", line);
	cr_assert_eq(c.threads, 77, "%s: written to though it failed", line);
	cr_assert_null(strchr(ret->text, '\n'));
}

/* Each is refused by that line, and nothing is written to the result. */
ParameterizedTest(const unsigned *row, conf_bad, are_refused_with_one_line, .timeout = TIMEOUT)
{
	struct err err = { "" };

	assert_refused(bad[*row].line, &err);
	cr_assert_str_eq(err.text, bad[*row].want, "%s: %s", bad[*row].line, err.text);
}

/* Port specifications see -4 and -6 even if those come after them. */
Test(conf_bad, are_ports_that_do_not_fit_the_families, .timeout = TIMEOUT)
{
	struct err err;

	assert_refused("-t ::/80 -4 123", &err);
	assert_refused("-4 -t ::/80 123", &err);
	assert_refused("-t 0.0.0.0/80 -6 123", &err);
	assert_refused("-u ::1/80 -4 123", &err);
}
