/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.c - an application in a container that tells its clients who they are, and the
 * client that asks
 *
 * Usage: peer serve PORT             TCP and UDP on all addresses; TCP echoes afterwards
 *        peer ask tcp|udp ADDR PORT  prints "kept", or the address that the application saw
 *        peer hold ADDR PORT         prints "open", then the echo of each line of its input
 *        peer bind PORT              can TCP and UDP be bound, on all addresses?
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define LINE 128

static _Noreturn void peer_die(const char *what)
{
	printf("%s: %s\n", what, strerror(errno));
	exit(1);
}

/* "ADDRESS PORT", IPv4 as such. */
static const char *peer_str(const struct sockaddr_in6 *sa)
{
	static char text[LINE];
	char ip[INET6_ADDRSTRLEN];

	if (sa->sin6_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, ip,
			  sizeof(ip));
	else if (IN6_IS_ADDR_V4MAPPED(&sa->sin6_addr))
		inet_ntop(AF_INET, sa->sin6_addr.s6_addr + 12, ip, sizeof(ip));
	else
		inet_ntop(AF_INET6, &sa->sin6_addr, ip, sizeof(ip));
	snprintf(text, sizeof(text), "%s %u", ip, ntohs(sa->sin6_port));
	return text;
}

static int peer_bound(int type, const char *port)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6,
				    .sin6_port = htons((uint16_t)atoi(port)) };
	int fd = socket(AF_INET6, type, 0), one = 1;

	if (type == SOCK_STREAM)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) != 0)
		peer_die("bind");
	if (type == SOCK_STREAM && listen(fd, 64) != 0)
		peer_die("listen");
	return fd;
}

static _Noreturn void peer_echo(int fd, const char *hello)
{
	char buf[4096];
	ssize_t n;

	dprintf(fd, "%s\n", hello);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		if (write(fd, buf, (size_t)n) != n)
			break;
	_exit(0);
}

static void peer_serve_one(int fd, bool tcp)
{
	struct sockaddr_in6 sa;
	socklen_t len = sizeof(sa);
	char buf[LINE];

	if (tcp) {
		int conn = accept(fd, (struct sockaddr *)&sa, &len);

		if (conn >= 0 && fork() == 0)
			peer_echo(conn, peer_str(&sa));
		close(conn);
	} else if (recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&sa, &len) >= 0) {
		const char *text = peer_str(&sa);

		sendto(fd, text, strlen(text), 0, (struct sockaddr *)&sa, len);
	}
}

static _Noreturn void peer_serve(const char *port)
{
	struct pollfd p[] = { { .fd = peer_bound(SOCK_STREAM, port), .events = POLLIN },
			      { .fd = peer_bound(SOCK_DGRAM, port), .events = POLLIN } };

	signal(SIGCHLD, SIG_IGN);
	signal(SIGTERM, _exit);
	for (;;) {
		poll(p, 2, -1);
		for (int i = 0; i < 2; i++)
			if (p[i].revents)
				peer_serve_one(p[i].fd, i == 0);
	}
}

static int peer_connect(int type, const char *addr, const char *port)
{
	struct addrinfo hints = { .ai_socktype = type, .ai_flags = AI_NUMERICHOST }, *ai;
	struct timeval limit = { .tv_sec = 5 };
	int fd;

	if (getaddrinfo(addr, port, &hints, &ai) != 0)
		peer_die(addr);
	fd = socket(ai->ai_family, type, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, ai->ai_addr, ai->ai_addrlen) != 0)
		peer_die("connect");
	freeaddrinfo(ai);
	return fd;
}

static int peer_ask(const char *proto, const char *addr, const char *port)
{
	int type = strcmp(proto, "tcp") == 0 ? SOCK_STREAM : SOCK_DGRAM;
	int fd = peer_connect(type, addr, port);
	struct sockaddr_in6 sa;
	socklen_t len = sizeof(sa);
	char buf[LINE];
	ssize_t n;

	if (type == SOCK_DGRAM && send(fd, "?", 1, 0) != 1)
		peer_die("send");
	n = recv(fd, buf, sizeof(buf) - 1, 0);
	if (n <= 0)
		peer_die(n < 0 ? "recv" : "closed");
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	getsockname(fd, (struct sockaddr *)&sa, &len);
	puts(strcmp(buf, peer_str(&sa)) == 0 ? "kept" : buf);
	return 0;
}

static int peer_hold(const char *addr, const char *port)
{
	int fd = peer_connect(SOCK_STREAM, addr, port);
	FILE *from = fdopen(fd, "r");
	char line[LINE];

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!from || !fgets(line, sizeof(line), from))
		peer_die("connection");
	puts("open");
	while (fgets(line, sizeof(line), stdin)) {
		dprintf(fd, "%s", line);
		if (!fgets(line, sizeof(line), from))
			peer_die("connection");
		fputs(line, stdout);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		peer_serve(argv[2]);
	if (argc == 5 && strcmp(argv[1], "ask") == 0)
		return peer_ask(argv[2], argv[3], argv[4]);
	if (argc == 4 && strcmp(argv[1], "hold") == 0)
		return peer_hold(argv[2], argv[3]);
	if (argc == 3 && strcmp(argv[1], "bind") == 0) {
		peer_bound(SOCK_STREAM, argv[2]);
		peer_bound(SOCK_DGRAM, argv[2]);
		return 0;
	}
	fprintf(stderr, "usage: peer serve|ask|hold|bind ...\n");
	return 2;
}
