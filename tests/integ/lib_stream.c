/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lib_stream.c - many transfers at once, every byte checked
 *
 * The pattern repeats after a prime number of bytes, so whatever is lost,
 * doubled or swapped in units of pages, pipes or buffers does not fit. One
 * poll(2) loop drives all streams; a slow reader is not polled until its next
 * millisecond has come.
 */

#include "lib.h"

#include <fcntl.h>
#include <poll.h>

#define PERIOD	   1048573 /* the largest prime below 2^20 */
#define CHUNK	   (256 * 1024)
#define MAX_STREAM 2048

static uint8_t pattern[PERIOD + CHUNK];

static void pattern_init(void)
{
	uint32_t x = 2463534242;

	if (pattern[0])
		return;
	for (size_t i = 0; i < sizeof(pattern); i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		pattern[i] = i < PERIOD ? (uint8_t)(x | 1) : pattern[i - PERIOD];
	}
}

/* Write once; false when this side is done, well or not. */
static bool stream_write(struct stream *s)
{
	size_t want = s->chunk ? s->chunk : CHUNK;
	ssize_t n;

	if (want > s->total - s->sent)
		want = s->total - s->sent;
	n = send(s->from, pattern + s->sent % PERIOD, want, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && errno != EAGAIN) {
		s->error = errno;
		s->bad = true;
	} else if (n > 0) {
		s->sent += (size_t)n;
	}
	if (s->sent == s->total && s->fin)
		shutdown(s->from, SHUT_WR);
	return !s->bad && s->sent < s->total;
}

static bool stream_read(struct stream *s, int64_t now)
{
	static uint8_t buf[CHUNK];
	size_t want = s->slow ? s->slow : sizeof(buf);
	ssize_t n = recv(s->to, buf, want < sizeof(buf) ? want : sizeof(buf), MSG_DONTWAIT);

	if (n < 0 && errno != EAGAIN) {
		s->error = errno;
		s->bad = true;
	} else if (n == 0) {
		s->eof = true;
		s->bad = s->got != s->total || !s->fin;
	} else if (n > 0) {
		s->bad = (size_t)n > s->total - s->got ||
			 memcmp(buf, pattern + s->got % PERIOD, (size_t)n);
		s->got += (size_t)n;
	}
	if (s->slow)
		s->next_ms = now + 1;
	return !s->bad && !s->eof && (s->got < s->total || s->fin);
}

static void report(const struct stream *s, unsigned i)
{
	fprintf(stderr, "stream %u: sent %llu, arrived %llu of %llu%s%s%s\n", i,
		(unsigned long long)s->sent, (unsigned long long)s->got,
		(unsigned long long)s->total, s->bad && !s->error ? ", content differs" : "",
		s->error ? ", error: " : "", s->error ? strerror(s->error) : "");
}

bool streams_run(struct stream *s, unsigned n, int timeout_ms)
{
	static struct pollfd p[2 * MAX_STREAM];
	int64_t end = now_ms() + patient(timeout_ms), now;
	unsigned busy;
	bool ok = true;

	cr_assert(n <= MAX_STREAM);
	pattern_init();
	for (unsigned i = 0; i < n; i++) {
		p[2 * i] = (struct pollfd){ s[i].from, POLLOUT, 0 };
		p[2 * i + 1] = (struct pollfd){ s[i].to, POLLIN, 0 };
	}
	do {
		int wait;

		busy = 0;
		now = now_ms();
		wait = (int)(end - now);
		for (unsigned i = 0; i < n; i++) {
			bool later = s[i].slow && s[i].next_ms > now;

			if (p[2 * i + 1].fd >= 0)
				p[2 * i + 1].events = later ? 0 : POLLIN;
			if (later && wait > 1)
				wait = 1;
			busy += (p[2 * i].fd >= 0) + (p[2 * i + 1].fd >= 0);
		}
		if (!busy || wait <= 0)
			break;
		poll(p, 2 * n, wait);
		now = now_ms();
		for (unsigned i = 0; i < n; i++) {
			if (p[2 * i].revents && !stream_write(&s[i]))
				p[2 * i].fd = -1;
			if (p[2 * i + 1].revents && !stream_read(&s[i], now))
				p[2 * i + 1].fd = -1;
			if (s[i].bad)
				p[2 * i].fd = p[2 * i + 1].fd = -1;
		}
	} while (busy);

	for (unsigned i = 0; i < n; i++) {
		bool good = !s[i].bad && s[i].got == s[i].total && s[i].eof == s[i].fin;

		if (!good)
			report(&s[i], i);
		ok = ok && good;
	}
	return ok;
}
