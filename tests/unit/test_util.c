/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_util.c - small helpers, and the error lines of the cold path
 */

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "err.h"
#include "util.h"

enum { TIMEOUT = 10, UNTOUCHED = 4711 };

/* ---------------------------------------------------------------- numbers, time */

static const struct {
	const char *text;
	uint32_t max;
	bool good;
	uint32_t want;
} numbers[] = {
	{ "0", 10, true, 0 },
	{ "10", 10, true, 10 },
	{ "007", 10, true, 7 },
	{ "65535", 65535, true, 65535 },
	{ "4294967295", UINT32_MAX, true, UINT32_MAX },
	{ "11", 10, false, 0 },
	{ "65536", 65535, false, 0 },
	{ "4294967296", UINT32_MAX, false, 0 },
	{ "18446744073709551616", UINT32_MAX, false, 0 },
	{ "99999999999999999999999999", UINT32_MAX, false, 0 },
	{ "", 10, false, 0 },
	{ " 1", 10, false, 0 },
	{ "1 ", 10, false, 0 },
	{ "+1", 10, false, 0 },
	{ "-1", 10, false, 0 },
	{ "0x1", 10, false, 0 },
	{ "1.0", 10, false, 0 },
	{ "one", 10, false, 0 },
};

/* A number is digits up to a limit; anything else leaves the result alone. */
Test(util, parses_plain_numbers_only, .timeout = TIMEOUT)
{
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		uint32_t v = UNTOUCHED, want = numbers[i].good ? numbers[i].want : UNTOUCHED;

		cr_assert_eq(parse_u32(numbers[i].text, numbers[i].max, &v), numbers[i].good,
			     "'%s'", numbers[i].text);
		cr_assert_eq(v, want, "'%s'", numbers[i].text);
	}
}

/* Time goes forward. */
Test(util, has_a_clock_that_goes_forward, .timeout = TIMEOUT)
{
	uint64_t before = now_ns();

	for (int i = 0; i < 1000; i++) {
		uint64_t now = now_ns();

		cr_assert_geq(now, before);
		before = now;
	}
}

/* ---------------------------------------------------------------- descriptors */

/* close_fd() closes once and leaves -1. */
Test(util, closes_a_descriptor_once, .timeout = TIMEOUT)
{
	int fd[2], copy;

	cr_assert_eq(pipe(fd), 0);
	copy = fd[0];
	close_fd(&fd[0]);
	cr_assert_eq(fd[0], -1);
	cr_assert_eq(fcntl(copy, F_GETFD), -1);
	close_fd(&fd[0]);
	cr_assert_eq(fd[0], -1);
	close_fd(&fd[1]);
}

/* What goes out of scope is closed, unless it was stolen. */
Test(util, closes_at_the_end_of_a_scope, .timeout = TIMEOUT)
{
	int fd[2], kept;

	cr_assert_eq(pipe(fd), 0);
	{
		cleanup_fd int closed = fd[0];
		cleanup_fd int stolen = fd[1];

		cr_assert_eq(fcntl(closed, F_GETFD), 0);
		kept = steal_fd(&stolen);
		cr_assert_eq(stolen, -1);
	}
	cr_assert_eq(kept, fd[1]);
	cr_assert_eq(fcntl(fd[0], F_GETFD), -1);
	cr_assert_eq(fcntl(kept, F_GETFD), 0);
	close(kept);
}

/* set_nonblock() adds that flag, and says what is wrong. */
Test(util, makes_a_descriptor_non_blocking, .timeout = TIMEOUT)
{
	int fd[2];

	cr_assert_eq(pipe2(fd, O_CLOEXEC), 0);
	cr_assert_eq(set_nonblock(fd[1]), 0);
	cr_assert_eq(fcntl(fd[1], F_GETFL), O_WRONLY | O_NONBLOCK);
	close(fd[0]);
	close(fd[1]);
	cr_assert_eq(set_nonblock(fd[1]), -EBADF);
}

/* In a child, which needs no other: the descriptors that are as they should not be. */
static int wrong_after_close(void)
{
	int keep[] = { 70, -1, 50, 50, 90 };
	int wrong = 0;

	for (int fd = 50; fd <= 90; fd += 10)
		dup2(STDERR_FILENO, fd);
	close_fds_except(keep, ARRAY_SIZE(keep));
	for (int fd = 50; fd <= 90; fd += 10)
		wrong += (fcntl(fd, F_GETFD) == 0) != (fd != 60 && fd != 80);
	return wrong + (fcntl(STDERR_FILENO, F_GETFD) != 0);
}

/* Everything but a few descriptors is closed, in whatever order those are given. */
Test(util, closes_all_descriptors_but_some, .timeout = TIMEOUT)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(wrong_after_close());
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status));
	cr_assert_eq(WEXITSTATUS(status), 0);
}

/* ---------------------------------------------------------------- files */

/* A file is read whole, as a string, or not at all. */
Test(util, reads_whole_files, .timeout = TIMEOUT)
{
	char path[] = "/tmp/fwd-test-util.XXXXXX", buf[8];
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	cr_assert_eq(read_file(path, buf, sizeof(buf)), 0);
	cr_assert_str_eq(buf, "");
	cr_assert_eq(write_file(path, "1234567"), 0);
	cr_assert_eq(read_file(path, buf, sizeof(buf)), 7);
	cr_assert_str_eq(buf, "1234567");
	cr_assert_eq(write_file(path, "12345678"), 0);
	cr_assert_eq(read_file(path, buf, sizeof(buf)), -EFBIG);
	cr_assert_eq(write_file(path, "1"), 0);
	cr_assert_eq(read_file(path, buf, sizeof(buf)), 1);
	close(fd);
	unlink(path);
}

/* Files of /proc, which have no size and come in pieces. */
Test(util, reads_files_of_proc, .timeout = TIMEOUT)
{
	char buf[65536];

	cr_assert_gt(read_file("/proc/self/stat", buf, sizeof(buf)), 10);
	cr_assert_gt(read_file("/proc/self/maps", buf, sizeof(buf)), 100);
}

/* What cannot be read or written is an error, and nothing is created. */
Test(util, says_what_is_wrong_with_a_file, .timeout = TIMEOUT)
{
	char buf[8];

	cr_assert_eq(read_file("/no/such/file", buf, sizeof(buf)), -ENOENT);
	cr_assert_eq(read_file("/", buf, sizeof(buf)), -EISDIR);
	cr_assert_eq(write_file("/no/such/file", "x"), -ENOENT);
	cr_assert_eq(write_file("/", "x"), -EISDIR);
	cr_assert_eq(write_file("/dev/full", "x"), -ENOSPC);
}

/* ---------------------------------------------------------------- error lines */

/* The code comes back negative, the text is as given. */
Test(err, says_what_it_was_given, .timeout = TIMEOUT)
{
	struct err err;

	cr_assert_eq(err_set(&err, EINVAL, "port %u", 80), -EINVAL);
	cr_assert_str_eq(err.text, "port 80");
	cr_assert_eq(err_sys(&err, ENOENT, "file '%s'", "x"), -ENOENT);
	cr_assert_str_eq(err.text, "file 'x': No such file or directory");
	cr_assert_eq(err_prefix(&err, -5, "rule %u", 1), -5);
	cr_assert_str_eq(err.text, "rule 1: file 'x': No such file or directory");
}

/* Arguments may lie in the very line that is written. */
Test(err, may_quote_itself, .timeout = TIMEOUT)
{
	struct err err;

	err_set(&err, EINVAL, "inner");
	err_set(&err, EINVAL, "outer (%s)", err.text);
	cr_assert_str_eq(err.text, "outer (inner)");
	err_prefix(&err, -1, "<%s>", err.text);
	cr_assert_str_eq(err.text, "<outer (inner)>: outer (inner)");
}

/* Whatever a user typed, it is one line. */
Test(err, is_one_line, .timeout = TIMEOUT)
{
	struct err err;

	err_set(&err, EINVAL, "'%s'", "a\nb\tc\033[1m\177");
	cr_assert_str_eq(err.text, "'a?b?c?[1m?'");
}

/* A text that is too long ends in dots; the reason behind it is never lost. */
Test(err, is_cut_with_the_reason_kept, .timeout = TIMEOUT)
{
	static const char reason[] = ": Permission denied";
	char longest[2000];
	struct err err;
	size_t len;

	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	err_set(&err, EINVAL, "%s", longest);
	cr_assert_eq(strlen(err.text), sizeof(err.text) - 1);
	cr_assert_str_eq(err.text + sizeof(err.text) - 1 - 3, "...");
	err_sys(&err, EACCES, "%s", longest);
	len = strlen(err.text);
	cr_assert_lt(len, sizeof(err.text));
	cr_assert_str_eq(err.text + len - strlen(reason), reason);
	err_sys(&err, EACCES, "file");
	err_prefix(&err, -1, "%s", longest);
	len = strlen(err.text);
	cr_assert_str_eq(err.text + len - strlen(reason), reason);
}

/* ---------------------------------------------------------------- assertions */

/* fwd_assert() is silent about what is true, */
Test(util, asserts_what_is_true, .timeout = TIMEOUT)
{
	int n = 0;

	fwd_assert(++n == 1);
	cr_assert_eq(n, 1);
}

/* and aborts on what is not, in release builds, too. */
Test(util, aborts_on_what_is_not_true, .signal = SIGABRT, .timeout = TIMEOUT)
{
	fwd_assert(1 + 1 == 3);
}
