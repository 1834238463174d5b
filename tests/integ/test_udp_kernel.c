/* SPDX-License-Identifier: Apache-2.0 */

/* test_udp_kernel.c - routes of UDP clients, and who listens on which family, asked of the kernel */

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fwd/udpfamily.h"
#include "fwd/udproute.h"
#include "ns/attach.h"
#include "ns/errand.h"
#include "userns.h"
#include "util.h"

enum {
	TEST_LO = 1,
	TEST_TABLE = 4000001,
	TEST_METRIC = 3,
	TEST_MAX = 8, /* routes */
	TEST_PORT = 80,
};

static void __attribute__((constructor)) test_begin(void)
{
	userns_begin();
}

static struct err err;

static int netlink_socket(int bus)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, bus);

	cr_assert_geq(fd, 0);
	return fd;
}

static void run(const char *command)
{
	cr_assert_eq(system(command), 0, "%s", command);
}

static struct addr addr_of(const char *ip)
{
	uint8_t bytes[16];
	bool v6 = strchr(ip, ':');

	cr_assert_eq(inet_pton(v6 ? AF_INET6 : AF_INET, ip, bytes), 1);
	return addr_from_bytes(bytes, v6 ? 16 : 4);
}

/* ------------------------------------------------------------ routes */

static struct udproutes routes;
static unsigned dev; /* eth0, which has 198.18.99.2 and fd00:99::2 */
static int errands[2];
static pid_t server; /* of errands */

/* Make routes as the agent does, until nobody asks any more. */
static _Noreturn void serve_errands(void)
{
	const struct errand_limits limits = { .protocol = ATTACH_PROTOCOL,
					      .table = TEST_TABLE,
					      .n_tables = 1 };
	struct pollfd p = { .fd = errands[1], .events = POLLIN };
	struct nl nl;

	close(errands[0]);
	if (nl_open(&nl, NETLINK_ROUTE, 0, &err) < 0)
		_exit(1);
	while (poll(&p, 1, -1) > 0 && errand_serve(errands[1], &nl, &limits))
		;
	_exit(0);
}

static void start_errands(void)
{
	cr_assert_eq(errand_channel(errands, &err), 0, "%s", err.text);
	server = fork();
	cr_assert_geq(server, 0);
	if (server == 0)
		serve_errands();
	close(errands[1]);
}

/* When this returns, the agent has done what is to be done. */
static void settle(void)
{
	const struct nl_route none = { 0 };
	uint64_t failed;
	int code;

	udproutes_flush(&routes);
	cr_assert_eq(errand_add(errands[0], &none, 0, &failed, &code), 0);
}

/* One session less, and the agent knows. */
static void put(uint32_t route)
{
	udproutes_put(&routes, route);
	settle();
}

static void routes_up(void)
{
	userns_fresh_net();
	run("ip link set lo up");
	run("ip link add eth0 type veth peer name far && ip link set far up && "
	    "ip link set eth0 up && ip addr add 198.18.99.2/24 dev eth0 && "
	    "ip addr add 198.18.99.3/24 dev eth0 && "
	    "ip addr add fd00:99::2/64 dev eth0 nodad && ip addr add fd00:99::3/64 dev eth0 nodad");
	dev = if_nametoindex("eth0");
	start_errands();
	cr_assert_eq(udproutes_init(&routes, errands[0], TEST_METRIC, TEST_MAX, &err), 0, "%s",
		     err.text);
}

static void routes_down(void)
{
	udproutes_fini(&routes);
	close(errands[0]);
}

#define ROUTE_TEST(name) Test(udproute, name, .init = routes_up, .fini = routes_down, .timeout = 60)

/* The routes of our table, as ip(8) prints them, without what does not matter. */
static const char *table(void)
{
	static char text[4096];
	FILE *f = popen("ip route show table 4000001 2>/dev/null;"
			"ip -6 route show table 4000001 2>/dev/null",
			"re");
	size_t n = fread(text, 1, sizeof(text) - 1, f);

	text[n] = 0;
	pclose(f);
	return text;
}

static unsigned table_lines(void)
{
	unsigned n = 0;

	for (const char *p = table(); *p; p++)
		n += *p == '\n';
	return n;
}

static int get(const char *client, const char *source, unsigned ifindex, uint32_t *ret)
{
	struct udproute_key key = { .client = addr_of(client),
				    .source = addr_of(source),
				    .ifindex = ifindex,
				    .table = TEST_TABLE };

	return udproutes_get(&routes, &key, ret, &err);
}

/* A client gets two routes, by lo and by the device, with the preferred source. */
ROUTE_TEST(client_gets_two_routes)
{
	static const char *const v[][2] = { { "198.18.1.2", "198.18.99.2" },
					    { "fd00:1::2", "fd00:99::2" } };

	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		char lo[80], eth[80], src[80];
		uint32_t r;

		snprintf(lo, sizeof(lo), "local %s dev lo", v[i][0]);
		snprintf(eth, sizeof(eth), "local %s dev eth0", v[i][0]);
		snprintf(src, sizeof(src), "src %s", v[i][1]);
		cr_assert_eq(get(v[i][0], v[i][1], dev, &r), 0, "%s", err.text);
		cr_expect(strstr(table(), lo) && strstr(table(), eth) && strstr(table(), src), "%s",
			  table());
		cr_expect_eq(table_lines(), 2, "%s", table());
		put(r);
		cr_expect_str_eq(table(), "");
	}
}

/* Without a device that is known, or with lo for one, there is one. */
ROUTE_TEST(without_a_device_there_is_one_route)
{
	for (unsigned ifindex = 0; ifindex <= TEST_LO; ifindex++) {
		uint32_t r;

		cr_assert_eq(get("198.18.1.2", "198.18.99.2", ifindex, &r), 0, "%s", err.text);
		cr_expect_eq(table_lines(), 1, "%s", table());
		put(r);
		cr_expect_str_eq(table(), "");
	}
}

/* Routes are counted: they go with the last session of the client. */
ROUTE_TEST(routes_go_with_the_last_session)
{
	uint32_t r[3], other;

	for (int i = 0; i < 3; i++)
		cr_assert_eq(get("198.18.1.2", "198.18.99.2", dev, &r[i]), 0, "%s", err.text);
	cr_assert_eq(get("198.18.1.3", "198.18.99.2", dev, &other), 0, "%s", err.text);
	cr_expect_eq(r[0], r[2]);
	cr_expect_neq(r[0], other);
	cr_expect_eq(table_lines(), 4, "%s", table());
	put(r[0]);
	put(r[1]);
	cr_expect_eq(table_lines(), 4, "%s", table());
	put(r[2]);
	cr_expect(table_lines() == 2 && strstr(table(), "198.18.1.3"), "%s", table());
	put(other);
	cr_expect_str_eq(table(), "");
}

/* More clients than there is room for are refused; one that goes makes room. */
ROUTE_TEST(full_table_refuses)
{
	uint32_t r[TEST_MAX], more;
	char client[32];

	for (int i = 0; i < TEST_MAX; i++) {
		snprintf(client, sizeof(client), "198.18.1.%d", i + 1);
		cr_assert_eq(get(client, "198.18.99.2", 0, &r[i]), 0, "%s", err.text);
	}
	cr_expect_eq(get("198.18.2.1", "198.18.99.2", 0, &more), -ENOSPC);
	cr_expect_eq(get("198.18.1.1", "198.18.99.2", 0, &more), 0, "one that is there already");
	put(more);
	put(r[1]);
	cr_expect_eq(get("198.18.2.1", "198.18.99.2", 0, &more), 0, "%s", err.text);
	cr_expect_eq(table_lines(), TEST_MAX, "%s", table());
}

/* Where the second route is refused, the first does not stay, nor the slot. */
ROUTE_TEST(half_a_route_is_taken_back)
{
	uint32_t r;

	for (int i = 0; i < 2 * TEST_MAX; i++) {
		cr_expect_lt(get("198.18.1.2", "198.18.99.2", 9999, &r), 0);
		cr_expect_lt(get("fd00:1::2", "fd00:99::2", 9999, &r), 0);
		cr_expect_lt(get("198.18.1.2", "198.18.55.5", dev, &r), 0, "not our address");
	}
	settle();
	cr_expect_str_eq(table(), "");
	cr_expect_eq(get("198.18.1.2", "198.18.99.2", dev, &r), 0, "%s", err.text);
	cr_expect_eq(table_lines(), 2, "%s", table());
}

static void want(const char *client, const char *source)
{
	struct udproute_key key = { .client = addr_of(client),
				    .source = addr_of(source),
				    .ifindex = dev,
				    .table = TEST_TABLE };

	udproutes_want(&routes, &key);
}

/* Those that are wanted are made at once; those that nobody gets are gone again. */
ROUTE_TEST(many_are_made_at_once)
{
	uint32_t r[3], other;

	cr_assert_eq(get("198.18.1.1", "198.18.99.2", dev, &other), 0, "%s", err.text);
	want("198.18.1.1", "198.18.99.2");
	want("198.18.1.2", "198.18.99.2");
	want("198.18.1.2", "198.18.99.2");
	want("198.18.1.3", "198.18.55.5"); /* not our address */
	want("fd00:1::4", "fd00:99::2");
	want("198.18.1.5", "198.18.99.2");
	udproutes_make(&routes);
	cr_expect_eq(table_lines(), 8, "%s", table());
	cr_expect_eq(get("198.18.1.2", "198.18.99.2", dev, &r[0]), 0, "%s", err.text);
	cr_expect_eq(get("fd00:1::4", "fd00:99::2", dev, &r[1]), 0, "%s", err.text);
	cr_expect_lt(get("198.18.1.3", "198.18.55.5", dev, &r[2]), 0);
	udproutes_drop(&routes);
	settle();
	cr_expect(table_lines() == 6 && !strstr(table(), "198.18.1.5"), "%s", table());
	put(r[0]);
	put(r[1]);
	put(other);
	cr_expect_str_eq(table(), "");
}

/* One that goes and comes again at once is there. */
ROUTE_TEST(route_can_come_back_at_once)
{
	uint32_t r;

	cr_assert_eq(get("198.18.1.2", "198.18.99.2", dev, &r), 0, "%s", err.text);
	udproutes_put(&routes, r);
	cr_assert_eq(get("198.18.1.2", "198.18.99.3", dev, &r), 0, "%s", err.text);
	settle();
	cr_expect(table_lines() == 2 && strstr(table(), "src 198.18.99.3"), "%s", table());
}

/* Routes that the kernel has taken away meanwhile, with the device, are no error. */
ROUTE_TEST(routes_may_be_gone_already)
{
	uint32_t r;

	cr_assert_eq(get("198.18.1.2", "198.18.99.2", dev, &r), 0, "%s", err.text);
	run("ip link del eth0");
	put(r);
	cr_expect_str_eq(table(), "");
	cr_assert_eq(get("198.18.1.2", "127.0.0.1", TEST_LO, &r), 0, "%s", err.text);
	run("ip route flush table 4000001");
	put(r);
	cr_expect_eq(get("198.18.1.2", "127.0.0.1", TEST_LO, &r), 0, "%s", err.text);
	cr_expect_eq(table_lines(), 1, "%s", table());
}

/* That the first of the two is gone does not keep the second. */
ROUTE_TEST(second_route_goes_without_the_first)
{
	uint32_t r;

	cr_assert_eq(get("198.18.1.2", "198.18.99.2", dev, &r), 0, "%s", err.text);
	run("ip route del local 198.18.1.2 dev lo table 4000001");
	put(r);
	cr_expect_str_eq(table(), "");
}

/* 0 or -errno of asking, or of the one route. */
static int ask_for(const struct nl_route *r)
{
	uint64_t failed;
	int code, ret = errand_add(errands[0], r, 1, &failed, &code);

	cr_expect_eq(failed & 1, code != 0);
	return ret < 0 ? ret : code;
}

/* What is no route of ours, in no table of ours, the agent does not touch. */
ROUTE_TEST(other_routes_are_refused)
{
	struct nl_route r = { .dst = { .family = AF_INET, .plen = 32, .bytes = { 198, 18, 1, 2 } },
			      .oif = TEST_LO,
			      .table = TEST_TABLE,
			      .protocol = ATTACH_PROTOCOL };

	r.table = TEST_TABLE + 1;
	cr_expect_eq(ask_for(&r), -EPERM);
	r.table = 255; /* local */
	cr_expect_eq(ask_for(&r), -EPERM);
	r.table = TEST_TABLE;
	r.protocol = 2; /* kernel */
	cr_expect_eq(ask_for(&r), -EPERM);
	cr_expect_str_eq(table(), "");
	r.protocol = ATTACH_PROTOCOL;
	cr_expect_eq(ask_for(&r), 0);
	cr_expect_eq(table_lines(), 1, "%s", table());
}

/* Who is not answered is told so, and is not taken in by an answer that comes late. */
ROUTE_TEST(nobody_answers)
{
	struct nl_route r = { .dst = { .family = AF_INET }, .table = 1 };
	struct nl_route good = { .dst = { .family = AF_INET, .plen = 32, .bytes = { 198, 18 } },
				 .oif = TEST_LO,
				 .table = TEST_TABLE,
				 .protocol = ATTACH_PROTOCOL };

	cr_assert(!kill(server, SIGSTOP));
	cr_expect_eq(ask_for(&r), -ETIMEDOUT);
	cr_assert(!kill(server, SIGCONT));
	cr_expect_eq(ask_for(&good), 0);
	cr_assert(!kill(server, SIGKILL));
	cr_expect_lt(ask_for(&good), 0);
}

/* ------------------------------------------------------------ families */

static struct udpfamily family;
static struct source_targets targets;
static struct udpfamily_key key = { .family = ADDR_V4, .port = TEST_PORT, .targets = &targets };

static const uint64_t second = 1000000000ull;

static void family_up(void)
{
	userns_fresh_net();
	run("ip link set lo up");
	targets.addr[ADDR_V4] = addr_loopback4;
	targets.addr[ADDR_V6] = addr_loopback6;
	cr_assert_eq(udpfamily_init(&family, netlink_socket(NETLINK_SOCK_DIAG), 2, &err), 0, "%s",
		     err.text);
}

static void family_down(void)
{
	udpfamily_fini(&family);
}

#define FAMILY_TEST(name)                                                                          \
	Test(udpfamily, name, .init = family_up, .fini = family_down, .timeout = 60)

static int app(const char *ip, uint16_t port, bool v6only)
{
	struct addr a = addr_of(ip);
	struct sockaddr_storage sa;
	socklen_t len;
	int fd = socket(strchr(ip, ':') ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int on = v6only;

	a.port = port;
	len = addr_to_sockaddr_as(&a, strchr(ip, ':'), &sa);
	if (strchr(ip, ':'))
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	cr_assert(!bind(fd, (struct sockaddr *)&sa, len), "%s: %s", ip, strerror(errno));
	return fd;
}

/* The other family is first only if it listens, and the client's does not. */
FAMILY_TEST(other_family_is_first_if_it_alone_listens)
{
	static const struct {
		const char *ip;
		bool v6only;
		bool first; /* for an IPv4 client */
	} v[] = { { "::", true, true },
		  { "::1", true, true },
		  { "::", false, false },
		  { "0.0.0.0", false, false },
		  { "127.0.0.1", false, false } };

	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		int fd = app(v[i].ip, TEST_PORT, v[i].v6only);
		uint64_t now = (i + 1) * 100 * second;

		udpfamily_refused(&family, &key, now);
		cr_expect_eq(udpfamily_other_first(&family, &key, now), v[i].first, "%s", v[i].ip);
		close(fd);
	}
}

/* Nobody, or somebody on another port, is no reason for the other family. */
FAMILY_TEST(nobody_is_no_reason)
{
	int fd = app("::", TEST_PORT + 1, true);

	cr_expect_not(udpfamily_other_first(&family, &key, second));
	udpfamily_refused(&family, &key, second);
	cr_expect_not(udpfamily_other_first(&family, &key, second));
	close(fd);
}

/* It is for the port that was asked about, and for the rule and the client's family. */
FAMILY_TEST(hint_is_of_one_port)
{
	struct udpfamily_key other = key;
	int fd = app("::", TEST_PORT, true);

	udpfamily_refused(&family, &key, second);
	other.port++;
	cr_expect_not(udpfamily_other_first(&family, &other, second));
	other = key;
	other.rule++;
	cr_expect_not(udpfamily_other_first(&family, &other, second));
	other = key;
	other.family = ADDR_V6;
	cr_expect_not(udpfamily_other_first(&family, &other, second));
	cr_expect(udpfamily_other_first(&family, &key, second));
	close(fd);
}

/* When an app has come to the client's own family, that is noticed in time. */
FAMILY_TEST(hint_is_forgotten_when_it_is_wrong)
{
	int v6 = app("::", TEST_PORT, true), v4;

	udpfamily_refused(&family, &key, second);
	cr_expect(udpfamily_other_first(&family, &key, second));
	v4 = app("0.0.0.0", TEST_PORT, false);
	cr_expect(udpfamily_other_first(&family, &key, 2 * second), "it is asked too often");
	cr_expect_not(udpfamily_other_first(&family, &key, 20 * second));
	close(v4);
	close(v6);
}

/* How often the kernel was asked. */
static uint32_t asked(void)
{
	return family.diag.seq;
}

/* A flood of refused datagrams asks now and then only, to however many ports it goes. */
FAMILY_TEST(flood_asks_now_and_then)
{
	struct udpfamily_key other = key;
	uint32_t before;

	udpfamily_refused(&family, &key, second);
	before = asked();
	for (unsigned i = 0; i < 1000; i++) {
		other.port = (uint16_t)(TEST_PORT + i % 5);
		udpfamily_refused(&family, &other, second + i);
	}
	cr_expect_eq(asked(), before, "asked %u times more", asked() - before);
	udpfamily_refused(&family, &key, 2 * second);
	cr_expect_gt(asked(), before);
}

/* Also where the kernel gives no answer: here a socket that cannot be asked. */
FAMILY_TEST(failure_to_ask_is_not_repeated_at_once)
{
	uint32_t before;

	udpfamily_fini(&family);
	cr_assert_eq(udpfamily_init(&family, netlink_socket(NETLINK_ROUTE), 1, &err), 0, "%s",
		     err.text);
	udpfamily_refused(&family, &key, second);
	before = asked();
	for (unsigned i = 0; i < 100; i++)
		udpfamily_refused(&family, &key, second + i);
	cr_expect_eq(asked(), before, "asked %u times more", asked() - before);
	cr_expect_not(udpfamily_other_first(&family, &key, second));
}

/* Without a socket nothing is asked, and the client's family is first. */
FAMILY_TEST(without_a_socket_the_clients_family_is_first)
{
	struct udpfamily none = { .open = false };

	udpfamily_refused(&none, &key, second);
	cr_expect_not(udpfamily_other_first(&none, &key, second));
	udpfamily_fini(&none);
}
