/* SPDX-License-Identifier: Apache-2.0 */
/* lib_udp.c - datagrams of client and app */

#include "lib.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>

#ifndef UDP_SEGMENT
#	define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#	define UDP_GRO 104
#endif

#define IO_TIMEOUT_MS	 5000
#define ASK_TIMEOUT_MS	 2000
#define AGAIN_TIMEOUT_MS 300	   /* then ask again */
#define UDP_BUFFER	 (4 << 20) /* the kernel caps it */

/* ------------------------------------------------------------ sockets */

static void udp_set(int fd, int level, int option, int value)
{
	cr_assert(!setsockopt(fd, level, option, &value, sizeof(value)), "setsockopt %d: %s",
		  option, strerror(errno));
}

static void udp_prepare(int fd)
{
	sock_timeout(fd, patient(IO_TIMEOUT_MS));
	udp_set(fd, SOL_SOCKET, SO_RCVBUF, UDP_BUFFER);
	udp_set(fd, SOL_SOCKET, SO_SNDBUF, UDP_BUFFER);
}

int udp_bind(int fd, const char *ip, int port)
{
	struct sockaddr_storage sa;
	socklen_t len = to_sockaddr(ip, port, &sa);

	return bind(fd, (struct sockaddr *)&sa, len) ? -errno : 0;
}

static void udp_must_bind(int fd, const char *ip, int port)
{
	int err = udp_bind(fd, ip, port);

	cr_assert(err == 0, "bind udp %s: %s", endpoint(ip, port), strerror(-err));
}

static int udp_open(const struct ns *ns, const char *ip)
{
	int fd = ns_socket(ns, family_of(ip), SOCK_DGRAM);

	udp_prepare(fd);
	return fd;
}

int udp_client(const struct ns *ns, const char *sip, int sport, const char *ip, int port)
{
	int fd = udp_open(ns, ip), err;

	if (sip || sport)
		udp_must_bind(fd, sip ? sip : ANY[family_of(ip) == AF_INET6], sport);
	err = sock_connect(fd, ip, port);
	cr_assert(err == 0, "connect udp %s: %s", endpoint(ip, port), strerror(-err));
	return fd;
}

void udp_clients(const struct ns *ns, const char *ip, int port, int *fds, unsigned n)
{
	ns_sockets(ns, family_of(ip), SOCK_DGRAM, fds, n);
	for (unsigned i = 0; i < n; i++) {
		sock_timeout(fds[i], patient(IO_TIMEOUT_MS));
		cr_assert(!sock_connect(fds[i], ip, port), "connect udp %s: %s", endpoint(ip, port),
			  strerror(errno));
	}
}

int udp_app(const struct ns *ns, const char *ip, int port)
{
	int fd = udp_open(ns, ip);

	udp_must_bind(fd, ip, port);
	return fd;
}

int udp_app_reusable(const struct ns *ns, const char *ip, int port)
{
	int fd = udp_open(ns, ip);

	udp_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	udp_must_bind(fd, ip, port);
	return fd;
}

void udp_want_pktinfo(int fd)
{
	int domain = 0;
	socklen_t len = sizeof(domain);

	cr_assert(!getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len));
	if (domain == AF_INET)
		udp_set(fd, IPPROTO_IP, IP_PKTINFO, 1);
	else
		udp_set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
}

void udp_want_gro(int fd)
{
	udp_set(fd, IPPROTO_UDP, UDP_GRO, 1);
}

/* ------------------------------------------------------------ datagrams */

static void udp_take_control(struct msghdr *m, struct udp_in *in)
{
	in->segment = 0;
	in->control_len = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		int segment;

		if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
			memcpy(&segment, CMSG_DATA(c), sizeof(segment));
			in->segment = (unsigned)segment;
		} else if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) ||
			   (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO)) {
			in->control_len = CMSG_SPACE(c->cmsg_len - CMSG_LEN(0));
			memset(in->control, 0, sizeof(in->control));
			memcpy(in->control, c, c->cmsg_len);
		}
	}
}

static const struct udp_in *udp_take(int fd, int timeout_ms)
{
	static struct udp_in in;
	char control[256] __attribute__((aligned(8)));
	struct iovec iov = { in.data, sizeof(in.data) };
	struct msghdr m = { .msg_name = &in.sa,
			    .msg_namelen = sizeof(in.sa),
			    .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	struct pollfd p = { fd, POLLIN, 0 };
	struct end from;
	ssize_t n;

	if (poll(&p, 1, timeout_ms) != 1) {
		errno = EAGAIN;
		return NULL;
	}
	n = recvmsg(fd, &m, MSG_DONTWAIT);
	if (n < 0)
		return NULL;
	cr_assert(!(m.msg_flags & MSG_TRUNC), "a datagram of more than %zu bytes", sizeof(in.data));
	in.len = (size_t)n;
	in.sa_len = m.msg_namelen;
	udp_take_control(&m, &in);
	from = end_of(&in.sa, in.sa_len);
	snprintf(in.ip, sizeof(in.ip), "%s", from.ip);
	in.port = from.port;
	return &in;
}

const struct udp_in *udp_get(int fd, int timeout_ms)
{
	return udp_take(fd, patient(timeout_ms));
}

int udp_answer(int fd, const struct udp_in *in, const void *data, size_t len)
{
	struct sockaddr_storage to = in->sa;
	char control[256] __attribute__((aligned(8)));
	struct iovec iov = { (void *)(uintptr_t)data, len };
	struct msghdr m = {
		.msg_name = &to, .msg_namelen = in->sa_len, .msg_iov = &iov, .msg_iovlen = 1
	};

	if (in->control_len > 0) {
		memcpy(control, in->control, in->control_len);
		m.msg_control = control;
		m.msg_controllen = in->control_len;
	}
	return sendmsg(fd, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int udp_put(int fd, const char *ip, int port, const void *data, size_t len)
{
	struct sockaddr_storage sa;
	socklen_t sa_len = ip ? to_sockaddr(ip, port, &sa) : 0;
	ssize_t n = sendto(fd, data, len, MSG_NOSIGNAL, ip ? (struct sockaddr *)&sa : NULL, sa_len);

	return n < 0 ? -errno : 0;
}

int udp_put_segments(int fd, const void *data, size_t len, unsigned segment)
{
	char control[CMSG_SPACE(sizeof(uint16_t))] __attribute__((aligned(8))) = { 0 };
	struct iovec iov = { (void *)(uintptr_t)data, len };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	uint16_t size = (uint16_t)segment;

	c->cmsg_level = IPPROTO_UDP;
	c->cmsg_type = UDP_SEGMENT;
	c->cmsg_len = CMSG_LEN(sizeof(size));
	memcpy(CMSG_DATA(c), &size, sizeof(size));
	return sendmsg(fd, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* ------------------------------------------------------------ conversations */

static unsigned words;

static size_t udp_word(char *buf, size_t size)
{
	return (size_t)snprintf(buf, size, "word %u", words);
}

/* The next datagram that is not of an earlier conversation. */
static const struct udp_in *udp_get_word(int fd, const char *word, size_t len, int timeout_ms)
{
	int64_t end = now_ms() + timeout_ms;

	for (int64_t now = now_ms(); now < end; now = now_ms()) {
		const struct udp_in *in = udp_take(fd, (int)(end - now));

		if (!in && errno == ECONNREFUSED)
			continue; /* that was an earlier one */
		if (!in)
			return NULL;
		if (in->len == len && !memcmp(in->data, word, len))
			return in;
		cr_assert(in->len > 5 && !memcmp(in->data, "word ", 5), "a strange datagram");
	}
	return NULL;
}

static const struct udp_in *udp_question(int client, int app, int timeout_ms,
					 const char **ret_missing)
{
	const struct udp_in *in;
	char word[32];
	size_t len;
	int err;

	words++;
	len = udp_word(word, sizeof(word));
	err = sock_put(client, word, len);
	if (err == -ECONNREFUSED) /* of an earlier one; this one was not sent */
		err = sock_put(client, word, len);
	*ret_missing = err ? "cannot send" : "no question arrived";
	in = err ? NULL : udp_get_word(app, word, len, timeout_ms);
	return in;
}

const char *udp_tell(int client, int app)
{
	const char *missing;
	const struct udp_in *in = udp_question(client, app, patient(ASK_TIMEOUT_MS), &missing);

	return in ? endpoint(in->ip, in->port) : missing;
}

/* udp_ask(), with a time limit for each of the two. */
static const char *udp_ask_within(int client, int app, int timeout_ms)
{
	const char *missing, *seen;
	const struct udp_in *in = udp_question(client, app, timeout_ms, &missing);
	char word[32];
	size_t len = udp_word(word, sizeof(word));

	if (!in)
		return missing;
	seen = endpoint(in->ip, in->port);
	if (udp_answer(app, in, word, len))
		return "the app cannot answer";
	return udp_get_word(client, word, len, timeout_ms) ? seen : "no answer arrived";
}

const char *udp_ask(int client, int app)
{
	return udp_ask_within(client, app, patient(ASK_TIMEOUT_MS));
}

bool udp_serves(int client, int app)
{
	int64_t end = now_ms() + patient(ASK_TIMEOUT_MS);

	do
		if (strchr(udp_ask_within(client, app, AGAIN_TIMEOUT_MS), ':'))
			return true;
	while (now_ms() < end);
	return false;
}

bool udp_silent(int fd)
{
	return !udp_get(fd, 50);
}

void udp_fill(void *data, size_t len, unsigned seed)
{
	uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(seed * 31 + i * 7 + (i >> 8));
}

bool udp_filled(const void *data, size_t len, unsigned seed)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		if (p[i] != (uint8_t)(seed * 31 + i * 7 + (i >> 8)))
			return false;
	return true;
}

/* ------------------------------------------------------------ what fwd keeps */

bool ct_has_route(struct world *w, const char *ip)
{
	static char text[65536];
	char want[80];

	ns_routing(&w->ct, text, sizeof(text));
	snprintf(want, sizeof(want), "local %s dev", ip);
	return strstr(text, want) != NULL;
}

static bool no_session(void *arg)
{
	char *sum = (char *)(uintptr_t)fwd_summary(arg), *save = NULL;

	for (char *line = strtok_r(sum, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (strstr(line, " udp ") && !strstr(line, "flows 0 now"))
			return false;
	return true;
}

bool udp_all_ended(struct world *w)
{
	return eventually(no_session, w, 5000);
}
