/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A non-blocking TCP connect(2) over lo says EINPROGRESS, but the handshake is
 * over by then: the answer to the SYN is taken when connect() lets go of the
 * socket. So a second connect() at once, without poll(2), says how it went:
 *
 *     listener     EINPROGRESS, 0, EISCONN
 *     closed port  EINPROGRESS, ECONNREFUSED, EINPROGRESS (that is a new attempt)
 *
 * Where the softirq was put off to ksoftirqd, as under heavy load, the second
 * says EALREADY, and after poll() the next one says what it would have said.
 */

#include <poll.h>

#include "probe.h"

enum { TRIES = 200 };

/* connect(), as 0 or an errno value. */
static int try_connect(int fd, const struct sockaddr_in *a)
{
	return connect(fd, (const void *)a, sizeof(*a)) < 0 ? errno : 0;
}

/* What the second connect() says. */
static int connect_twice(int fd, const struct sockaddr_in *a, int *late)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int r;

	probe_check(try_connect(fd, a) == EINPROGRESS, "first connect: EINPROGRESS");
	r = try_connect(fd, a);
	if (r != EALREADY)
		return r;
	++*late;
	probe_check(poll(&p, 1, 5000) == 1, "poll after EALREADY");
	return try_connect(fd, a);
}

int main(void)
{
	struct sockaddr_in open_port;
	struct sockaddr_in closed_port;
	int late = 0;
	int lfd;

	probe_enter_lo();
	open_port = probe_addr("127.0.0.1", 4000);
	closed_port = probe_addr("127.0.0.1", 4001);
	lfd = probe_listen(&open_port);
	for (int i = 0; i < TRIES; i++) {
		int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
		int fd = probe_ok(socket(AF_INET, type, 0), "socket");

		probe_check(connect_twice(fd, &open_port, &late) == 0, "second connect: 0");
		probe_check(try_connect(fd, &open_port) == EISCONN, "third connect: EISCONN");
		close(fd);
		close(probe_ok(accept4(lfd, NULL, NULL, SOCK_CLOEXEC), "accept"));

		fd = probe_ok(socket(AF_INET, type, 0), "socket");
		probe_check(connect_twice(fd, &closed_port, &late) == ECONNREFUSED,
			    "second connect, closed port: ECONNREFUSED");
		probe_check(try_connect(fd, &closed_port) == EINPROGRESS,
			    "third connect, closed port: a new attempt");
		close(fd);
	}
	(void)printf("%d of %d second connects came too early (EALREADY)\n", late, 2 * TRIES);
	probe_check(late < TRIES, "most handshakes are over when connect() returns");
	return 0;
}
