/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/*
 * For our own bugs only; kept in release builds: says where, on stderr or to the
 * function that was set, then abort().
 */
#define fwd_assert(cond) ((cond) ? (void)0 : fwd_assert_fail(#cond, __FILE__, __LINE__))
_Noreturn void fwd_assert_fail(const char *cond, const char *file, int line);
void fwd_assert_set_log(void (*log)(const char *line));

/* Close *@fd if it is open and make it -1. For __attribute__((cleanup)), too. */
static inline void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}
#define cleanup_fd __attribute__((cleanup(close_fd)))

/* Take a descriptor out of its owner: returns *@fd and makes it -1. */
static inline int steal_fd(int *fd)
{
	int ret = *fd;

	*fd = -1;
	return ret;
}

/* Monotonic time in nanoseconds (clock_gettime(2), CLOCK_MONOTONIC). */
uint64_t now_ns(void);

/*
 * Close every descriptor from 3 on, but for the @n_keep in @keep, which is sorted on
 * the way; those that are negative count for nothing.
 */
void close_fds_except(int *keep, unsigned n_keep);

/* Set O_NONBLOCK. 0 or -errno. */
int set_nonblock(int fd);

/* Read a whole small file into @buf as a string. Its length, or -errno. */
int read_file(const char *path, char *buf, size_t size);

/*
 * Open (O_PATH) the directory that @path is in; *@ret_name points to the last part of
 * @path, for unlinkat(2) and the like. The descriptor or -errno.
 */
int open_parent(const char *path, const char **ret_name);

/* Write @text to an existing file. 0 or -errno. */
int write_file(const char *path, const char *text);

/* Decimal digits only, up to @max; false on anything else. */
bool parse_u32(const char *s, uint32_t max, uint32_t *ret);

/* The argument that getopt_long(3) took last. musl counts one that is missing, too. */
const char *option_taken(char **argv);
