/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - the log
 */
#include "fwd/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>

#include "util.h"

#define LOG_LINE 1024

enum log_level log_level = LOG_LEVEL_INFO;

static struct {
	pthread_mutex_t lock;
	int file; /* -1: none */
	size_t max_size;
	size_t size;
	_Atomic bool detached; /* set while workers may log already */
} logger = { .lock = PTHREAD_MUTEX_INITIALIZER, .file = -1 };

int log_to_file(const char *path, size_t max_size, struct err *err)
{
	struct stat st;
	int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_sys(err, errno, "log file '%s'", path);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return err_set(err, EINVAL, "log file '%s' is not a regular file", path);
	}
	logger.file = fd;
	logger.max_size = max_size;
	logger.size = (size_t)st.st_size;
	return 0;
}

void log_prepare(void)
{
	if (logger.file < 0)
		openlog("fwd", LOG_PID | LOG_NDELAY, LOG_DAEMON);
	tzset(); /* syslog(3) has local times: /etc/localtime is read now */
}

void log_detach(void)
{
	logger.detached = true;
}

/* Keep the newer half of the file, from the start of a line. */
static void log_shrink(void)
{
	off_t from = (off_t)(logger.size - logger.max_size / 2), to = 0;
	bool at_line = false;
	char buf[16384];
	ssize_t n;

	while ((n = pread(logger.file, buf, sizeof(buf), from)) > 0) {
		char *start = buf;

		from += n;
		if (!at_line) {
			start = memchr(buf, '\n', (size_t)n);
			if (!start)
				continue;
			at_line = true;
			start++;
			n -= start - buf;
		}
		/* O_APPEND makes pwrite(2) append, whatever the offset: lift it here. */
		if (pwrite(logger.file, start, (size_t)n, to) != n)
			break;
		to += n;
	}
	if (ftruncate(logger.file, to) == 0)
		logger.size = (size_t)to;
}

static void log_write_file(const char *line, size_t len)
{
	pthread_mutex_lock(&logger.lock);
	if (logger.max_size > 0 && logger.size + len > logger.max_size &&
	    logger.size > logger.max_size / 2) {
		fcntl(logger.file, F_SETFL, 0);
		log_shrink();
		fcntl(logger.file, F_SETFL, O_APPEND);
	}
	if (write(logger.file, line, len) == (ssize_t)len)
		logger.size += len;
	pthread_mutex_unlock(&logger.lock);
}

static size_t log_stamp(char *buf, size_t size)
{
	struct timespec ts;
	struct tm tm;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(buf, size, "%Y-%m-%dT%H:%M:%S", &tm);
	return n + (size_t)snprintf(buf + n, size - n, ".%03ldZ ", ts.tv_nsec / 1000000);
}

void log_write(enum log_level level, const char *fmt, ...)
{
	static const char *const names[] = { "error: ", "warning: ", "", "debug: " };
	static const int priorities[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
	char line[LOG_LINE];
	size_t stamp, len;
	bool detached;
	va_list ap;
	int n;

	if (!log_enabled(level))
		return;
	stamp = log_stamp(line, sizeof(line));
	len = stamp + (size_t)snprintf(line + stamp, sizeof(line) - stamp, "%s", names[level]);
	va_start(ap, fmt);
	n = vsnprintf(line + len, sizeof(line) - len - 1, fmt, ap);
	va_end(ap);
	len += (size_t)n < sizeof(line) - len - 1 ? (size_t)n : sizeof(line) - len - 2;
	line[len] = '\n';

	detached = logger.detached;
	if (logger.file >= 0)
		log_write_file(line, len + 1);
	else if (detached)
		syslog(priorities[level], "%.*s", (int)(len - stamp), line + stamp);
	if (!detached)
		dprintf(STDERR_FILENO, "fwd: %.*s\n", (int)(len - stamp), line + stamp);
}
