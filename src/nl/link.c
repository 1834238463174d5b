/* SPDX-License-Identifier: Apache-2.0 */

/* link.c - interfaces and their addresses */

#include "nl/link.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { LINK_MSG_SIZE = 256 }; /* our requests: a header and nothing more */

/* A caller's array while a dump fills it: one of @links and @addrs. */
struct link_list {
	struct nl_link *links;
	struct nl_addr *addrs;
	unsigned max;
	unsigned n; /* how many there are, @max or not */
};

/* What an address message has for us; NULL where it has nothing. */
struct link_addr_attrs {
	const struct nlattr *local;
	const struct nlattr *address;
	const struct nlattr *flags;
	size_t ip_len;
};

static void link_restart(void *data)
{
	struct link_list *list = data;

	list->n = 0;
}

static int link_name_cb(const struct nlattr *attr, void *data)
{
	const char **ret_name = data;

	if (mnl_attr_get_type(attr) != IFLA_IFNAME)
		return MNL_CB_OK;
	if (mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) < 0)
		return MNL_CB_ERROR;
	*ret_name = mnl_attr_get_str(attr);
	return MNL_CB_OK;
}

static int link_cb(const struct nlmsghdr *nlh, void *data)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);
	struct link_list *list = data;
	const char *name = NULL;
	struct nl_link *l;

	if (nlh->nlmsg_type != RTM_NEWLINK || mnl_nlmsg_get_payload_len(nlh) < sizeof(*ifi))
		return MNL_CB_OK;
	if (mnl_attr_parse(nlh, sizeof(*ifi), link_name_cb, &name) < 0)
		return MNL_CB_ERROR;
	if (!name || list->n++ >= list->max)
		return MNL_CB_OK;
	l = &list->links[list->n - 1];
	*l = (struct nl_link){
		.index = (unsigned)ifi->ifi_index,
		.up = ifi->ifi_flags & IFF_UP,
		.loopback = ifi->ifi_flags & IFF_LOOPBACK,
	};
	(void)snprintf(l->name, sizeof(l->name), "%s", name);
	return MNL_CB_OK;
}

static int link_addr_attr_cb(const struct nlattr *attr, void *data)
{
	struct link_addr_attrs *a = data;
	int bad = 0;

	switch (mnl_attr_get_type(attr)) {
	case IFA_LOCAL:
		bad = mnl_attr_validate2(attr, MNL_TYPE_BINARY, a->ip_len);
		a->local = attr;
		break;
	case IFA_ADDRESS:
		bad = mnl_attr_validate2(attr, MNL_TYPE_BINARY, a->ip_len);
		a->address = attr;
		break;
	case IFA_FLAGS:
		bad = mnl_attr_validate(attr, MNL_TYPE_U32);
		a->flags = attr;
		break;
	default:
		break;
	}
	return bad < 0 ? MNL_CB_ERROR : MNL_CB_OK;
}

static int link_addr_cb(const struct nlmsghdr *nlh, void *data)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(nlh);
	struct link_addr_attrs a = { 0 };
	struct link_list *list = data;
	const struct nlattr *ip;
	struct nl_addr *ret;
	uint32_t flags;

	if (nlh->nlmsg_type != RTM_NEWADDR || mnl_nlmsg_get_payload_len(nlh) < sizeof(*ifa))
		return MNL_CB_OK;
	if (ifa->ifa_family != AF_INET && ifa->ifa_family != AF_INET6)
		return MNL_CB_OK;
	a.ip_len = ifa->ifa_family == AF_INET ? 4 : 16;
	if (mnl_attr_parse(nlh, sizeof(*ifa), link_addr_attr_cb, &a) < 0)
		return MNL_CB_ERROR;
	/* With a peer, IFA_ADDRESS is the peer's; without, IPv6 has no IFA_LOCAL. */
	ip = a.local ? a.local : a.address;
	if (!ip || list->n++ >= list->max)
		return MNL_CB_OK;
	flags = a.flags ? mnl_attr_get_u32(a.flags) : ifa->ifa_flags;
	ret = &list->addrs[list->n - 1];
	*ret = (struct nl_addr){
		.index = ifa->ifa_index,
		.ip = { .family = ifa->ifa_family, .plen = ifa->ifa_prefixlen },
		.scope = ifa->ifa_scope,
		.usable = !(flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)),
		.deprecated = flags & IFA_F_DEPRECATED,
	};
	memcpy(ret->ip.bytes, mnl_attr_get_payload(ip), a.ip_len);
	return MNL_CB_OK;
}

int nl_link_list(struct nl *nl, struct nl_link *v, unsigned max, struct err *err)
{
	_Alignas(struct nlmsghdr) char buf[LINK_MSG_SIZE];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct link_list list = { .links = v, .max = max };
	int r;

	nlh->nlmsg_type = RTM_GETLINK;
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	r = nl_dump(nl, nlh, link_cb, link_restart, &list, "list interfaces", err);
	return r < 0 ? r : (int)list.n;
}

int nl_addr_list(struct nl *nl, struct nl_addr *v, unsigned max, struct err *err)
{
	_Alignas(struct nlmsghdr) char buf[LINK_MSG_SIZE];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct link_list list = { .addrs = v, .max = max };
	int r;

	nlh->nlmsg_type = RTM_GETADDR;
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifaddrmsg));
	r = nl_dump(nl, nlh, link_addr_cb, link_restart, &list, "list addresses", err);
	return r < 0 ? r : (int)list.n;
}

int nl_link_up(struct nl *nl, unsigned index, struct err *err)
{
	_Alignas(struct nlmsghdr) char buf[LINK_MSG_SIZE];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct ifinfomsg *ifi;
	char what[64];

	(void)snprintf(what, sizeof(what), "bring interface %u up", index);
	nlh->nlmsg_type = RTM_SETLINK;
	ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
	ifi->ifi_index = (int)index;
	ifi->ifi_flags = IFF_UP;
	ifi->ifi_change = IFF_UP;
	return nl_request(nl, nlh, what, err);
}
