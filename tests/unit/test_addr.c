/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_addr.c - addresses: parsed, printed, classified, to and from the kernel
 *
 * Parameters are indices into static tables: Criterion copies parameters into
 * the process of each test, pointers would not survive that.
 */

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <netinet/in.h>
#include <string.h>

#include "fwd/addr.h"
#include "util.h"

enum { TIMEOUT = 10, ROWS_MAX = 64 };

static unsigned row_index[ROWS_MAX];

static struct criterion_test_params rows(size_t n)
{
	cr_assert_leq(n, ROWS_MAX);
	for (unsigned i = 0; i < n; i++)
		row_index[i] = i;
	return cr_make_param_array(unsigned, row_index, n, NULL);
}

static struct addr parse(const char *text)
{
	struct addr ret;

	cr_assert(addr_parse(text, strlen(text), &ret), "%s", text);
	return ret;
}

enum { ANY = 1, LOOPBACK = 2, LINK_LOCAL = 4, MULTICAST = 8 };

static const struct {
	const char *text, *printed; /* printed: NULL if as it was written */
	enum addr_family family;
	unsigned is;
} good[] = {
	{ "0.0.0.0", NULL, ADDR_V4, ANY },
	{ "1.2.3.4", NULL, ADDR_V4, 0 },
	{ "127.0.0.1", NULL, ADDR_V4, LOOPBACK },
	{ "127.255.0.9", NULL, ADDR_V4, LOOPBACK },
	{ "128.0.0.1", NULL, ADDR_V4, 0 },
	{ "169.254.1.1", NULL, ADDR_V4, 0 },
	{ "223.255.255.255", NULL, ADDR_V4, 0 },
	{ "224.0.0.1", NULL, ADDR_V4, MULTICAST },
	{ "239.255.255.255", NULL, ADDR_V4, MULTICAST },
	{ "240.0.0.1", NULL, ADDR_V4, 0 },
	{ "255.255.255.255", NULL, ADDR_V4, 0 },
	{ "::", NULL, ADDR_V6, ANY },
	{ "::1", NULL, ADDR_V6, LOOPBACK },
	{ "::2", NULL, ADDR_V6, 0 },
	{ "2001:DB8:0::1", "2001:db8::1", ADDR_V6, 0 },
	{ "fd00::1", NULL, ADDR_V6, 0 },
	{ "fe7f::1", NULL, ADDR_V6, 0 },
	{ "fe80::1", NULL, ADDR_V6, LINK_LOCAL },
	{ "febf::1", NULL, ADDR_V6, LINK_LOCAL },
	{ "fec0::1", NULL, ADDR_V6, 0 },
	{ "ff02::1", NULL, ADDR_V6, MULTICAST },
	{ "::ffff:1.2.3.4", "1.2.3.4", ADDR_V4, 0 },
	{ "::ffff:0:1.2.3.4", "::ffff:0:102:304", ADDR_V6, 0 },
	{ "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255",
	  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ADDR_V6, MULTICAST },
};

ParameterizedTestParameters(addr, knows_what_an_address_is)
{
	return rows(ARRAY_SIZE(good));
}

/* Each address is read, printed in its canonical form, and told from the others. */
ParameterizedTest(const unsigned *row, addr, knows_what_an_address_is, .timeout = TIMEOUT)
{
	const char *text = good[*row].text;
	struct addr a = parse(text);
	char buf[ADDR_STRLEN];
	unsigned is = 0;

	is |= addr_is_any(&a) ? ANY : 0;
	is |= addr_is_loopback(&a) ? LOOPBACK : 0;
	is |= addr_is_link_local(&a) ? LINK_LOCAL : 0;
	is |= addr_is_multicast(&a) ? MULTICAST : 0;
	cr_assert_eq(is, good[*row].is, "%s: %#x", text, is);
	cr_assert_eq(addr_family(&a), good[*row].family, "%s", text);
	cr_assert_str_eq(addr_ip_str(&a, buf), good[*row].printed ? good[*row].printed : text);
	cr_assert_eq(a.port, 0);
	cr_assert_eq(a.scope, 0);
}

static const char *const bad[] = {
	"",
	" ",
	"1",
	"80",
	"1.2.3",
	"1.2.3.4.5",
	"1.2.3.256",
	"01.2.3.4",
	"0x7f.0.0.1",
	" 1.2.3.4",
	"1.2.3.4 ",
	"1.2.3.4:80",
	"1.2.3.4%eth0",
	"localhost",
	":",
	":::",
	"::1::",
	"12345::",
	"1:2:3:4:5:6:7:8:9",
	"fd00::g",
	"[::1]",
	"fe80::1%eth0",
	"fe80::1%2",
	"0000:0000:0000:0000:0000:0000:255.255.255.2550",
};

ParameterizedTestParameters(addr, refuses_other_text)
{
	return rows(ARRAY_SIZE(bad));
}

/* What is not a bare address is refused, and the output stays as it was. */
ParameterizedTest(const unsigned *row, addr, refuses_other_text, .timeout = TIMEOUT)
{
	struct addr a, before;

	memset(&a, 0x5a, sizeof(a));
	before = a;
	cr_assert_not(addr_parse(bad[*row], strlen(bad[*row]), &a), "%s", bad[*row]);
	cr_assert_arr_eq(&a, &before, sizeof(a));
}

/* Only the given length counts: what follows is not looked at, a NUL inside is an error. */
Test(addr, parses_no_more_than_its_length, .timeout = TIMEOUT)
{
	struct addr a, want = parse("1.2.3.4");

	cr_assert(addr_parse("1.2.3.456", 7, &a));
	cr_assert(addr_equal(&a, &want));
	cr_assert_not(addr_parse("1.2.3.4\0", 8, &a));
	cr_assert_not(addr_parse("1.2.3.4", 0, &a));
}

/* The constants are the addresses that their names say. */
Test(addr, has_constants_that_are_right, .timeout = TIMEOUT)
{
	struct addr any4 = parse("0.0.0.0"), any6 = parse("::");
	struct addr loopback4 = parse("127.0.0.1"), loopback6 = parse("::1");

	cr_assert(addr_equal(&addr_any4, &any4));
	cr_assert(addr_equal(&addr_any6, &any6));
	cr_assert(addr_equal(&addr_loopback4, &loopback4));
	cr_assert(addr_equal(&addr_loopback6, &loopback6));
	cr_assert_not(addr_same_ip(&addr_any4, &addr_any6));
}

/* The scope is part of the IP, the port only of the whole address. */
Test(addr, compares_scope_and_port, .timeout = TIMEOUT)
{
	struct addr a = parse("fe80::1"), b = a;

	a.port = 80;
	cr_assert(addr_same_ip(&a, &b));
	cr_assert_not(addr_equal(&a, &b));
	b.port = 80;
	cr_assert(addr_equal(&a, &b));
	b.scope = 2;
	cr_assert_not(addr_same_ip(&a, &b));
	cr_assert_not(addr_equal(&a, &b));
}

/* With the port, IPv6 stands in brackets, and a scope before the closing one. */
Test(addr, prints_ip_scope_and_port, .timeout = TIMEOUT)
{
	struct addr v4 = parse("1.2.3.4"), v6 = parse("fd00::1"), local = parse("fe80::1");
	char buf[ADDR_STRLEN];

	v4.port = 80;
	v6.port = 443;
	local.port = 65535;
	local.scope = 7;
	cr_assert_str_eq(addr_str(&v4, buf), "1.2.3.4:80");
	cr_assert_str_eq(addr_str(&v6, buf), "[fd00::1]:443");
	cr_assert_str_eq(addr_str(&local, buf), "[fe80::1%7]:65535");
	cr_assert_str_eq(addr_ip_str(&local, buf), "fe80::1");
	cr_assert_eq(addr_str(&v4, buf), buf);
}

/* The longest address there is fits into ADDR_STRLEN. */
Test(addr, prints_the_longest_address_whole, .timeout = TIMEOUT)
{
	struct addr a = parse("fe80:1111:2222:3333:4444:5555:6666:7777");
	char buf[ADDR_STRLEN];

	a.scope = UINT32_MAX;
	a.port = UINT16_MAX;
	cr_assert_str_eq(addr_str(&a, buf),
			 "[fe80:1111:2222:3333:4444:5555:6666:7777%4294967295]:65535");
}

/* IPv4 goes to the kernel as a sockaddr_in and comes back the same. */
Test(addr, converts_ipv4_to_sockaddr_and_back, .timeout = TIMEOUT)
{
	struct sockaddr_storage sa;
	const struct sockaddr_in *sin = (const struct sockaddr_in *)&sa;
	struct addr a = parse("1.2.3.4"), back;

	a.port = 8080;
	cr_assert_eq(addr_to_sockaddr(&a, &sa), sizeof(*sin));
	cr_assert_eq(sin->sin_family, AF_INET);
	cr_assert_eq(sin->sin_port, htons(8080));
	cr_assert_eq(sin->sin_addr.s_addr, htonl(0x01020304));
	cr_assert(addr_from_sockaddr(&sa, &back));
	cr_assert(addr_equal(&a, &back));
}

/* Link-local IPv6 goes to the kernel with its scope and comes back with it. */
Test(addr, converts_ipv6_to_sockaddr_and_back, .timeout = TIMEOUT)
{
	struct sockaddr_storage sa;
	const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)&sa;
	struct addr a = parse("fe80::1"), back;

	a.port = 8080;
	a.scope = 3;
	cr_assert_eq(addr_to_sockaddr(&a, &sa), sizeof(*sin6));
	cr_assert_eq(sin6->sin6_family, AF_INET6);
	cr_assert_eq(sin6->sin6_port, htons(8080));
	cr_assert_eq(sin6->sin6_scope_id, 3);
	cr_assert_eq(sin6->sin6_flowinfo, 0);
	cr_assert_arr_eq(&sin6->sin6_addr, a.ip, sizeof(a.ip));
	cr_assert(addr_from_sockaddr(&sa, &back));
	cr_assert(addr_equal(&a, &back));
}

/* A scope that the kernel sends along with a global address is dropped. */
Test(addr, keeps_the_scope_of_link_local_only, .timeout = TIMEOUT)
{
	struct addr a = parse("2001:db8::1"), back;
	struct sockaddr_storage sa;

	a.scope = 3;
	addr_to_sockaddr(&a, &sa);
	cr_assert(addr_from_sockaddr(&sa, &back));
	cr_assert_eq(back.scope, 0);
}

/* An IPv4 peer of an IPv6 socket is IPv4. */
Test(addr, takes_a_mapped_sockaddr_as_ipv4, .timeout = TIMEOUT)
{
	struct sockaddr_storage sa = { .ss_family = AF_INET6 };
	struct addr want = parse("1.2.3.4"), a;

	memcpy(&((struct sockaddr_in6 *)&sa)->sin6_addr, want.ip, sizeof(want.ip));
	cr_assert(addr_from_sockaddr(&sa, &a));
	cr_assert_eq(addr_family(&a), ADDR_V4);
	cr_assert(addr_equal(&a, &want));
}

/* Any other family is refused, and the output stays as it was. */
Test(addr, refuses_a_sockaddr_of_another_family, .timeout = TIMEOUT)
{
	struct sockaddr_storage sa = { .ss_family = AF_UNIX };
	struct addr a = addr_loopback6;

	cr_assert_not(addr_from_sockaddr(&sa, &a));
	cr_assert(addr_equal(&a, &addr_loopback6));
}

/* Four bytes are IPv4, sixteen IPv6. */
Test(addr, takes_raw_bytes, .timeout = TIMEOUT)
{
	const uint8_t v4[] = { 1, 2, 3, 4 };
	const uint8_t v6[16] = { 0xfd, [15] = 1 };
	struct addr want4 = parse("1.2.3.4"), want6 = parse("fd00::1");
	struct addr a4 = addr_from_bytes(v4, sizeof(v4)), a6 = addr_from_bytes(v6, sizeof(v6));

	cr_assert(addr_equal(&a4, &want4));
	cr_assert(addr_equal(&a6, &want6));
}

/* NAT64 puts the IPv4 address behind 64:ff9b::/96 and leaves the port. */
Test(addr, embeds_ipv4_in_the_nat64_prefix, .timeout = TIMEOUT)
{
	struct addr v4 = parse("192.0.2.33"), a;
	char buf[ADDR_STRLEN];

	v4.port = 53;
	a = addr_nat64(&v4);
	cr_assert_str_eq(addr_str(&a, buf), "[64:ff9b::c000:221]:53");
	cr_assert_eq(addr_family(&a), ADDR_V6);
}

/* socket(2) gets the family that the sockaddr will have. */
Test(addr, tells_the_socket_family, .timeout = TIMEOUT)
{
	cr_assert_eq(addr_af(&addr_any4), AF_INET);
	cr_assert_eq(addr_af(&addr_any6), AF_INET6);
	cr_assert_eq(addr_family_af(ADDR_V4), AF_INET);
	cr_assert_eq(addr_family_af(ADDR_V6), AF_INET6);
}
