/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load_util.c - clock, pattern, sockets and output of the load generator
 *
 * The pattern is what makes a lost, doubled or misplaced byte visible: random
 * bytes with an odd period, so that data shifted by anything but a multiple of
 * the period differs everywhere. CHECK_SAMPLE therefore looks at eight bytes of
 * every 512 only: it finds every shift and every wrong page for a tenth of the
 * cost of a full comparison, which would be measured along with the relay.
 */
#include "load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { SAMPLE_STEP = 512, LISTEN_BACKLOG = 4096, UDP_BUFFER = 4 << 20 };

static uint8_t pattern[PATTERN_PERIOD + LOAD_CHUNK + sizeof(uint64_t)];
static volatile sig_atomic_t stopped;

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

void die(bool with_errno, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	fputs("load: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	if (with_errno)
		fprintf(stderr, ": %s", strerror(saved));
	fputc('\n', stderr);
	exit(1);
}

/* splitmix64: the same bytes in every process, with no seed to pass on. */
void pattern_init(void)
{
	uint64_t state = 0x6677642d62656e63ULL;
	size_t i;

	for (i = 0; i < PATTERN_PERIOD; i++) {
		uint64_t z = (state += 0x9e3779b97f4a7c15ULL);

		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
		z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
		pattern[i] = (uint8_t)(z >> 56);
	}
	for (; i < sizeof(pattern); i++)
		pattern[i] = pattern[i - PATTERN_PERIOD];
}

const uint8_t *pattern_at(uint64_t pos)
{
	return pattern + pos % PATTERN_PERIOD;
}

bool pattern_matches(const void *buf, size_t len, uint64_t pos, enum load_check check)
{
	const uint8_t *got = buf, *want = pattern_at(pos);

	if (check == CHECK_NONE)
		return true;
	if (check == CHECK_FULL || len < 2 * SAMPLE_STEP)
		return memcmp(got, want, len) == 0;
	for (size_t i = 0; i + sizeof(uint64_t) <= len; i += SAMPLE_STEP) {
		uint64_t a, b;

		memcpy(&a, got + i, sizeof(a));
		memcpy(&b, want + i, sizeof(b));
		if (a != b)
			return false;
	}
	return memcmp(got + len - sizeof(uint64_t), want + len - sizeof(uint64_t),
		      sizeof(uint64_t)) == 0;
}

static int socket_new(const struct load_opts *o, int type)
{
	int on = 1, size = UDP_BUFFER;
	int fd = socket(o->addr.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die(true, "socket");
	if (type == SOCK_STREAM)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	else {
		/* Capped by net.core.[rw]mem_max; the same for everybody. */
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	}
	return fd;
}

int socket_server(const struct load_opts *o, int type)
{
	int on = 1, fd = socket_new(o, type);

	if (type == SOCK_STREAM)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)&o->addr, o->addr_len) < 0)
		die(true, "bind");
	if (type == SOCK_STREAM && listen(fd, LISTEN_BACKLOG) < 0)
		die(true, "listen");
	return fd;
}

static int socket_connect(const struct load_opts *o, int fd)
{
	if (connect(fd, (const struct sockaddr *)&o->addr, o->addr_len) < 0 &&
	    errno != EINPROGRESS) {
		int err = errno;

		close(fd);
		return -err;
	}
	return fd;
}

int socket_client(const struct load_opts *o, int type)
{
	return socket_connect(o, socket_new(o, type));
}

int socket_client_from(const struct load_opts *o, unsigned int nth)
{
	struct sockaddr_storage from = o->from;
	uint8_t *end = from.ss_family == AF_INET
			       ? (uint8_t *)(&((struct sockaddr_in *)&from)->sin_addr + 1)
			       : (uint8_t *)(&((struct sockaddr_in6 *)&from)->sin6_addr + 1);
	int fd = socket_new(o, SOCK_DGRAM), on = 1;

	/* IPv6 binds to what is only routed to us no other way. */
	setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof(on));
	end[-2] = (uint8_t)(nth >> 8);
	end[-1] = (uint8_t)nth;
	if (bind(fd, (const struct sockaddr *)&from, o->addr_len) < 0)
		die(true, "bind to --from");
	return socket_connect(o, fd);
}

void epoll_add(int ep, int fd, uint32_t events, void *data)
{
	struct epoll_event ev = { .events = events, .data.ptr = data };

	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
		die(true, "epoll_ctl add");
}

void epoll_change(int ep, int fd, uint32_t events, void *data)
{
	struct epoll_event ev = { .events = events, .data.ptr = data };

	if (epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev) < 0)
		die(true, "epoll_ctl mod");
}

int wait_ms(uint64_t deadline, int max)
{
	uint64_t now = now_ns(), ms;

	if (now >= deadline)
		return 0;
	ms = (deadline - now + 999999) / 1000000;
	return ms > (uint64_t)max ? max : (int)ms;
}

static void stop_handler(int sig)
{
	(void)sig;
	stopped = 1;
}

void stop_catch(void)
{
	struct sigaction sa = { .sa_handler = stop_handler };

	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

bool stop_asked(void)
{
	return stopped != 0;
}

void say_ready(void)
{
	puts("ready");
	fflush(stdout);
}

void json_begin(const struct load_opts *o)
{
	printf("{\"role\": \"%s\", \"scenario\": \"%s\"", o->server ? "server" : "client",
	       o->scenario);
}

void json_u64(const char *key, uint64_t value)
{
	printf(", \"%s\": %llu", key, (unsigned long long)value);
}

void json_f64(const char *key, double value)
{
	printf(", \"%s\": %.6f", key, value);
}

void json_end(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	json_f64("cpu_s", (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
				  (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6);
	puts("}");
	fflush(stdout);
}
