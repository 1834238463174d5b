/* SPDX-License-Identifier: Apache-2.0 */
/*
 * addr.c - one type for IPv4 and IPv6 addresses
 *
 * Sixteen bytes say everything: an address is IPv4 exactly if it lies in the
 * v4-mapped prefix. So comparing, hashing and copying need no family, and only
 * the functions at the end, which talk to the socket API, know that there are
 * two of them.
 */

#include "fwd/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "util.h"

const struct addr addr_any4 = { .ip = { [10] = 0xff, 0xff } };
const struct addr addr_any6 = { .ip = { 0 } };
const struct addr addr_loopback4 = { .ip = { [10] = 0xff, 0xff, 127, 0, 0, 1 } };
const struct addr addr_loopback6 = { .ip = { [15] = 1 } };

/* Where the four bytes of an IPv4 address begin, in a mapped and in a NAT64 one. */
enum { ADDR_V4_OFFSET = 12 };

static const uint8_t addr_mapped_prefix[ADDR_V4_OFFSET] = { [10] = 0xff, 0xff };
static const uint8_t addr_nat64_prefix[ADDR_V4_OFFSET] = { 0x00, 0x64, 0xff, 0x9b };

static const int addr_afs[] = { [ADDR_V4] = AF_INET, [ADDR_V6] = AF_INET6 };
_Static_assert(ARRAY_SIZE(addr_afs) == ADDR_FAMILIES, "one AF_* per family");

static bool addr_is_v4(const struct addr *a)
{
	return memcmp(a->ip, addr_mapped_prefix, sizeof(addr_mapped_prefix)) == 0;
}

enum addr_family addr_family(const struct addr *a)
{
	return addr_is_v4(a) ? ADDR_V4 : ADDR_V6;
}

bool addr_is_any(const struct addr *a)
{
	return memcmp(a->ip, addr_any4.ip, sizeof(a->ip)) == 0 ||
	       memcmp(a->ip, addr_any6.ip, sizeof(a->ip)) == 0;
}

bool addr_is_loopback(const struct addr *a)
{
	if (addr_is_v4(a))
		return a->ip[ADDR_V4_OFFSET] == 127;
	return memcmp(a->ip, addr_loopback6.ip, sizeof(a->ip)) == 0;
}

bool addr_is_link_local(const struct addr *a)
{
	return a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

bool addr_is_multicast(const struct addr *a)
{
	if (addr_is_v4(a))
		return (a->ip[ADDR_V4_OFFSET] & 0xf0) == 0xe0;
	return a->ip[0] == 0xff;
}

bool addr_same_ip(const struct addr *a, const struct addr *b)
{
	return memcmp(a->ip, b->ip, sizeof(a->ip)) == 0 && a->scope == b->scope;
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
	return addr_same_ip(a, b) && a->port == b->port;
}

bool addr_parse(const char *s, size_t len, struct addr *ret)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr v6;
	struct in_addr v4;

	if (len >= sizeof(text) || memchr(s, '\0', len))
		return false;
	memcpy(text, s, len);
	text[len] = '\0';

	if (inet_pton(AF_INET, text, &v4) == 1)
		*ret = addr_from_bytes(&v4, sizeof(v4));
	else if (inet_pton(AF_INET6, text, &v6) == 1)
		*ret = addr_from_bytes(&v6, sizeof(v6));
	else
		return false;
	return true;
}

struct addr addr_nat64(const struct addr *v4)
{
	struct addr ret = *v4;

	fwd_assert(addr_is_v4(v4));
	memcpy(ret.ip, addr_nat64_prefix, sizeof(addr_nat64_prefix));
	return ret;
}

const char *addr_ip_str(const struct addr *a, char buf[ADDR_STRLEN])
{
	const uint8_t *ip = addr_is_v4(a) ? a->ip + ADDR_V4_OFFSET : a->ip;
	const char *text = inet_ntop(addr_af(a), ip, buf, ADDR_STRLEN);

	fwd_assert(text);
	return text;
}

const char *addr_str(const struct addr *a, char buf[ADDR_STRLEN])
{
	char ip[ADDR_STRLEN];
	char scope[sizeof("%4294967295")] = "";

	addr_ip_str(a, ip);
	if (a->scope)
		snprintf(scope, sizeof(scope), "%%%u", a->scope);
	snprintf(buf, ADDR_STRLEN, addr_is_v4(a) ? "%.45s%s:%u" : "[%.45s%s]:%u", ip, scope,
		 a->port);
	return buf;
}

int addr_af(const struct addr *a)
{
	return addr_family_af(addr_family(a));
}

int addr_family_af(enum addr_family family)
{
	fwd_assert(family < ADDR_FAMILIES);
	return addr_afs[family];
}

socklen_t addr_to_sockaddr_as(const struct addr *a, bool v6, struct sockaddr_storage *ret)
{
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)ret;
	struct sockaddr_in *sin = (struct sockaddr_in *)ret;

	*ret = (struct sockaddr_storage){ 0 };
	if (!v6) {
		sin->sin_family = AF_INET;
		sin->sin_port = htons(a->port);
		memcpy(&sin->sin_addr, a->ip + ADDR_V4_OFFSET, sizeof(sin->sin_addr));
		return sizeof(*sin);
	}
	sin6->sin6_family = AF_INET6;
	sin6->sin6_port = htons(a->port);
	sin6->sin6_scope_id = a->scope;
	memcpy(&sin6->sin6_addr, a->ip, sizeof(sin6->sin6_addr));
	return sizeof(*sin6);
}

socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ret)
{
	return addr_to_sockaddr_as(a, !addr_is_v4(a), ret);
}

bool addr_from_sockaddr(const struct sockaddr_storage *sa, struct addr *ret)
{
	if (sa->ss_family == AF_INET) {
		const struct sockaddr_in *sin = (const struct sockaddr_in *)sa;

		*ret = addr_from_bytes(&sin->sin_addr, sizeof(sin->sin_addr));
		ret->port = ntohs(sin->sin_port);
		return true;
	}
	if (sa->ss_family == AF_INET6) {
		const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)sa;

		*ret = addr_from_bytes(&sin6->sin6_addr, sizeof(sin6->sin6_addr));
		ret->port = ntohs(sin6->sin6_port);
		if (addr_is_link_local(ret))
			ret->scope = sin6->sin6_scope_id;
		return true;
	}
	return false;
}

struct addr addr_from_bytes(const void *bytes, size_t len)
{
	struct addr ret = addr_any4;

	fwd_assert(len == sizeof(struct in_addr) || len == sizeof(struct in6_addr));
	memcpy(ret.ip + sizeof(ret.ip) - len, bytes, len);
	return ret;
}
