/* SPDX-License-Identifier: Apache-2.0 */

/*
 * diag.c - which sockets listen
 *
 * The kernel lists one family at a time. When a listing had to be repeated, the
 * caller has forgotten the other family's too, so that one is listed again:
 *
 *     v4 --> v6 --> done            nothing was repeated
 *            v6 repeated --> v4 --> done
 */

#include "nl/diag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "util.h"

enum {
	DIAG_MSG_SIZE = 256, /* our request: a header and nothing more */
	DIAG_TRIES = 10,     /* listings of one family, both together */
};

struct diag_dump {
	void (*cb)(const struct nl_listener *l, void *data);
	void (*restart)(void *data);
	void *data;
	uint8_t family;
	uint8_t state;	/* TCP_LISTEN, or TCP_CLOSE for UDP */
	bool restarted; /* the caller has forgotten what it had */
};

static void diag_restart(void *data)
{
	struct diag_dump *d = data;

	d->restarted = true;
	if (d->restart)
		d->restart(d->data);
}

static int diag_attr_cb(const struct nlattr *attr, void *data)
{
	bool *ret_v6only = data;

	if (mnl_attr_get_type(attr) != INET_DIAG_SKV6ONLY)
		return MNL_CB_OK;
	if (mnl_attr_validate(attr, MNL_TYPE_U8) < 0)
		return MNL_CB_ERROR;
	*ret_v6only = mnl_attr_get_u8(attr);
	return MNL_CB_OK;
}

static int diag_cb(const struct nlmsghdr *nlh, void *data)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(nlh);
	const struct diag_dump *d = data;
	struct nl_listener l = { 0 };

	if (nlh->nlmsg_type != SOCK_DIAG_BY_FAMILY || mnl_nlmsg_get_payload_len(nlh) < sizeof(*m))
		return MNL_CB_OK;
	if (m->idiag_family != d->family || m->idiag_state != d->state)
		return MNL_CB_OK;
	if (mnl_attr_parse(nlh, sizeof(*m), diag_attr_cb, &l.v6only) < 0)
		return MNL_CB_ERROR;
	l.ip.family = m->idiag_family;
	l.ip.plen = m->idiag_family == AF_INET ? 32 : 128;
	memcpy(l.ip.bytes, m->id.idiag_src, m->idiag_family == AF_INET ? 4 : 16);
	l.port = ntohs(m->id.idiag_sport);
	l.ifindex = m->id.idiag_if;
	d->cb(&l, d->data);
	return MNL_CB_OK;
}

static int diag_family(struct nl *nl, int ip_proto, struct diag_dump *d, struct err *err)
{
	_Alignas(struct nlmsghdr) char buf[DIAG_MSG_SIZE];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct inet_diag_req_v2 *req;

	nlh->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	req = mnl_nlmsg_put_extra_header(nlh, sizeof(*req));
	req->sdiag_family = d->family;
	req->sdiag_protocol = (uint8_t)ip_proto;
	/*
	 * INET_DIAG_SKV6ONLY has no bit in idiag_ext (it would be the eleventh of
	 * eight): the kernel adds it unasked to listening and unconnected sockets.
	 */
	req->idiag_states = 1U << d->state;
	return nl_dump(nl, nlh, diag_cb, diag_restart, d,
		       ip_proto == IPPROTO_UDP ? "list UDP sockets" : "list TCP listeners", err);
}

int nl_diag_listeners(struct nl *nl, int ip_proto,
		      void (*cb)(const struct nl_listener *l, void *data),
		      void (*restart)(void *data), void *data, struct err *err)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	struct diag_dump d = {
		.cb = cb,
		.restart = restart,
		.data = data,
		.state = ip_proto == IPPROTO_UDP ? TCP_CLOSE : TCP_LISTEN,
	};
	size_t have = 0; /* families that the caller has in full */

	for (int i = 0; i < DIAG_TRIES; i++) {
		int r;

		d.family = families[i % (int)ARRAY_SIZE(families)];
		d.restarted = false;
		r = diag_family(nl, ip_proto, &d, err);
		if (r < 0)
			return r;
		have = d.restarted ? 1 : have + 1;
		if (have == ARRAY_SIZE(families))
			return 0;
	}
	return err_set(err, EAGAIN, "list sockets: changed each time while they were read");
}
