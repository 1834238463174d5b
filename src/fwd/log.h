/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The log: to stderr, to a file that is kept under a size, or to syslog(3).
 * One line per event, lower case, no full stop. Safe in threads.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

enum log_level { LOG_LEVEL_ERR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* What is written at all; set once at start. */
extern enum log_level log_level;

/*
 * Log to @path from now on, which is created with mode 0600 or added to. When it
 * grows beyond @max_size bytes its older half is dropped. 0 or -errno with @err.
 */
int log_to_file(const char *path, size_t max_size, struct err *err);

/*
 * Connect to syslog(3), if there is no file: log_detach() may come when nothing can be
 * connected any more.
 */
void log_prepare(void);

/* No longer to stderr; to syslog if there is no file. */
void log_detach(void);

void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static inline bool log_enabled(enum log_level level)
{
	return level <= log_level;
}

#define log_err(...)   log_write(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
