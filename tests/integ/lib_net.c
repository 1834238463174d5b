/* SPDX-License-Identifier: Apache-2.0 */
/* lib_net.c - sockets of client and app, with addresses as text */

#include "lib.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>

#define IO_TIMEOUT_MS 5000

/* ------------------------------------------------------------ addresses */

socklen_t to_sockaddr(const char *ip, int port, struct sockaddr_storage *ret)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
				  .ai_socktype = SOCK_STREAM };
	struct addrinfo *ai;
	char text[8];
	socklen_t len;
	int err;

	snprintf(text, sizeof(text), "%d", port);
	err = getaddrinfo(ip, text, &hints, &ai);
	cr_assert(err == 0, "%s: %s", ip, gai_strerror(err));
	len = ai->ai_addrlen;
	memcpy(ret, ai->ai_addr, len);
	freeaddrinfo(ai);
	return len;
}

int family_of(const char *ip)
{
	return strchr(ip, ':') ? AF_INET6 : AF_INET;
}

const char *endpoint(const char *ip, int port)
{
	static char text[8][80];
	static unsigned next;
	char *s = text[next++ % ARRAY_SIZE(text)];

	snprintf(s, sizeof(text[0]), strchr(ip, ':') ? "[%s]:%d" : "%s:%d", ip, port);
	return s;
}

struct end end_of(const struct sockaddr_storage *sa, socklen_t len)
{
	struct end e;
	char port[8];
	int err = getnameinfo((const struct sockaddr *)sa, len, e.ip, sizeof(e.ip), port,
			      sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);

	cr_assert(err == 0, "getnameinfo: %s", gai_strerror(err));
	if (!strncmp(e.ip, "::ffff:", 7))
		memmove(e.ip, e.ip + 7, strlen(e.ip + 7) + 1);
	e.port = atoi(port);
	return e;
}

static struct end peer_end(int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	cr_assert(!getpeername(fd, (struct sockaddr *)&sa, &len), "getpeername: %s",
		  strerror(errno));
	return end_of(&sa, len);
}

static struct end self_end(int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	cr_assert(!getsockname(fd, (struct sockaddr *)&sa, &len), "getsockname: %s",
		  strerror(errno));
	return end_of(&sa, len);
}

const char *peer_of(int fd)
{
	struct end e = peer_end(fd);

	return endpoint(e.ip, e.port);
}

const char *self_of(int fd)
{
	struct end e = self_end(fd);

	return endpoint(e.ip, e.port);
}

const char *peer_ip(int fd)
{
	static struct end e;

	e = peer_end(fd);
	return e.ip;
}

int self_port(int fd)
{
	return self_end(fd).port;
}

int peer_port(int fd)
{
	return peer_end(fd).port;
}

/* ------------------------------------------------------------ connections */

void sock_timeout(int fd, int ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

int sock_bind(int fd, const char *ip, int port)
{
	struct sockaddr_storage sa;
	socklen_t len = to_sockaddr(ip, port, &sa);
	int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	return bind(fd, (struct sockaddr *)&sa, len) ? -errno : 0;
}

int tcp_listen_backlog(const struct ns *ns, const char *ip, int port, int backlog)
{
	int fd = ns_socket(ns, family_of(ip), SOCK_STREAM);
	int err = sock_bind(fd, ip, port);

	cr_assert(err == 0, "bind %s: %s", endpoint(ip, port), strerror(-err));
	cr_assert(!listen(fd, backlog), "listen: %s", strerror(errno));
	return fd;
}

int tcp_listen(const struct ns *ns, const char *ip, int port)
{
	return tcp_listen_backlog(ns, ip, port, 4096);
}

int sock_connect(int fd, const char *ip, int port)
{
	struct sockaddr_storage sa, peer;
	socklen_t len = to_sockaddr(ip, port, &sa), peer_len = sizeof(peer);

	if (!connect(fd, (struct sockaddr *)&sa, len))
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	/* A blocking connect(2) that met SO_SNDTIMEO says EINPROGRESS, too. */
	if (fcntl(fd, F_GETFL) & O_NONBLOCK)
		return 0;
	return getpeername(fd, (struct sockaddr *)&peer, &peer_len) ? -ETIMEDOUT : 0;
}

static int connect_type(const struct ns *ns, const char *sip, int sport, const char *ip, int port,
			int type)
{
	int fd = ns_socket(ns, family_of(ip), type);
	int err = 0;

	sock_timeout(fd, patient(IO_TIMEOUT_MS));
	if (sip || sport)
		err = sock_bind(fd, sip ? sip : ANY[family_of(ip) == AF_INET6], sport);
	if (!err)
		err = sock_connect(fd, ip, port);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

int tcp_connect(const struct ns *ns, const char *sip, int sport, const char *ip, int port)
{
	return connect_type(ns, sip, sport, ip, port, SOCK_STREAM);
}

int tcp_connect_start(const struct ns *ns, const char *sip, int sport, const char *ip, int port)
{
	return connect_type(ns, sip, sport, ip, port, SOCK_STREAM | SOCK_NONBLOCK);
}

bool tcp_refused(const struct ns *ns, const char *ip, int port)
{
	int64_t start = now_ms();
	int fd = tcp_connect(ns, NULL, 0, ip, port), event = -ECONNRESET;

	if (fd >= 0) {
		event = sock_next(fd, 2000);
		close(fd);
	}
	if ((fd >= 0 || fd == -ECONNREFUSED || fd == -ECONNRESET) && event == -ECONNRESET)
		return now_ms() - start < patient(1000) / 2;
	fprintf(stderr, "%s: connect gives %s, then %d\n", endpoint(ip, port),
		strerror(fd < 0 ? -fd : 0), event);
	return false;
}

int tcp_accept(int listener, int timeout_ms)
{
	struct pollfd p = { listener, POLLIN, 0 };
	int fd;

	if (poll(&p, 1, patient(timeout_ms)) != 1)
		return -ETIMEDOUT;
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return -errno;
	sock_timeout(fd, patient(IO_TIMEOUT_MS));
	return fd;
}

struct conn conn_open_from(const struct ns *ns, const char *sip, int sport, const char *ip,
			   int port, int listener)
{
	struct conn c;

	c.c = tcp_connect(ns, sip, sport, ip, port);
	cr_assert(c.c >= 0, "connect to %s: %s\n%s", endpoint(ip, port), strerror(-c.c),
		  fwd_log(NULL));
	c.a = tcp_accept(listener, IO_TIMEOUT_MS);
	cr_assert(c.a >= 0, "the app gets no connection: %s\n%s", strerror(-c.a), fwd_log(NULL));
	return c;
}

struct conn conn_open(struct world *w, int port, int listener)
{
	return conn_open_from(&w->client[0], NULL, 0, HOST[w->v->fam], port, listener);
}

void conn_close(struct conn *c)
{
	close_fd(&c->c);
	close_fd(&c->a);
}

/* ------------------------------------------------------------ bytes */

ssize_t sock_read(int fd, void *buf, size_t size)
{
	ssize_t n = recv(fd, buf, size, 0);

	return n < 0 ? -errno : n;
}

int sock_put(int fd, const void *buf, size_t size)
{
	const char *p = buf;

	while (size > 0) {
		ssize_t n = send(fd, p, size, MSG_NOSIGNAL);

		if (n < 0)
			return -errno;
		p += n;
		size -= (size_t)n;
	}
	return 0;
}

int sock_get(int fd, void *buf, size_t size)
{
	char *p = buf;

	while (size > 0) {
		ssize_t n = sock_read(fd, p, size);

		if (n <= 0)
			return n ? (int)n : -ENODATA;
		p += n;
		size -= (size_t)n;
	}
	return 0;
}

bool passes(int from, int to, const char *text)
{
	char got[256];
	size_t len = strlen(text);
	int err;

	cr_assert(len < sizeof(got));
	err = sock_put(from, text, len);
	if (err) {
		fprintf(stderr, "send: %s\n", strerror(-err));
		return false;
	}
	err = sock_get(to, got, len);
	if (err)
		fprintf(stderr, "recv: %s\n", strerror(-err));
	return !err && !memcmp(got, text, len);
}

bool conn_works(struct conn *c)
{
	return passes(c->c, c->a, "from the client") && passes(c->a, c->c, "from the app");
}

int sock_next(int fd, int timeout_ms)
{
	struct pollfd p = { fd, POLLIN, 0 };
	char byte;
	int n;

	if (poll(&p, 1, patient(timeout_ms)) != 1)
		return -EAGAIN;
	n = (int)recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0)
		return -errno;
	return n > 0 && !ioctl(fd, FIONREAD, &n) ? n : 0;
}

void sock_reset(int fd)
{
	struct linger l = { 1, 0 };

	cr_assert(!setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
	close(fd);
}
