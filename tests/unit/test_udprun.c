/* SPDX-License-Identifier: Apache-2.0 */
/* Runs: what joins, and what arrives, also where the kernel refuses segments. */
#include "fwd/udprun.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "util.h"

static struct udprun run;
static struct bufs bufs;
static uint8_t bytes[65536];
static int app, from; /* @from is connected to @app */
static uint16_t port; /* of @app */

static int bound(uint16_t *ret_port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(sa);

	cr_assert_geq(fd, 0);
	cr_assert(!bind(fd, (struct sockaddr *)&sa, len));
	cr_assert(!getsockname(fd, (struct sockaddr *)&sa, &len));
	*ret_port = ntohs(sa.sin_port);
	return fd;
}

static void connect_to(int fd, uint16_t to)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_port = htons(to),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	cr_assert(!connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
}

static void up(void)
{
	uint16_t ignored;
	struct err err;

	run = (struct udprun){ 0 };
	cr_assert_eq(bufs_init(&bufs, 80, 4096, &err), 0, "%s", err.text);
	app = bound(&port);
	from = bound(&ignored);
	connect_to(from, port);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + (i >> 8));
}

static void down(void)
{
	udprun_clear(&run, &bufs);
	cr_expect_eq(run.n, 0);
	cr_expect_eq(bufs.n_free, bufs.n_ready, "a buffer has leaked");
	bufs_fini(&bufs);
	close(app);
	close(from);
}

#define RUN_TEST(name) Test(udprun, name, .init = up, .fini = down, .timeout = 10)

static struct dgram dgram(uint32_t len, uint32_t segment)
{
	return (struct dgram){ .data = bytes, .len = len, .segment = segment };
}

/* Add it, or say that it does not join. */
static bool add(uint32_t len, uint32_t segment)
{
	struct dgram d = dgram(len, segment);

	if (!udprun_joins(&run, &d))
		return false;
	udprun_add(&run, &d, bufs_get(&bufs));
	return true;
}

static unsigned send_run(int *ret_code)
{
	struct udprun_out o = { .fd = from };

	return udprun_send(&run, &o, ret_code);
}

static void expect_arrival(size_t len)
{
	static uint8_t got[65536];
	ssize_t n = recv(app, got, sizeof(got), 0);

	cr_assert_eq(n, (ssize_t)len, "%zd bytes, %zu expected", n, len);
}

static void expect_nothing_more(void)
{
	char byte;

	cr_expect(recv(app, &byte, 1, 0) < 0 && errno == EAGAIN);
}

/* ---------------------------------------------------------------- what joins */

/* The segments of a datagram are counted, the last though it is shorter. */
RUN_TEST(segments_are_counted)
{
	static const struct {
		uint32_t len, segment;
		unsigned want;
	} v[] = { { 0, 0, 1 },	    { 1, 0, 1 },      { 65507, 0, 1 },
		  { 1000, 500, 2 }, { 1001, 500, 3 }, { 501, 500, 2 } };

	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		struct dgram d = dgram(v[i].len, v[i].segment);

		cr_expect_eq(udprun_segments(&d), v[i].want, "%u by %u", v[i].len, v[i].segment);
	}
}

/* Whatever it is, it can begin a run. */
RUN_TEST(anything_begins_a_run)
{
	static const uint32_t sizes[] = { 0, 1, 65507 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		cr_expect(add(sizes[i], 0), "%u bytes", sizes[i]);
		udprun_clear(&run, &bufs);
	}
	cr_expect(add(65000, 10), "more segments than a run has");
}

/* After an empty one nothing joins, and an empty one joins nothing. */
RUN_TEST(empty_one_is_alone)
{
	cr_assert(add(0, 0));
	cr_expect_not(add(0, 0));
	cr_expect_not(add(10, 0));
	udprun_clear(&run, &bufs);
	cr_assert(add(10, 0));
	cr_expect_not(add(0, 0));
}

/* A run that is cleared begins anew, with another size. */
RUN_TEST(cleared_run_begins_anew)
{
	cr_assert(add(100, 0) && add(50, 0));
	cr_expect_not(add(100, 0));
	udprun_clear(&run, &bufs);
	cr_expect(add(200, 0) && add(200, 0));
	cr_expect_eq(run.segments, 2);
	cr_expect_eq(run.bytes, 400);
}

/* ---------------------------------------------------------------- sending */

/* What was put together comes apart, in order. */
RUN_TEST(run_comes_apart)
{
	int code = -1;

	cr_assert(add(100, 0) && add(300, 100) && add(50, 0));
	cr_expect_eq(send_run(&code), 0);
	cr_expect_eq(code, 0);
	for (int i = 0; i < 4; i++)
		expect_arrival(100);
	expect_arrival(50);
	expect_nothing_more();
}

/* One empty datagram is one. */
RUN_TEST(empty_one_is_sent)
{
	int code;

	cr_assert(add(0, 0));
	cr_expect_eq(send_run(&code), 0);
	expect_arrival(0);
	expect_nothing_more();
}

/* Where the kernel takes no segments (EIO: no checksums), each is sent alone. */
RUN_TEST(refused_segments_are_sent_one_by_one)
{
	int on = 1, code = -1;

	cr_assert(!setsockopt(from, SOL_SOCKET, SO_NO_CHECK, &on, sizeof(on)));
	cr_assert(add(100, 0) && add(300, 100) && add(170, 100));
	cr_expect_eq(send_run(&code), 0);
	for (int i = 0; i < 5; i++)
		expect_arrival(100);
	expect_arrival(70);
	expect_nothing_more();
}

/* More segments than the kernel takes (EINVAL), likewise: none is lost. */
RUN_TEST(too_many_segments_are_sent_one_by_one)
{
	int code = -1;

	cr_assert(add(1500, 10));
	cr_expect_eq(send_run(&code), 0);
	for (int i = 0; i < 150; i++)
		expect_arrival(10);
	expect_nothing_more();
}

/* What no send can carry has failed, once for each datagram, with the reason. */
RUN_TEST(what_cannot_be_sent_is_counted)
{
	int code = 0;

	cr_assert(add(65535, 0)); /* more than IPv4 has room for */
	cr_expect_eq(send_run(&code), 1);
	cr_expect_eq(code, EMSGSIZE);
	udprun_clear(&run, &bufs);
	close(from);
	from = -1;
	cr_assert(add(100, 0) && add(100, 0) && add(100, 0));
	cr_expect_eq(send_run(&code), 3);
	cr_expect_eq(code, EBADF);
}

/* An error that an earlier datagram came back with does not cost the next one. */
RUN_TEST(error_of_an_earlier_one_costs_nothing)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int code = -1;

	close(app);
	cr_assert(add(100, 0));
	cr_expect_eq(send_run(&code), 0); /* refused, which the next call is told */
	app = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	cr_assert(!bind(app, (struct sockaddr *)&sa, sizeof(sa)));
	cr_expect_eq(send_run(&code), 0);
	cr_expect_eq(code, 0);
	expect_arrival(100);
	expect_nothing_more();
}

/* By a listener it goes to whom it is for, from the address that it is said to. */
RUN_TEST(listener_sends_from_the_address_that_was_asked)
{
	struct sockaddr_in sa = { .sin_family = AF_INET }, peer;
	struct addr local = addr_from_bytes((uint8_t[]){ 127, 0, 0, 9 }, 4);
	struct addr to = addr_loopback4;
	socklen_t len = sizeof(peer);
	struct udprun_out o;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), code;

	cr_assert(!bind(fd, (struct sockaddr *)&sa, sizeof(sa)));
	to.port = port;
	udprun_out_listener(&o, fd, false, &local, &to);
	cr_assert(add(20, 0) && add(20, 0));
	cr_expect_eq(udprun_send(&run, &o, &code), 0);
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(recvfrom(app, bytes, sizeof(bytes), 0, (struct sockaddr *)&peer, &len),
			     20);
		cr_expect_eq(peer.sin_addr.s_addr, htonl(0x7f000009));
	}
	expect_nothing_more();
	close(fd);
}

/* So does an IPv6 one that takes IPv4, too. */
RUN_TEST(dual_stack_listener_sends_ipv4)
{
	struct sockaddr_in6 sa = { .sin6_family = AF_INET6 };
	struct addr local = addr_from_bytes((uint8_t[]){ 127, 0, 0, 9 }, 4);
	struct addr to = addr_loopback4;
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);
	struct udprun_out o;
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), code;

	if (fd < 0)
		cr_skip_test("this kernel has no IPv6");
	cr_assert(!bind(fd, (struct sockaddr *)&sa, sizeof(sa)));
	to.port = port;
	udprun_out_listener(&o, fd, true, &local, &to);
	cr_assert(add(40, 20));
	cr_expect_eq(udprun_send(&run, &o, &code), 0);
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(recvfrom(app, bytes, sizeof(bytes), 0, (struct sockaddr *)&peer, &len),
			     20);
		cr_expect_eq(peer.sin_addr.s_addr, htonl(0x7f000009));
	}
	close(fd);
}
