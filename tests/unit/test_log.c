/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_log.c - the log: levels, the file and its size, and who else gets it
 */

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fwd/log.h"
#include "util.h"

enum { TIMEOUT = 10, PATH = 64, TEXT = 256 * 1024, MAX_SIZE = 4096, STAMP = 25 };

static char dir[PATH], path[PATH], text[TEXT];
static int stderr_copy = -1, captured = -1;

/* What goes to stderr lies in a file until the end of the test. */
static void set_up(void)
{
	snprintf(dir, sizeof(dir), "/tmp/fwd-test-log.XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%.32s/log", dir);
	stderr_copy = dup(STDERR_FILENO);
	captured = memfd_create("stderr", MFD_CLOEXEC);
	cr_assert(stderr_copy >= 0 && captured >= 0);
	dup2(captured, STDERR_FILENO);
}

static void tear_down(void)
{
	dup2(stderr_copy, STDERR_FILENO);
	close(stderr_copy);
	close(captured);
	unlink(path);
	rmdir(dir);
}

TestSuite(log, .init = set_up, .fini = tear_down);

static void open_log(size_t max_size)
{
	struct err err = { "" };

	cr_assert_eq(log_to_file(path, max_size, &err), 0, "%s", err.text);
}

/* The whole file, in @text. */
static size_t read_log(void)
{
	int n = read_file(path, text, sizeof(text));

	cr_assert_geq(n, 0, "%s: %s", path, strerror(-n));
	return (size_t)n;
}

static const char *read_stderr(void)
{
	ssize_t n = pread(captured, text, sizeof(text) - 1, 0);

	cr_assert_geq(n, 0);
	text[n] = '\0';
	return text;
}

static void write_log(const char *content)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, content, strlen(content)), (ssize_t)strlen(content));
	close(fd);
}

/* ---------------------------------------------------------------- lines */

/* A line: time, what kind it is, the text, and one newline. */
Test(log, writes_one_line_each, .timeout = TIMEOUT)
{
	unsigned year;

	open_log(0);
	log_info("port %u", 80);
	cr_assert_eq(read_log(), STAMP + strlen("port 80\n"));
	cr_assert_eq(sscanf(text, "%4u-%*2u-%*2uT%*2u:%*2u:%*2u.%*3uZ ", &year), 1, "%s", text);
	cr_assert_geq(year, 1970);
	cr_assert_str_eq(text + STAMP, "port 80\n");
}

/* The level stands before the text, but for the usual one. */
Test(log, names_the_level, .timeout = TIMEOUT)
{
	static const char *const wanted[] = { "error: x\n", "warning: x\n", "x\n", "debug: x\n" };
	char *line = text;

	log_level = LOG_LEVEL_DEBUG;
	open_log(0);
	log_err("x");
	log_warn("x");
	log_info("x");
	log_debug("x");
	read_log();
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		line += STAMP;
		cr_assert_eq(strncmp(line, wanted[i], strlen(wanted[i])), 0, "%s", line);
		line += strlen(wanted[i]);
	}
	cr_assert_eq(*line, '\0');
}

static unsigned count_lines(void)
{
	unsigned n = 0;

	for (const char *p = text; *p; p++)
		n += *p == '\n';
	return n;
}

/* What lies above the level is left out. */
Test(log, leaves_out_what_is_above_its_level, .timeout = TIMEOUT)
{
	open_log(0);
	for (int level = LOG_LEVEL_ERR; level <= LOG_LEVEL_DEBUG; level++) {
		log_level = (enum log_level)level;
		cr_assert_eq(truncate(path, 0), 0);
		for (int at = LOG_LEVEL_ERR; at <= LOG_LEVEL_DEBUG; at++) {
			cr_assert_eq(log_enabled((enum log_level)at), at <= level);
			log_write((enum log_level)at, "x");
		}
		read_log();
		cr_assert_eq(count_lines(), (unsigned)level + 1);
	}
}

/* However long the text is, it is one line with an end. */
Test(log, cuts_a_line_that_is_too_long, .timeout = TIMEOUT)
{
	char longest[3000];

	open_log(0);
	for (size_t len = 900; len < sizeof(longest); len += 1 + len / 100) {
		size_t n;

		memset(longest, 'a', len);
		longest[len] = '\0';
		cr_assert_eq(truncate(path, 0), 0);
		log_info("%s", longest);
		n = read_log();
		cr_assert_eq(text[n - 1], '\n');
		cr_assert_eq(count_lines(), 1);
		cr_assert_eq(strspn(text + STAMP, "a"), n - STAMP - 1);
		cr_assert(n == STAMP + len + 1 || n > 900);
	}
}

/* ---------------------------------------------------------------- where they go */

/* Without a file they go to stderr, with the program's name in place of the time. */
Test(log, goes_to_stderr_at_first, .timeout = TIMEOUT)
{
	log_warn("port %u", 80);
	cr_assert_str_eq(read_stderr(), "fwd: warning: port 80\n");
}

/* With a file they go to both, as long as somebody may be looking. */
Test(log, goes_to_stderr_beside_the_file, .timeout = TIMEOUT)
{
	open_log(0);
	log_info("x");
	cr_assert_str_eq(read_stderr(), "fwd: x\n");
	read_log();
	cr_assert_str_eq(text + STAMP, "x\n");
}

/* In the background only the file gets them. */
Test(log, goes_to_the_file_alone_when_detached, .timeout = TIMEOUT)
{
	open_log(0);
	log_detach();
	log_info("x");
	cr_assert_str_eq(read_stderr(), "");
	read_log();
	cr_assert_str_eq(text + STAMP, "x\n");
}

/* Without a file nothing is left for stderr: syslog has it. */
Test(log, is_silent_when_detached_without_a_file, .timeout = TIMEOUT)
{
	log_detach();
	log_info("x");
	cr_assert_str_eq(read_stderr(), "");
}

/* ---------------------------------------------------------------- the file */

/* Nobody else reads it, whatever the umask is. */
Test(log, creates_the_file_for_its_owner_alone, .timeout = TIMEOUT)
{
	struct stat st;

	umask(0);
	open_log(0);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0600, "%o", st.st_mode);
}

/* A file that is there is added to. */
Test(log, adds_to_a_file, .timeout = TIMEOUT)
{
	write_log("before\n");
	open_log(0);
	log_info("x");
	read_log();
	cr_assert_eq(strncmp(text, "before\n", 7), 0);
	cr_assert_str_eq(text + 7 + STAMP, "x\n");
}

static void assert_refused(const char *where, const char *want)
{
	struct err err = { "" };
	char line[512];

	snprintf(line, sizeof(line), "log file '%s'%s", where, want);
	cr_assert_lt(log_to_file(where, 0, &err), 0);
	cr_assert_str_eq(err.text, line);
}

/* What is no regular file, or leads elsewhere, is refused. */
Test(log, refuses_what_is_not_a_regular_file, .timeout = TIMEOUT)
{
	char missing[2 * PATH];

	snprintf(missing, sizeof(missing), "%.60s/no/such", dir);
	assert_refused(missing, ": No such file or directory");
	assert_refused(dir, ": Is a directory");
	assert_refused("/dev/null", " is not a regular file");
	cr_assert_eq(mkfifo(path, 0600), 0);
	assert_refused(path, " is not a regular file");
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(symlink("/dev/null", path), 0);
	assert_refused(path, ": Too many levels of symbolic links");
}

/* ---------------------------------------------------------------- its size */

/* The number at the end of the line at @line; its end in @ret_next. */
static unsigned line_number(const char *line, const char **ret_next)
{
	unsigned n = 0;

	cr_assert_eq(sscanf(line + STAMP, "line %u\n", &n), 1, "%.80s", line);
	*ret_next = strchr(line, '\n') + 1;
	return n;
}

/* The lines of the file follow each other up to @last; how many there are. */
static unsigned check_lines(unsigned last)
{
	const char *line = text;
	unsigned n = 0, before = 0;

	read_log();
	while (*line) {
		unsigned number = line_number(line, &line);

		cr_assert(n++ == 0 || number == before + 1, "%u after %u", number, before);
		before = number;
	}
	cr_assert_eq(before, last);
	return n;
}

static size_t log_file_size(void)
{
	struct stat st;

	cr_assert_eq(stat(path, &st), 0);
	return (size_t)st.st_size;
}

static void sweep_size(size_t max_size, unsigned lines)
{
	bool dropped = false;
	size_t size = 0;

	open_log(max_size);
	for (unsigned i = 1; i <= lines; i++) {
		size_t before = size;

		log_info("line %u", i);
		size = log_file_size();
		cr_assert_leq(size, max_size);
		if (size < before) {
			dropped = true;
			cr_assert_geq(size, max_size / 2 - 40);
			check_lines(i);
		}
	}
	cr_assert(dropped);
	check_lines(lines);
}

/* Beyond its size the older half is dropped: whole lines are left, none is missing. */
Test(log, keeps_the_newer_half, .timeout = TIMEOUT)
{
	sweep_size(MAX_SIZE, 1000);
}

/* The same with a file that is larger than one buffer. */
Test(log, keeps_the_newer_half_of_a_large_file, .timeout = TIMEOUT)
{
	sweep_size(100000, 6000);
}

/* The same when lines end where the buffers do. */
Test(log, keeps_the_newer_half_wherever_lines_end, .timeout = TIMEOUT)
{
	for (size_t max_size = MAX_SIZE; max_size < MAX_SIZE + 40; max_size++) {
		cr_assert(max_size == MAX_SIZE || truncate(path, 0) == 0);
		sweep_size(max_size, 200);
	}
}

/* A file that was too large before is cut down with the first line. */
Test(log, cuts_down_a_file_that_is_too_large_already, .timeout = TIMEOUT)
{
	open_log(0);
	for (unsigned i = 1; i <= 2000; i++)
		log_info("line %u", i);
	open_log(MAX_SIZE);
	log_info("line %u", 2001);
	cr_assert_leq(log_file_size(), MAX_SIZE);
	cr_assert_gt(check_lines(2001), 10);
}

/* A file without any line to begin at is emptied. */
Test(log, empties_a_file_of_one_endless_line, .timeout = TIMEOUT)
{
	char endless[MAX_SIZE + 1];

	memset(endless, 'a', MAX_SIZE);
	endless[MAX_SIZE] = '\0';
	write_log(endless);
	open_log(MAX_SIZE);
	log_info("x");
	read_log();
	cr_assert_str_eq(text + STAMP, "x\n");
}

/* ---------------------------------------------------------------- threads */

enum { THREADS = 4, LINES = 3000 };

static void *write_lines(void *name)
{
	for (int i = 0; i < LINES; i++)
		log_info("%s %s %s", (char *)name, (char *)name, (char *)name);
	return NULL;
}

/* Lines of several threads come whole, also when the file is cut down meanwhile. */
Test(log, writes_whole_lines_from_several_threads, .timeout = TIMEOUT)
{
	static char names[THREADS][2] = { "a", "b", "c", "d" };
	pthread_t thread[THREADS];
	char *save = NULL;

	open_log(MAX_SIZE);
	log_detach();
	for (int i = 0; i < THREADS; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, write_lines, names[i]), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	cr_assert_leq(read_log(), MAX_SIZE);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		cr_assert_eq(strlen(line), STAMP + 5, "%s", line);
		cr_assert(line[STAMP] == line[STAMP + 2] && line[STAMP] == line[STAMP + 4]);
	}
}
