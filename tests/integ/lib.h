/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The world in which fwd is tested.
 *
 *     client 0 eth0 ---- eth0 .
 *                              > host (fwd runs here) ~~~ container
 *     client 1 eth0 ---- eth1 '
 *
 * Clients and the host are network namespaces of one user namespace that the
 * test makes as an unprivileged user; the container is a user and network
 * namespace below. The test process itself stays outside: it gets sockets from
 * every namespace (ns_socket()) and plays client and app with plain system
 * calls, in order. What must be another process is spawned, is killed when the
 * test ends, however it ends, and is known by its pid.
 *
 * Nobody may look at the descriptors of a confined process, but root: tests that count
 * them, or change its limits, run fwd with --sandbox=off.
 *
 * Helpers fail the test themselves, by cr_assert, unless they return an error.
 *
 * Time limits of a second and more are for what must come. It comes later where the
 * machine is busy or fwd is slow (a sanitizer), so that helpers wait ten times as long,
 * or what the environment variable FWD_TEST_PATIENCE says: only a failure takes it.
 * Shorter ones are for what must not come, and are as they are given.
 */

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include "util.h"

/* ------------------------------------------------------------ variants */

enum family { V4, V6 };

struct variant {
	const char *engine; /* for --engine */
	enum family fam;
};

extern const struct variant uring_v4, uring_v6, epoll_v4, epoll_v6;

/* @secs on an idle machine; a busy one has longer. */
#define TEST_LATE_SECS 60
#define TEST_VARIANT(suite, name, secs, variant)                                                   \
	Test(suite, name##_##variant, .timeout = (secs) + TEST_LATE_SECS)                          \
	{                                                                                          \
		suite##_##name(&variant);                                                          \
	}

/* One test for each engine, over IPv4 (unless the body does otherwise). */
#define EACH_ENGINE(suite, name, secs)                                                             \
	static void suite##_##name(const struct variant *v);                                       \
	TEST_VARIANT(suite, name, secs, uring_v4)                                                  \
	TEST_VARIANT(suite, name, secs, epoll_v4)                                                  \
	static void suite##_##name(const struct variant *v)

/* One test for each engine and address family. */
#define EACH_VARIANT(suite, name, secs)                                                            \
	static void suite##_##name(const struct variant *v);                                       \
	TEST_VARIANT(suite, name, secs, uring_v4)                                                  \
	TEST_VARIANT(suite, name, secs, uring_v6)                                                  \
	TEST_VARIANT(suite, name, secs, epoll_v4)                                                  \
	TEST_VARIANT(suite, name, secs, epoll_v6)                                                  \
	static void suite##_##name(const struct variant *v)

/* ------------------------------------------------------------ namespaces */

/* Namespaces by descriptor; -1: stay in the caller's. */
struct ns {
	int user;
	int mnt;
	int net;
	int inner; /* a user namespace below @user to enter last; 0: none */
};

/* The containers that there are. */
enum ct_kind {
	CT_LO,	   /* lo only, as with --network=none */
	CT_ADDR,   /* its own address on eth0, with a default route */
	CT_BRIDGE, /* the same, eth0 being on a bridge in another namespace */
	CT_NESTED, /* as CT_LO, below a second user namespace, as with --userns=keep-id */
};

struct world {
	const struct variant *v;
	char dir[40];	     /* scratch directory, removed at the end */
	struct ns host;	     /* of the user who runs fwd, who is not root there */
	struct ns client[2]; /* client 1 only after world_second_client() */
	struct ns mid;	     /* what CT_BRIDGE's eth0 leads to */
	struct ns ct;	     /* the container */
	pid_t ct_pid;	     /* its one process, which sleeps */
	struct ns fwd_in;    /* where fwd is run: the host */
	unsigned fwd_flags;  /* and how: enum spawn_flags */
	pid_t fwd;	     /* of the last fwd_start(), or 0 */
};

/* Addresses, by family. Also on eth1: 198.18.2.0/24 and fd00:2::/64. */
extern const char *const HOST[2];     /* 198.18.1.1, fd00:1::1 */
extern const char *const HOST_B[2];   /* 198.18.2.1, fd00:2::1 */
extern const char *const CLIENT[2];   /* 198.18.1.2, fd00:1::2 */
extern const char *const CLIENT2[2];  /* 198.18.1.3, fd00:1::3: the same host */
extern const char *const CLIENT_B[2]; /* 198.18.2.2, fd00:2::2 */
extern const char *const CT[2];	      /* 198.18.99.2, fd00:99::2 */
extern const char *const LOOP[2];     /* 127.0.0.1, ::1 */
extern const char *const ANY[2];      /* 0.0.0.0, :: */
extern const char *const DUMMY[2];    /* 192.0.0.8, 100:0:0:1::1: what loopback clients become */

/*
 * Make clients, host and container; returns the one world of this process.
 * Skips the test where user namespaces are not to be had.
 */
struct world *world_up(enum ct_kind kind, const struct variant *v);

/* Add client 1, on the host's eth1. */
void world_second_client(struct world *w);

/* Stop fwd, if it runs: SIGTERM must end it, with exit status 0, in patient(2000) ms. */
void world_down(struct world *w);

/* Run @fn in namespaces, sharing memory and descriptors with it; its result. */
int ns_call(const struct ns *ns, int (*fn)(void *arg), void *arg);

/* Sockets that belong to @ns, close-on-exec. */
int ns_socket(const struct ns *ns, int family, int type);
void ns_sockets(const struct ns *ns, int family, int type, int *fds, unsigned n);

/* Write /proc/sys/@path in @ns. 0 or -errno. */
int ns_sysctl(const struct ns *ns, const char *path, const char *value);

/* Run "ip -batch" with @script in @ns, as root there. */
void ns_ip(const struct ns *ns, const char *script);

/* A new network namespace, below the user namespace of @ns. */
struct ns ns_new_net(const struct ns *ns);

/*
 * A sleeping process of another user in user and network namespaces of its own.
 * Only root can make one, and only before world_up(); 0 for others.
 */
pid_t stranger_start(void);

/* All rules and routes in @ns, as ip(8) prints them; to compare. */
void ns_routing(const struct ns *ns, char *buf, size_t size);

/* Mount the network namespace of @what at @path, seen from the host, as "ip netns add" does. */
void netns_mount(struct world *w, const struct ns *what, const char *path);

/* Unmount and unlink it, as Podman does when the container ends. */
void netns_unmount(struct world *w, const char *path);

/* The user namespace above that of @ns. */
int ns_parent_user(const struct ns *ns);

/* Index of the device @name in @ns. */
int ns_ifindex(const struct ns *ns, const char *name);

/* ------------------------------------------------------------ processes */

enum spawn_flags {
	SPAWN_CAPS = 1,	    /* keep all capabilities over @ns, as its root would */
	SPAWN_CAPTURE = 2,  /* stdout and stderr to a pipe */
	SPAWN_NO_URING = 4, /* io_uring_setup(2) fails with EPERM, by seccomp */
};

struct proc {
	pid_t pid;
	int out; /* read end of the pipe, or -1 */
};

/* Results of proc_wait() beside an exit status. */
enum { WAIT_SIGNAL = 256, WAIT_TIMEOUT = -1 };

struct proc ns_spawn(const struct ns *ns, unsigned flags, const char *const argv[]);

/*
 * What the next ns_spawn() passes on as a service manager does (sd_listen_fds(3)): sockets,
 * and their names with ':' between them, or NULL.
 */
void spawn_pass(const int *fds, unsigned n, const char *names);

/* Exit status, WAIT_SIGNAL + signal, or WAIT_TIMEOUT. Children only. */
int proc_wait(pid_t pid, int timeout_ms);

/* Read until EOF; false on time-out. Appends to @buf, always terminated. */
bool proc_output(struct proc *p, char *buf, size_t size, int timeout_ms);

/* Let the guard kill @pid when the test ends. */
void guard_pid(pid_t pid);

bool proc_alive(pid_t pid);
int proc_fds(pid_t pid);     /* open descriptors, or -errno: -EACCES of a confined fwd */
long proc_cpu_ms(pid_t pid); /* user and system time, with that of its children */
long proc_rss_kb(pid_t pid);

/* Wait until @cond(@arg) holds; false after @timeout_ms. For what sends no event. */
bool eventually(bool (*cond)(void *arg), void *arg, int timeout_ms);
int64_t now_ms(void);

/* The time limit @timeout_ms as helpers keep it (see the top). */
int patient(int timeout_ms);

/* ------------------------------------------------------------ fwd */

/* What one run to the end gave. */
struct run {
	int status;
	char out[8192];
};

/* "build/fwd", or what the environment variable FWD names, as absolute path. */
const char *fwd_path(void);

/* Build an argument list from the arguments up to NULL, for the calls below. */
struct args {
	const char *v[64];
	unsigned n;
};
struct args args_of(const char *first, ...) __attribute__((sentinel));
#define ARGS(...) args_of(__VA_ARGS__, (char *)NULL)

/*
 * Start fwd in the host's namespace for the container's PID, with --engine, a
 * pid file and a log, and wait until it is in the background. Fails the test if
 * it does not come so far. Returns its pid, which w->fwd has, too.
 */
pid_t fwd_start(struct world *w, struct args a);

/* The same for another target than the container's PID: the last arguments. */
pid_t fwd_start_at(struct world *w, struct args a, struct args target);

/* Run fwd, with nothing added, to its end (10 s). */
struct run fwd_run(struct world *w, struct args a);

/* Run fwd as fwd_start() does, but expect it to fail. */
struct run fwd_fails(struct world *w, struct args a);

/* Send @sig to fwd and wait for its end; its status. Clears w->fwd. */
int fwd_stop(struct world *w, int sig);

/* How many lines of the log have @text. */
unsigned fwd_log_count(struct world *w, const char *text);

/* fwd's log so far. The pointer is valid until the next call. */
const char *fwd_log(struct world *w);

/* Wait (2 s) until the log has @text; false if it never comes. */
bool fwd_log_has(struct world *w, const char *text);

/* Ask for the summary of counters by SIGUSR1 and wait for it: what was added to the log. */
const char *fwd_summary(struct world *w);

/* Wait (2 s) until the summary has @text: an end is counted a moment after it is seen. */
bool fwd_counts(struct world *w, const char *text);

/* Wait (2 s) until fwd has at most @max descriptors. True where they cannot be counted. */
bool fwd_fds_within(struct world *w, int max);

/* True if fwd uses next to no CPU for a tenth of a second. */
bool fwd_idle(struct world *w);

/* ------------------------------------------------------------ sockets */

/*
 * Addresses are text ("198.18.1.2", "fe80::1%2"). Blocking sockets, with a
 * time-out of 5 s each way.
 */
int tcp_listen(const struct ns *ns, const char *ip, int port);
int tcp_listen_backlog(const struct ns *ns, const char *ip, int port, int backlog);

/* From @sip (or NULL) and @sport (or 0). The socket or -errno. */
int tcp_connect(const struct ns *ns, const char *sip, int sport, const char *ip, int port);

/* The same, without waiting for the connection: a non-blocking socket. */
int tcp_connect_start(const struct ns *ns, const char *sip, int sport, const char *ip, int port);

/* The same on a socket that there is already; 0 or -errno. */
int sock_connect(int fd, const char *ip, int port);

/* Is @port refused at once, or reset as soon as it is connected? */
bool tcp_refused(const struct ns *ns, const char *ip, int port);

/* Bind @fd, with SO_REUSEADDR; 0 or -errno. */
int sock_bind(int fd, const char *ip, int port);

/* Next connection, or -ETIMEDOUT after @timeout_ms. */
int tcp_accept(int listener, int timeout_ms);

/* A client and the app's end of its connection. */
struct conn {
	int c; /* the client's socket */
	int a; /* what the app accepted */
};

/* Connect client 0 to HOST:@port and accept at @listener; fails the test if it cannot. */
struct conn conn_open(struct world *w, int port, int listener);

/* The same from another namespace, source and destination; @sip may be NULL, @sport 0. */
struct conn conn_open_from(const struct ns *ns, const char *sip, int sport, const char *ip,
			   int port, int listener);
void conn_close(struct conn *c);

/* "1.2.3.4:80" or "[fd00::1]:80" of the far (near) end, v4-mapped addresses as IPv4. */
const char *peer_of(int fd);
const char *self_of(int fd);
const char *endpoint(const char *ip, int port); /* the same form, from parts */
const char *peer_ip(int fd);			/* the address alone */
int self_port(int fd);
int peer_port(int fd);

/* Next read: 0 at EOF, bytes, or -errno (-EAGAIN: time-out). */
ssize_t sock_read(int fd, void *buf, size_t size);

/* Write or read exactly @size bytes; 0 or -errno (-ENODATA: EOF before). */
int sock_put(int fd, const void *buf, size_t size);
int sock_get(int fd, void *buf, size_t size);

/* Send @text from @from; true if just that arrives at @to. */
bool passes(int from, int to, const char *text);

/* A connection in both directions: true if a word gets each way. */
bool conn_works(struct conn *c);

/* Wait for the next event: 0 for EOF, bytes waiting (positive), or -errno, -EAGAIN on time-out. */
int sock_next(int fd, int timeout_ms);

/* close() that sends RST. */
void sock_reset(int fd);

/* Blocking time limit of reads and writes. */
void sock_timeout(int fd, int ms);

/* ------------------------------------------------------------ transfers */

/* One way of one connection; the pattern depends on the offset only. */
struct stream {
	int from, to;
	uint64_t total;
	size_t chunk;  /* bytes a write at most; 0: 256 KiB */
	unsigned slow; /* the reader reads this many bytes a millisecond; 0: at once */
	bool fin;      /* shut down after the last byte and expect EOF behind it */
	uint64_t sent, got;
	bool eof, bad;	 /* result: EOF seen; content differs or a socket failed */
	int error;	 /* errno of that failure */
	int64_t next_ms; /* when a slow reader reads again */
};

/* Move all of them at once; true if every byte arrived as sent. Prints why not. */
bool streams_run(struct stream *s, unsigned n, int timeout_ms);

/* ------------------------------------------------------------ datagrams */

/*
 * A client is a connected socket, which takes answers from the address that it
 * sends to alone. An app is bound and not connected, and without SO_REUSEADDR: a
 * port that it has on all addresses nobody else can have.
 */
int udp_client(const struct ns *ns, const char *sip, int sport, const char *ip, int port);
int udp_app(const struct ns *ns, const char *ip, int port);
int udp_app_reusable(const struct ns *ns, const char *ip, int port); /* with SO_REUSEADDR */

/* Bind as it is, without SO_REUSEADDR; 0 or -errno. */
int udp_bind(int fd, const char *ip, int port);

/* Many clients at once, from ports that the kernel chooses. */
void udp_clients(const struct ns *ns, const char *ip, int port, int *fds, unsigned n);

/* What arrived by one read. */
struct udp_in {
	char ip[64]; /* of the sender */
	int port;
	size_t len;
	unsigned segment; /* if UDP_GRO has put several together; else 0 */
	struct sockaddr_storage sa;
	socklen_t sa_len;
	char control[256]; /* pktinfo, if asked for, as an answer takes it */
	size_t control_len;
	uint8_t data[65536];
};

void udp_want_pktinfo(int fd);
void udp_want_gro(int fd);

/* The next datagram, valid until the next call; NULL if none comes, with errno. */
const struct udp_in *udp_get(int fd, int timeout_ms);

/* Answer what udp_get() gave: to the sender, from the address of its pktinfo. 0 or -errno. */
int udp_answer(int fd, const struct udp_in *in, const void *data, size_t len);

/* Send, connected or (@ip not NULL) to an address. 0 or -errno. */
int udp_put(int fd, const char *ip, int port, const void *data, size_t len);

/* The same in segments of @segment bytes, by UDP_SEGMENT. */
int udp_put_segments(int fd, const void *data, size_t len, unsigned segment);

/*
 * One question and its answer, both made for this call: what the app saw of the
 * client, as endpoint(); or what was missing, as a text that is none. Datagrams that
 * are left over from before are passed over; wrong ones fail the test.
 */
const char *udp_ask(int client, int app);

/* The question alone: what the app saw of the client, or what was missing. */
const char *udp_tell(int client, int app);

/* Does the app answer at all, asked again and again? For where one datagram may be lost. */
bool udp_serves(int client, int app);

/* Nothing arrives at @fd for 50 ms. */
bool udp_silent(int fd);

/* Bytes that depend on @seed and on their place. */
void udp_fill(void *data, size_t len, unsigned seed);
bool udp_filled(const void *data, size_t len, unsigned seed);

/* A second container on the bridge of CT_BRIDGE; and its addresses. */
struct ns world_neighbour(struct world *w);
extern const char *const NEIGHBOUR[2]; /* 198.18.99.3, fd00:99::3 */
extern const char *const BRIDGE[2];    /* 198.18.99.1, fd00:99::1: of the bridge, in w->mid */

/* Does the container route what goes to @ip back to us? */
bool ct_has_route(struct world *w, const char *ip);

/* Wait (5 s) until fwd has no UDP session left. */
bool udp_all_ended(struct world *w);

/* ------------------------------------------------------------ between lib_*.c only */

struct end {
	char ip[64];
	int port;
};

socklen_t to_sockaddr(const char *ip, int port, struct sockaddr_storage *ret);
struct end end_of(const struct sockaddr_storage *sa, socklen_t len);
int family_of(const char *ip);

/* In a child: enter for good. 0 or -errno. */
int ns_enter(const struct ns *ns);

/* Start the guard, which also removes @dir in the end. */
void guard_start(const char *dir);
