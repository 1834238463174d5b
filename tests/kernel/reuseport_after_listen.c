/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A TCP listener that was bound without SO_REUSEPORT, and so was alone on its
 * port, can be given the option afterwards: from then on further sockets of the
 * same user that have it bind, listen and get a share of the connections. A
 * second bind(2) without it still fails. So "is the port free?" is answered by
 * an exclusive bind, and more listeners for more threads come later.
 */

#include "probe.h"

enum { CONNECTIONS = 200 };

static int new_socket(int option)
{
	int fd = probe_ok(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
	int on = 1;

	probe_ok(setsockopt(fd, SOL_SOCKET, option, &on, sizeof(on)), "setsockopt");
	return fd;
}

static void check_in_use(const struct sockaddr_in *a, int option, const char *what)
{
	int fd = new_socket(option);

	probe_check(bind(fd, (const void *)a, sizeof(*a)) == -1 && errno == EADDRINUSE, what);
	close(fd);
}

static int count_accepts(int fd)
{
	int n = 0;
	int c;

	while ((c = accept4(fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		close(c);
		n++;
	}
	probe_check(errno == EAGAIN, "accept until EAGAIN");
	return n;
}

static void probe_on(const char *ip)
{
	struct sockaddr_in a = probe_addr(ip, 4000);
	struct sockaddr_in to = probe_addr("127.0.0.1", 4000);
	int first = probe_listen(&a);
	int n[3] = { 0 };
	int more[2];
	int on = 1;

	probe_ok(fcntl(first, F_SETFL, O_NONBLOCK), "O_NONBLOCK");
	check_in_use(&a, SO_REUSEADDR, "before: plain bind: EADDRINUSE");
	check_in_use(&a, SO_REUSEPORT, "before: SO_REUSEPORT bind: EADDRINUSE");

	probe_ok(setsockopt(first, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)),
		 "SO_REUSEPORT on a listening socket");
	check_in_use(&a, SO_REUSEADDR, "after: plain bind: EADDRINUSE");
	for (int i = 0; i < 2; i++) {
		more[i] = new_socket(SO_REUSEPORT);
		probe_ok(bind(more[i], (void *)&a, sizeof(a)), "SO_REUSEPORT bind");
		probe_ok(listen(more[i], SOMAXCONN), "SO_REUSEPORT listen");
	}
	check_in_use(&a, SO_REUSEADDR, "with more listeners: plain bind: EADDRINUSE");

	for (int i = 0; i < CONNECTIONS; i++) {
		int c = probe_ok(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");

		probe_ok(connect(c, (void *)&to, sizeof(to)), "connect");
		close(c);
		n[0] += count_accepts(first);
		n[1] += count_accepts(more[0]);
		n[2] += count_accepts(more[1]);
	}
	(void)printf("%s: %d + %d + %d connections\n", ip, n[0], n[1], n[2]);
	probe_check(n[0] + n[1] + n[2] == CONNECTIONS, "no connection is lost");
	for (int i = 0; i < 3; i++)
		probe_check(n[i] > CONNECTIONS / 20, "each listener has a share");
	close(first);
	close(more[0]);
	close(more[1]);
}

int main(void)
{
	probe_enter_lo();
	probe_on("127.0.0.1");
	probe_on("0.0.0.0");
	return 0;
}
