/* SPDX-License-Identifier: Apache-2.0 */
/*
 * util.c - small helpers that every folder may use
 */

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

static const uint64_t ns_per_s = 1000000000;

static void (*fwd_assert_log)(const char *line);

void fwd_assert_set_log(void (*log)(const char *line))
{
	fwd_assert_log = log;
}

_Noreturn void fwd_assert_fail(const char *cond, const char *file, int line)
{
	char text[256];

	snprintf(text, sizeof(text), "%s:%d: assertion failed: %s", file, line, cond);
	if (fwd_assert_log)
		fwd_assert_log(text);
	else
		fprintf(stderr, "%s\n", text);
	abort();
}

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * ns_per_s + (uint64_t)ts.tv_nsec;
}

static int fd_compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

void close_fds_except(int *keep, unsigned n_keep)
{
	unsigned from = 3;

	if (n_keep > 0)
		qsort(keep, n_keep, sizeof(*keep), fd_compare);
	for (unsigned i = 0; i < n_keep; i++) {
		if (keep[i] < (int)from)
			continue;
		if ((unsigned)keep[i] > from)
			syscall(SYS_close_range, from, (unsigned)keep[i] - 1, 0);
		from = (unsigned)keep[i] + 1;
	}
	syscall(SYS_close_range, from, ~0u, 0);
}

int set_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

int read_file(const char *path, char *buf, size_t size)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;

	fwd_assert(size > 0);
	if (fd < 0)
		return -errno;

	/* Files in /proc come in pieces: only a read of nothing is the end. */
	while (len < size) {
		ssize_t n = read(fd, buf + len, size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0) {
			buf[len] = '\0';
			return (int)len;
		}
		len += (size_t)n;
	}
	return -EFBIG;
}

int open_parent(const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	char dir[PATH_MAX] = ".";
	int fd;

	if (slash && (size_t)(slash - path) >= sizeof(dir))
		return -ENAMETOOLONG;
	if (slash)
		snprintf(dir, sizeof(dir), "%.*s", slash == path ? 1 : (int)(slash - path), path);
	fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret_name = slash ? slash + 1 : path;
	return fd;
}

int write_file(const char *path, const char *text)
{
	cleanup_fd int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	size_t len = strlen(text);
	ssize_t n;

	if (fd < 0)
		return -errno;

	/* In one go: uid_map and its like take a single write (user_namespaces(7)). */
	do {
		n = write(fd, text, len);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

bool parse_u32(const char *s, uint32_t max, uint32_t *ret)
{
	uint64_t value = 0;

	if (!*s)
		return false;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return false;
		value = value * 10 + (uint64_t)(*s - '0');
		if (value > max)
			return false;
	}
	*ret = (uint32_t)value;
	return true;
}

const char *option_taken(char **argv)
{
	return argv[optind - 1] ? argv[optind - 1] : argv[optind - 2];
}
