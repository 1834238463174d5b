/* SPDX-License-Identifier: Apache-2.0 */

/*
 * nl.c - one netlink request, one answer
 *
 * Theory of operation. Each request has a sequence number of its own, and only
 * messages from the kernel (port 0) that carry it, and our port, are its
 * answer; all else that the socket gets is read and dropped: multicast
 * messages, late answers to a former owner of an adopted socket, and forgeries
 * (whoever has CAP_NET_ADMIN in the socket's namespace may write to it).
 *
 *     request: send --> [other messages] --> NLMSG_ERROR (0: ack)
 *     dump:    send --> messages ... -----> NLMSG_DONE, or NLMSG_ERROR
 *
 * A dump is always read to its end, also when the callback has had enough: a
 * socket can have only one at a time, and the kernel answers EBUSY to the next
 * while it is under way. One that raced with a change (NLM_F_DUMP_INTR) is
 * repeated from the start.
 */

#include "nl/nl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "util.h"

enum {
	NL_BUF_SIZE = 32768,  /* the kernel's parts of a dump are no larger (netlink_dump()) */
	NL_DUMP_TRIES = 5,    /* how often a dump that was interrupted is made */
	NL_DRAIN_MAX = 1024,  /* more than a receive buffer of default size can hold */
	NL_TIMEOUT_MS = 5000, /* the answer is there when send returns, unless it was lost */
};

/* What the answer to one request came to. */
struct nl_answer {
	mnl_cb_t cb;	  /* for each message of a dump, or NULL */
	void *data;	  /* for @cb */
	const char *what; /* before the kernel's text */
	struct err *err;
	int ret;	  /* 0 or -errno; the first failure stands */
	bool stopped;	  /* @cb wants no more */
	bool interrupted; /* NLM_F_DUMP_INTR was seen */
};

/* ------------------------------------------------------------ errors */

static int nl_ext_cb(const struct nlattr *attr, void *data)
{
	const char **ret_text = data;

	if (mnl_attr_get_type(attr) != NLMSGERR_ATTR_MSG)
		return MNL_CB_OK;
	if (mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) < 0)
		return MNL_CB_ERROR;
	*ret_text = mnl_attr_get_str(attr);
	return MNL_CB_OK;
}

/* The kernel's text, or NULL; its attributes start @skip bytes into the payload. */
static const char *nl_ext_text(const struct nlmsghdr *nlh, size_t skip)
{
	const char *text = NULL;

	if (!(nlh->nlmsg_flags & NLM_F_ACK_TLVS) || skip > mnl_nlmsg_get_payload_len(nlh))
		return NULL;
	if (mnl_attr_parse(nlh, (unsigned)skip, nl_ext_cb, &text) < 0)
		return NULL;
	return text && *text ? text : NULL;
}

static int nl_fail(struct nl_answer *a, int code, const char *text)
{
	if (text)
		return err_set(a->err, code, "%s: %s (%s)", a->what, text, strerror(code));
	return err_sys(a->err, code, "%s", a->what);
}

/* ------------------------------------------------------------ answers */

/* NLMSG_ERROR: an errno, the request's header and, unless capped, its payload. */
static int nl_take_error(struct nl_answer *a, const struct nlmsghdr *nlh)
{
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);
	size_t skip = sizeof(*e);

	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*e))
		return nl_fail(a, EBADMSG, NULL);
	if (e->error == 0)
		return 0;
	if (!(nlh->nlmsg_flags & NLM_F_CAPPED) && e->msg.nlmsg_len > sizeof(e->msg))
		skip += MNL_ALIGN(e->msg.nlmsg_len - sizeof(e->msg));
	return nl_fail(a, -e->error, nl_ext_text(nlh, skip));
}

/* NLMSG_DONE: an int, negative if the dump failed half-way. */
static int nl_take_done(struct nl_answer *a, const struct nlmsghdr *nlh)
{
	int code;

	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(code))
		return 0;
	memcpy(&code, mnl_nlmsg_get_payload(nlh), sizeof(code));
	return code < 0 ? nl_fail(a, -code, nl_ext_text(nlh, sizeof(code))) : 0;
}

static void nl_take_data(struct nl_answer *a, const struct nlmsghdr *nlh)
{
	int r;

	if (!a->cb || a->stopped)
		return;
	errno = 0;
	r = a->cb(nlh, a->data);
	if (r < MNL_CB_STOP)
		a->ret = nl_fail(a, errno ? errno : EBADMSG, NULL);
	a->stopped = r <= MNL_CB_STOP;
}

/* True when @nlh is the last message of the answer. */
static bool nl_take(struct nl_answer *a, const struct nlmsghdr *nlh)
{
	if (nlh->nlmsg_flags & NLM_F_DUMP_INTR && nlh->nlmsg_type != NLMSG_ERROR)
		a->interrupted = true;
	switch (nlh->nlmsg_type) {
	case NLMSG_ERROR:
		a->ret = a->ret < 0 ? a->ret : nl_take_error(a, nlh);
		return true;
	case NLMSG_DONE:
		a->ret = a->ret < 0 ? a->ret : nl_take_done(a, nlh);
		return true;
	case NLMSG_NOOP:
	case NLMSG_OVERRUN:
		return false;
	default:
		nl_take_data(a, nlh);
		return false;
	}
}

/* ------------------------------------------------------------ the socket */

/* Wait for the next datagram: 0 or -errno. */
static int nl_wait(const struct nl *nl, bool lost)
{
	struct pollfd p = { .fd = nl_fd(nl), .events = POLLIN };
	int r = poll(&p, 1, lost ? 0 : NL_TIMEOUT_MS);

	if (r == 0)
		return lost ? -ENOBUFS : -ETIMEDOUT;
	return r < 0 && errno != EINTR ? -errno : 0;
}

/*
 * One datagram from the kernel. Its length or -errno. After ENOBUFS (a monitor
 * overflowed) what did fit can still be read, but it is pointless to wait for
 * more: the answer was queued when send returned, or lost.
 */
static int nl_recv(struct nl *nl, bool *lost, void *buf, size_t size)
{
	for (;;) {
		struct sockaddr_nl from = { 0 };
		struct iovec iov = { .iov_base = buf, .iov_len = size };
		struct msghdr m = {
			.msg_name = &from,
			.msg_namelen = sizeof(from),
			.msg_iov = &iov,
			.msg_iovlen = 1,
		};
		/* At once: nearly always it is there already. */
		ssize_t n = recvmsg(nl_fd(nl), &m, MSG_DONTWAIT);
		int r = n < 0 && errno == EAGAIN ? nl_wait(nl, *lost) : 0;

		if (r < 0)
			return r;
		if (n < 0 && errno != EINTR && errno != EAGAIN && errno != ENOBUFS)
			return -errno;
		*lost |= n < 0 && errno == ENOBUFS;
		if (n < 0 || m.msg_namelen != sizeof(from) || from.nl_pid != 0)
			continue;
		return m.msg_flags & MSG_TRUNC ? -EMSGSIZE : (int)n;
	}
}

/* The first of @n sequence numbers that follow each other. */
static uint32_t nl_next_seq(struct nl *nl, unsigned n)
{
	uint32_t first;

	if (nl->seq > UINT32_MAX - n)
		nl->seq = 0; /* the kernel's own messages have 0 */
	first = nl->seq + 1;
	nl->seq += n;
	return first;
}

static int nl_send(struct nl *nl, const void *buf, size_t len)
{
	ssize_t n;

	do {
		n = mnl_socket_sendto(nl->sock, buf, len);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* Send @nlh and read the answer to its end. a->ret says how it went. */
static int nl_talk(struct nl *nl, struct nlmsghdr *nlh, struct nl_answer *a)
{
	_Alignas(struct nlmsghdr) char buf[NL_BUF_SIZE];
	unsigned port = mnl_socket_get_portid(nl->sock);
	bool lost = false;
	int n;

	nlh->nlmsg_seq = nl_next_seq(nl, 1);
	n = nl_send(nl, nlh, nlh->nlmsg_len);
	if (n < 0)
		return nl_fail(a, -n, "cannot send to the kernel");
	for (;;) {
		const struct nlmsghdr *m = (const void *)buf;

		n = nl_recv(nl, &lost, buf, sizeof(buf));
		if (n < 0)
			return nl_fail(a, -n, "no answer from the kernel");
		for (; mnl_nlmsg_ok(m, n); m = mnl_nlmsg_next(m, &n)) {
			/* NOLINTNEXTLINE(clang-analyzer-core.*): recvmsg() has filled @buf */
			if (m->nlmsg_seq != nl->seq || m->nlmsg_pid != port)
				continue;
			if (nl_take(a, m))
				return a->ret;
		}
	}
}

/* Everything but bind(2); the options are best effort: old kernels lack some. */
static void nl_setup(struct nl *nl, struct mnl_socket *sock)
{
	static const int options[] = {
		NETLINK_EXT_ACK,	/* Linux 4.12 */
		NETLINK_CAP_ACK,	/* Linux 4.3 */
		NETLINK_GET_STRICT_CHK, /* Linux 4.20 */
	};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		int on = 1;

		(void)mnl_socket_setsockopt(sock, options[i], &on, sizeof(on));
	}
	nl->sock = sock;
	nl->seq = (uint32_t)(now_ns() / 1000); /* unlike a former owner's */
}

/* ------------------------------------------------------------ public */

int nl_open(struct nl *nl, int bus, uint32_t groups, struct err *err)
{
	struct mnl_socket *sock = mnl_socket_open2(bus, SOCK_CLOEXEC);

	if (!sock)
		return err_sys(err, errno, "netlink socket of family %d", bus);
	if (mnl_socket_bind(sock, groups, MNL_SOCKET_AUTOPID) < 0) {
		int code = errno;

		mnl_socket_close(sock);
		return err_sys(err, code, "bind netlink socket of family %d", bus);
	}
	nl_setup(nl, sock);
	return 0;
}

int nl_adopt(struct nl *nl, int fd, struct err *err)
{
	cleanup_fd int own = fd;
	struct mnl_socket *sock;
	socklen_t len = sizeof(int);
	int domain = 0;

	if (getsockopt(own, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0)
		return err_sys(err, errno, "adopt descriptor %d", fd);
	if (domain != AF_NETLINK)
		return err_set(err, EINVAL, "adopt descriptor %d: not a netlink socket", fd);
	if (fcntl(own, F_SETFD, FD_CLOEXEC) < 0)
		return err_sys(err, errno, "adopt netlink socket");
	sock = mnl_socket_fdopen(own);
	if (!sock)
		return err_sys(err, errno, "adopt netlink socket");
	steal_fd(&own); /* @sock has it now */

	/* A bound one keeps its port: bind(2) to another would be EINVAL. */
	if (mnl_socket_get_portid(sock) == 0 && mnl_socket_bind(sock, 0, MNL_SOCKET_AUTOPID) < 0) {
		int code = errno;

		mnl_socket_close(sock);
		return err_sys(err, code, "bind adopted netlink socket");
	}
	nl_setup(nl, sock);
	return 0;
}

void nl_close(struct nl *nl)
{
	if (nl->sock)
		mnl_socket_close(nl->sock);
	nl->sock = NULL;
}

int nl_fd(const struct nl *nl)
{
	return mnl_socket_get_fd(nl->sock);
}

int nl_request(struct nl *nl, struct nlmsghdr *nlh, const char *what, struct err *err)
{
	struct nl_answer a = { .what = what, .err = err };

	nlh->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	return nl_talk(nl, nlh, &a);
}

/* The answers among what has come: their number. */
static unsigned nl_take_codes(const struct nl *nl, const void *buf, int len, uint32_t first,
			      int *codes, unsigned n)
{
	unsigned port = mnl_socket_get_portid(nl->sock), taken = 0;
	const struct nlmsghdr *m = buf;

	for (; mnl_nlmsg_ok(m, len); m = mnl_nlmsg_next(m, &len)) {
		const struct nlmsgerr *e = mnl_nlmsg_get_payload(m);

		if (m->nlmsg_pid != port || m->nlmsg_seq - first >= n ||
		    m->nlmsg_type != NLMSG_ERROR || mnl_nlmsg_get_payload_len(m) < sizeof(*e))
			continue;
		codes[m->nlmsg_seq - first] = e->error;
		taken++;
	}
	return taken;
}

int nl_request_many(struct nl *nl, void *requests, size_t len, int *ret_codes, unsigned n)
{
	_Alignas(struct nlmsghdr) char buf[NL_BUF_SIZE];
	uint32_t first = nl_next_seq(nl, n);
	struct nlmsghdr *m = requests;
	int left = (int)len, got;
	unsigned taken = 0;
	bool lost = false;

	for (unsigned i = 0; i < n; i++) {
		fwd_assert(mnl_nlmsg_ok(m, left));
		m->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
		m->nlmsg_seq = first + i;
		ret_codes[i] = -ENOBUFS; /* an answer that was lost */
		m = mnl_nlmsg_next(m, &left);
	}
	got = nl_send(nl, requests, len);
	while (got >= 0 && taken < n) {
		got = nl_recv(nl, &lost, buf, sizeof(buf));
		if (got > 0)
			taken += nl_take_codes(nl, buf, got, first, ret_codes, n);
	}
	return got < 0 ? got : 0;
}

int nl_dump(struct nl *nl, struct nlmsghdr *nlh, mnl_cb_t cb, void (*restart)(void *data),
	    void *data, const char *what, struct err *err)
{
	nlh->nlmsg_flags |= NLM_F_REQUEST | NLM_F_DUMP;
	for (int i = 0; i < NL_DUMP_TRIES; i++) {
		struct nl_answer a = { .cb = cb, .data = data, .what = what, .err = err };
		int r;

		if (i > 0 && restart)
			restart(data);
		r = nl_talk(nl, nlh, &a);
		if (r < 0 || !a.interrupted)
			return r;
	}
	return err_set(err, EAGAIN, "%s: changed each time while it was read", what);
}

void nl_drain(struct nl *nl)
{
	for (int i = 0; i < NL_DRAIN_MAX; i++) {
		char byte;

		if (recv(nl_fd(nl), &byte, sizeof(byte), MSG_DONTWAIT | MSG_TRUNC) >= 0)
			continue;
		if (errno != EINTR && errno != ENOBUFS) /* ENOBUFS: some were lost; more may wait */
			return;
	}
}
