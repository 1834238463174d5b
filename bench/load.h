/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load.h - what the parts of the load generator share
 *
 * `load server SCENARIO` and `load client SCENARIO` are two ends of one
 * measurement. Each is one thread and one epoll loop, and prints one line of
 * JSON when it is done. The server says "ready" first, and finishes on SIGTERM.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum {
	LOAD_CHUNK = 256 * 1024, /* bytes offered to one send() or recv() */
	LOAD_EVENTS = 256,	 /* events taken from one epoll_wait() */
	LOAD_DRAIN_MS = 3000,	 /* a server's patience with open flows after SIGTERM */
	LOAD_MAX_SIZE = 64 * 1024,
};

enum load_check { CHECK_NONE, CHECK_SAMPLE, CHECK_FULL };

struct load_opts {
	bool server;
	const char *scenario;
	struct sockaddr_storage addr; /* server: where to listen; client: where to connect */
	socklen_t addr_len;
	/* echo: each datagram from a new socket, and from another one of the 65536 addresses
	 * that begin here, which must be ours. AF_UNSPEC: one socket for each flow. */
	struct sockaddr_storage from;
	uint64_t seconds_ns;  /* how long senders send, requesters request */
	uint64_t warmup_ns;   /* left out of every rate and histogram */
	uint64_t grace_ns;    /* after that: time to finish before we call it a hang */
	uint64_t pause_ns;    /* between two connections of "first" */
	unsigned int streams; /* connections, flows, or connections in parallel */
	unsigned int size;    /* bytes of a request and of its reply, or of a datagram */
	unsigned int gso;     /* datagrams in one UDP_SEGMENT send; 0: none */
	unsigned int rate;    /* datagrams per second, all flows together; 0: all we can */
	enum load_check check;
	bool send; /* bulk: this side sends */
	bool recv; /* bulk: this side receives */
};

/* ---- load_util.c */

/* Nanoseconds of the monotonic clock. */
uint64_t now_ns(void);

/* Print what failed, with errno's text if @with_errno, and exit with status 1. */
void die(bool with_errno, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));

/* The stream's byte at position p is pattern()[p % PATTERN_PERIOD]; at least LOAD_CHUNK bytes
 * may be read from each such place. */
enum { PATTERN_PERIOD = 250007 }; /* odd: no multiple of a page, pipe or segment */
void pattern_init(void);
const uint8_t *pattern_at(uint64_t pos);

/* True if @buf of @len bytes is what belongs at @pos, as far as @check looks. */
bool pattern_matches(const void *buf, size_t len, uint64_t pos, enum load_check check);

/* A non-blocking socket, listening at @o->addr; for UDP, bound to it. */
int socket_server(const struct load_opts *o, int type);

/* A non-blocking socket on its way to @o->addr. -errno if refused at once. */
int socket_client(const struct load_opts *o, int type);

/* Likewise, for datagrams, bound to the @nth address from @o->from on. */
int socket_client_from(const struct load_opts *o, unsigned int nth);

/* Register @fd for @events with @data. */
void epoll_add(int ep, int fd, uint32_t events, void *data);
void epoll_change(int ep, int fd, uint32_t events, void *data);

/* Milliseconds for epoll_wait() until @deadline, 0 if it has passed, at most @max. */
int wait_ms(uint64_t deadline, int max);

/* True once SIGTERM or SIGINT has come. */
bool stop_asked(void);
void stop_catch(void);

/* Say that the server listens. */
void say_ready(void);

/* The JSON line: json_begin, any json_*, json_end. */
void json_begin(const struct load_opts *o);
void json_u64(const char *key, uint64_t value);
void json_f64(const char *key, double value);
void json_end(void);

/* ---- scenarios; each returns the process's exit status */
int bulk_run(const struct load_opts *o);
int rr_server(const struct load_opts *o);
int rr_client(const struct load_opts *o);
int crr_client(const struct load_opts *o);
int idle_client(const struct load_opts *o);
int blast_server(const struct load_opts *o);
int blast_client(const struct load_opts *o);
int echo_server(const struct load_opts *o);
int echo_client(const struct load_opts *o);
int probe_answer(const struct load_opts *o);
int probe_answer_udp(const struct load_opts *o);
int probe_free(const struct load_opts *o);
