/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attach.c - make a network namespace ready for transparent sockets
 *
 * A socket in the namespace is bound to the client's address, which is not
 * local there (IP_TRANSPARENT), and connects to the application. Its packets
 * arrive by the loopback device whatever their source. The answers must come
 * back the same way instead of taking the default route, so they need a mark:
 *
 *   tcp_fwmark_accept   gives the mark of a connection's SYN to the socket that
 *                       the application accepts, and so to all its packets
 *   fwmark_reflect      gives it to the RST or ICMP error that answers us
 *   ip rule             sends packets with the mark to a table of ours
 *   local default       which says of every address: it is local. Once for lo,
 *                       and once for each other device, for applications that
 *                       are bound to one (SO_BINDTODEVICE)
 *
 * Nothing else in the container has the mark, so nothing else is changed.
 * Proof and pitfalls: tests/kernel/fwmark_accept.c.
 *
 * Several instances may serve one namespace, each with its own place: a mark, a
 * table and a priority. The place is locked by a socket in the namespace's
 * abstract socket space (unix(7)), which the kernel frees however its owner
 * ends; so a place that can be locked may hold rules of a dead owner, and
 * those are flushed.
 */
#include "ns/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "nl/link.h"
#include "nl/route.h"
#include "util.h"

#define ATTACH_BASE	    0x66776400u /* "fwd", then the place: mark and table */
#define ATTACH_PRIORITY	    100u	/* before the rules of VPNs; the place is added */
#define ATTACH_UDP_BASE	    0x66776500u /* the same of tables for UDP clients */
#define ATTACH_UDP_PRIORITY 120u
#define ATTACH_PLACES	    16u
#define ATTACH_METRIC	    1000u /* of routes by other devices than lo */
#define ATTACH_LINKS	    64u
#define ATTACH_ADDRS	    256u

static const char *const attach_sysctl_paths[] = {
	[ATTACH_FWMARK_ACCEPT] = "/proc/sys/net/ipv4/tcp_fwmark_accept",
	[ATTACH_FWMARK_REFLECT4] = "/proc/sys/net/ipv4/fwmark_reflect",
	[ATTACH_FWMARK_REFLECT6] = "/proc/sys/net/ipv6/fwmark_reflect",
};
_Static_assert(ARRAY_SIZE(attach_sysctl_paths) == ATTACH_SYSCTLS, "a path for each sysctl");

static const uint8_t attach_families[] = { AF_INET, AF_INET6 };

uint32_t attach_mark(const struct attach *a)
{
	return ATTACH_BASE + a->place;
}

uint32_t attach_udp_table(const struct attach *a)
{
	return a->udp && a->transparent ? ATTACH_UDP_BASE + a->place * ATTACH_UDP_TABLES : 0;
}

/* ---------------------------------------------------------------- places */

static int attach_lock_place(unsigned place)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int n = snprintf(sa.sun_path + 1, sizeof(sa.sun_path) - 1, "fwd/attach/%u", place);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&sa,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) == 0)
		return fd;
	n = errno;
	close(fd);
	return -n;
}

static int attach_find_place(struct attach *a, struct err *err)
{
	for (a->place = 0; a->place < ATTACH_PLACES; a->place++) {
		a->lock = attach_lock_place(a->place);
		if (a->lock >= 0)
			return 0;
		if (a->lock != -EADDRINUSE)
			return err_sys(err, -a->lock, "lock a place in the namespace");
	}
	return err_set(err, EBUSY, "%u instances of fwd serve this namespace already",
		       ATTACH_PLACES);
}

/* ---------------------------------------------------------------- sysctls */

static int attach_write_sysctl(int fd, const char *value)
{
	return pwrite(fd, value, strlen(value), 0) < 0 ? -errno : 0;
}

static int attach_set_sysctl(struct attach *a, enum attach_sysctl which, struct err *err)
{
	const char *path = attach_sysctl_paths[which];
	char old[16];
	int ret = read_file(path, old, sizeof(old)), fd;

	if (ret == -ENOENT && which == ATTACH_FWMARK_REFLECT6)
		return 0; /* no IPv6 in this kernel */
	if (ret >= 0 && old[0] != '0')
		return 0;
	if (ret < 0)
		return err_sys(err, -ret, "read %s", path);
	/* Held open: at the end there may be no /proc (confine.h). */
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ret = fd < 0 ? -errno : attach_write_sysctl(fd, "1");
	if (ret < 0) {
		close_fd(&fd);
		return err_sys(err, -ret, "set %s", path);
	}
	a->sysctl[which] = fd;
	return 0;
}

/* Set back what we set, unless another instance relies on it. */
static void attach_reset_sysctls(struct attach *a)
{
	struct err ignored;
	bool needed = false;

	for (size_t i = 0; i < ARRAY_SIZE(attach_families); i++)
		needed |= nl_rule_count(&a->nl, attach_families[i], ATTACH_PROTOCOL, &ignored) > 0;
	for (size_t i = 0; i < ATTACH_SYSCTLS; i++) {
		if (a->sysctl[i] >= 0 && !needed)
			attach_write_sysctl(a->sysctl[i], "0");
		close_fd(&a->sysctl[i]);
	}
}

/* ---------------------------------------------------------------- rules and routes */

static struct nl_rule attach_rule(const struct attach *a, uint8_t family)
{
	return (struct nl_rule){ .family = family,
				 .protocol = ATTACH_PROTOCOL,
				 .priority = ATTACH_PRIORITY + a->place,
				 .table = ATTACH_BASE + a->place,
				 .fwmark = attach_mark(a) };
}

static int attach_add_route(struct attach *a, uint8_t family, const struct nl_link *link,
			    struct err *err)
{
	struct nl_route r = { .dst = { .family = family },
			      .oif = link->index,
			      .table = ATTACH_BASE + a->place,
			      .metric = link->loopback ? 1 : ATTACH_METRIC + link->index,
			      .protocol = ATTACH_PROTOCOL };

	return nl_route_add(&a->nl, &r, NULL, err);
}

static void attach_flush(struct attach *a, uint8_t family)
{
	struct err ignored;

	nl_rule_flush(&a->nl, family, ATTACH_PROTOCOL, ATTACH_PRIORITY + a->place, &ignored);
	nl_rule_flush(&a->nl, family, ATTACH_PROTOCOL, ATTACH_UDP_PRIORITY + a->place, &ignored);
	nl_route_flush(&a->nl, family, ATTACH_BASE + a->place, ATTACH_PROTOCOL, &ignored);
	for (uint32_t i = 0; i < ATTACH_UDP_TABLES; i++)
		nl_route_flush(&a->nl, family, ATTACH_UDP_BASE + a->place * ATTACH_UDP_TABLES + i,
			       ATTACH_PROTOCOL, &ignored);
}

/* Rule and route by lo. */
static int attach_add_family(struct attach *a, uint8_t family, const struct nl_link *lo,
			     struct err *err)
{
	struct nl_rule rule = attach_rule(a, family);
	int ret;

	attach_flush(a, family);
	ret = attach_add_route(a, family, lo, err);
	if (ret == 0)
		ret = nl_rule_add(&a->nl, &rule, NULL, err);
	return ret;
}

/* ---------------------------------------------------------------- addresses */

static const struct nl_link *attach_link_of(const struct nl_link *links, int n, unsigned index)
{
	for (int i = 0; i < n; i++)
		if (links[i].index == index)
			return &links[i];
	return NULL;
}

static bool attach_same_ip(const struct nl_ip *a, const struct nl_ip *b)
{
	return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

/* How good an address is to reach the namespace at. */
enum attach_rank { ATTACH_NOT, ATTACH_LOOPBACK, ATTACH_GLOBAL, ATTACH_PREFERRED };

static enum attach_rank attach_rank(const struct attach *a, const struct nl_link *link,
				    const struct nl_addr *addr)
{
	if (!link || !link->up || !addr->usable)
		return ATTACH_NOT;
	if (link->loopback)
		return addr->scope == RT_SCOPE_HOST ? ATTACH_LOOPBACK : ATTACH_NOT;
	if (addr->scope != RT_SCOPE_UNIVERSE || addr->deprecated)
		return ATTACH_NOT;
	return attach_same_ip(&addr->ip, &a->prefer) ? ATTACH_PREFERRED : ATTACH_GLOBAL;
}

/*
 * Where the namespace is reached: the address that is preferred, else the first global
 * one of a device that is up, else the loopback address if it has one.
 */
static struct nl_ip attach_pick(const struct attach *a, uint8_t family, const struct nl_link *links,
				int n_links, const struct nl_addr *addrs, int n_addrs,
				unsigned *ret_ifindex)
{
	enum attach_rank best = ATTACH_NOT;
	struct nl_ip ret = { 0 };

	for (int i = 0; i < n_addrs; i++) {
		const struct nl_link *link = attach_link_of(links, n_links, addrs[i].index);
		enum attach_rank rank = attach_rank(a, link, &addrs[i]);

		if (addrs[i].ip.family != family || rank <= best)
			continue;
		best = rank;
		*ret_ifindex = link->index;
		ret = addrs[i].ip;
	}
	return ret;
}

bool attach_update(struct attach *a)
{
	struct nl_link links[ATTACH_LINKS];
	struct nl_addr addrs[ATTACH_ADDRS];
	bool changed = false;
	struct err ignored;
	int n_links, n_addrs;

	n_links = nl_link_list(&a->nl, links, ATTACH_LINKS, &ignored);
	n_addrs = nl_addr_list(&a->nl, addrs, ATTACH_ADDRS, &ignored);
	if (n_links < 0 || n_addrs < 0)
		return false;
	n_links = n_links < (int)ATTACH_LINKS ? n_links : (int)ATTACH_LINKS;
	n_addrs = n_addrs < (int)ATTACH_ADDRS ? n_addrs : (int)ATTACH_ADDRS;

	for (size_t f = 0; f < ARRAY_SIZE(attach_families); f++) {
		unsigned ifindex = 0;
		struct nl_ip ip = attach_pick(a, attach_families[f], links, n_links, addrs, n_addrs,
					      &ifindex);

		changed |= !attach_same_ip(&ip, &a->addr[f]);
		a->addr[f] = ip;
		a->ifindex[f] = ifindex;
		/* A device without IPv6 refuses its route: then nothing is bound to it there. */
		for (int i = 0; a->transparent && i < n_links; i++)
			if (!links[i].loopback && links[i].up)
				attach_add_route(a, attach_families[f], &links[i], &ignored);
	}
	return changed;
}

/* ---------------------------------------------------------------- start and stop */

static int attach_up(struct attach *a, struct nl_link *ret_lo, struct err *err)
{
	struct nl_link links[ATTACH_LINKS];
	int n = nl_link_list(&a->nl, links, ATTACH_LINKS, err);

	for (int i = 0; i < n && i < (int)ATTACH_LINKS; i++) {
		if (!links[i].loopback)
			continue;
		*ret_lo = links[i];
		return links[i].up ? 0 : nl_link_up(&a->nl, links[i].index, err);
	}
	return n < 0 ? n : err_set(err, ENODEV, "the namespace has no loopback device");
}

/*
 * Answers from these ports look into the table for UDP clients first. That holds a
 * local route for each client that is active, so nothing else is changed.
 */
int attach_change_udp(struct attach *a, const struct attach_ports *ports, bool add, struct err *err)
{
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < ARRAY_SIZE(attach_families); i++) {
		struct nl_rule r = attach_rule(a, attach_families[i]);

		r.fwmark = 0;
		r.priority = ATTACH_UDP_PRIORITY + a->place;
		r.table = ATTACH_UDP_BASE + a->place * ATTACH_UDP_TABLES + ports->table;
		r.ip_proto = IPPROTO_UDP;
		strcpy(r.iif, "lo");
		r.sport_first = ports->first;
		r.sport_last = ports->last;
		/* A range that ends at 65535 is "invalid" (fib_rule_port_range_valid()). */
		if (r.sport_last == 65535)
			r.sport_last--;
		if (r.sport_first > r.sport_last)
			continue;
		ret = add ? nl_rule_add(&a->nl, &r, NULL, err) : nl_rule_del(&a->nl, &r, NULL, err);
		if (r.family == AF_INET6)
			ret = 0; /* may be off */
	}
	return ret;
}

static int attach_make_transparent(struct attach *a, const struct nl_link *lo,
				   const struct attach_ports *udp, unsigned n_udp, struct err *err)
{
	struct err ignored;
	int ret = attach_find_place(a, err);

	for (unsigned i = 0; ret == 0 && i < ATTACH_SYSCTLS; i++)
		ret = attach_set_sysctl(a, (enum attach_sysctl)i, err);
	if (ret == 0)
		ret = attach_add_family(a, AF_INET, lo, err);
	/* IPv6 may be off: then there is nothing to reach by it. */
	if (ret == 0)
		attach_add_family(a, AF_INET6, lo, &ignored);
	if (ret == 0)
		a->udp = udp != NULL;
	for (unsigned i = 0; ret == 0 && udp && i < n_udp; i++)
		ret = attach_change_udp(a, &udp[i], true, err);
	return ret;
}

int attach_start(struct attach *a, const struct attach_ports *udp, unsigned n_udp, struct err *why,
		 struct err *err)
{
	struct nl_link lo = { 0 };
	int ret;

	*a = (struct attach){ .lock = -1 };
	for (size_t i = 0; i < ATTACH_SYSCTLS; i++)
		a->sysctl[i] = -1;
	ret = nl_open(&a->nl, NETLINK_ROUTE, 0, err);
	if (ret < 0)
		return ret;
	ret = attach_up(a, &lo, err);
	if (ret < 0) {
		nl_close(&a->nl);
		return ret;
	}
	a->transparent = attach_make_transparent(a, &lo, udp, n_udp, why) == 0;
	attach_update(a);
	return 0;
}

void attach_stop(struct attach *a)
{
	for (size_t i = 0; a->lock >= 0 && i < ARRAY_SIZE(attach_families); i++)
		attach_flush(a, attach_families[i]);
	attach_reset_sysctls(a);
	close_fd(&a->lock);
	nl_close(&a->nl);
}
