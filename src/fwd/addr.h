/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One type for IPv4 and IPv6 addresses. Apart from this module nothing in
 * src/fwd names AF_INET or AF_INET6: an IPv4 address is kept v4-mapped
 * (::ffff:a.b.c.d, RFC 4291 2.5.5.2) and turned back at the edge.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct addr {
	uint8_t ip[16]; /* network order; IPv4 as ::ffff:a.b.c.d */
	uint32_t scope; /* ifindex, for link-local IPv6; else 0 */
	uint16_t port;	/* host order; 0 where there is none */
};

enum addr_family { ADDR_V4, ADDR_V6, ADDR_FAMILIES };

/* Enough for "[IPv6%4294967295]:65535" and its NUL. */
#define ADDR_STRLEN 72

extern const struct addr addr_any4;	 /* 0.0.0.0 */
extern const struct addr addr_any6;	 /* :: */
extern const struct addr addr_loopback4; /* 127.0.0.1 */
extern const struct addr addr_loopback6; /* ::1 */

enum addr_family addr_family(const struct addr *a);
bool addr_is_any(const struct addr *a);	       /* 0.0.0.0 or :: */
bool addr_is_loopback(const struct addr *a);   /* 127.0.0.0/8 or ::1 */
bool addr_is_link_local(const struct addr *a); /* fe80::/10 only: IPv4's has no scope */
bool addr_is_multicast(const struct addr *a);

bool addr_same_ip(const struct addr *a, const struct addr *b); /* ip and scope */
bool addr_equal(const struct addr *a, const struct addr *b);   /* ip, scope and port */

/*
 * Parse a bare IPv4 or IPv6 address (no port, no brackets, no scope) of @len
 * bytes. False, with *@ret untouched, on anything else.
 */
bool addr_parse(const char *s, size_t len, struct addr *ret);

/* An IPv4 address inside the well-known NAT64 prefix 64:ff9b::/96 (RFC 6052). */
struct addr addr_nat64(const struct addr *v4);

/* Print the address alone, without scope and brackets; returns @buf. */
const char *addr_ip_str(const struct addr *a, char buf[ADDR_STRLEN]);

/* Print "1.2.3.4:80", "[fd00::1]:80" or "[fe80::1%2]:80"; returns @buf. */
const char *addr_str(const struct addr *a, char buf[ADDR_STRLEN]);

/* AF_INET or AF_INET6, for socket(2). */
int addr_af(const struct addr *a);
int addr_family_af(enum addr_family family);

/* Fill *@ret with a sockaddr_in or sockaddr_in6; returns its length. */
socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ret);

/* As addr_to_sockaddr(), for a socket of a given family: IPv4 stays mapped if @v6. */
socklen_t addr_to_sockaddr_as(const struct addr *a, bool v6, struct sockaddr_storage *ret);

/*
 * From what accept(2) and the like gave: unmaps nothing (IPv4 is kept mapped
 * anyway), keeps the scope of link-local addresses only. False, with *@ret
 * untouched, if it is neither IPv4 nor IPv6.
 */
bool addr_from_sockaddr(const struct sockaddr_storage *sa, struct addr *ret);

/* From raw bytes as netlink has them: 4 (IPv4) or 16 (IPv6) of them. */
struct addr addr_from_bytes(const void *bytes, size_t len);
