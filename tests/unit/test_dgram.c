/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams in buffers: what the kernel puts there, taken apart. */
#include "fwd/dgram.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util.h"

#ifndef UDP_GRO
#	define UDP_GRO 104
#endif

/* As struct io_uring_recvmsg_out. */
struct head {
	uint32_t namelen, controllen, payloadlen, flags;
};

static _Alignas(64) uint8_t buf[DGRAM_SIZE];

static struct head *head(void)
{
	return (struct head *)buf;
}

/* An empty buffer, with @len bytes of payload said to be in it. */
static void start(uint32_t len)
{
	memset(buf, 0xa5, sizeof(buf));
	*head() = (struct head){ .payloadlen = len };
}

static void put_name(const void *sa, size_t len)
{
	memcpy(buf + sizeof(struct head), sa, len);
	head()->namelen = (uint32_t)len;
}

static void put_name4(const char *ip, uint16_t port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(port) };

	inet_pton(AF_INET, ip, &sa.sin_addr);
	put_name(&sa, sizeof(sa));
}

static void put_name6(const char *ip, uint16_t port, uint32_t scope)
{
	struct sockaddr_in6 sa = { .sin6_family = AF_INET6,
				   .sin6_port = htons(port),
				   .sin6_scope_id = scope };

	inet_pton(AF_INET6, ip, &sa.sin6_addr);
	put_name(&sa, sizeof(sa));
}

static void put_control(int level, int type, const void *data, size_t len)
{
	uint8_t *at = buf + sizeof(struct head) + DGRAM_NAME + head()->controllen;
	struct cmsghdr c = { .cmsg_len = CMSG_LEN(len), .cmsg_level = level, .cmsg_type = type };

	memcpy(at, &c, sizeof(c));
	memcpy(at + CMSG_LEN(0), data, len);
	head()->controllen += (uint32_t)CMSG_SPACE(len);
}

static void put_gro(int segment)
{
	put_control(IPPROTO_UDP, UDP_GRO, &segment, sizeof(segment));
}

static void put_pktinfo4(const char *ip, int ifindex)
{
	struct in_pktinfo p = { .ipi_ifindex = ifindex };

	inet_pton(AF_INET, ip, &p.ipi_addr);
	p.ipi_spec_dst = p.ipi_addr;
	put_control(IPPROTO_IP, IP_PKTINFO, &p, sizeof(p));
}

static void put_pktinfo6(const char *ip, unsigned ifindex)
{
	struct in6_pktinfo p = { .ipi6_ifindex = ifindex };

	inet_pton(AF_INET6, ip, &p.ipi6_addr);
	put_control(IPPROTO_IPV6, IPV6_PKTINFO, &p, sizeof(p));
}

static void expect_addr(const struct addr *a, const char *want)
{
	char text[ADDR_STRLEN];

	cr_expect_str_eq(addr_str(a, text), want);
}

/* The sender and the payload of an IPv4 datagram are found. */
Test(dgram, ipv4_sender_is_found, .timeout = 5)
{
	struct dgram d;

	start(5);
	put_name4("198.18.1.2", 4000);
	cr_assert(dgram_parse(buf, false, &d));
	expect_addr(&d.from, "198.18.1.2:4000");
	cr_expect_eq(d.len, 5);
	cr_expect_eq(d.segment, 0);
	cr_expect_eq(d.data, buf + sizeof(struct head) + DGRAM_NAME + DGRAM_CONTROL);
}

/* So are those of IPv6, with the scope of a link-local address. */
Test(dgram, ipv6_sender_is_found, .timeout = 5)
{
	struct dgram d;

	start(0);
	put_name6("fe80::2", 4000, 7);
	cr_assert(dgram_parse(buf, false, &d));
	cr_expect_eq(d.from.scope, 7);
	cr_expect_eq(d.from.port, 4000);
	cr_expect_eq(d.from.ip[15], 2);
	cr_expect_eq(d.len, 0);
}

/* An IPv4 sender at a dual-stack socket is the same as at an IPv4 one. */
Test(dgram, mapped_sender_is_ipv4, .timeout = 5)
{
	struct dgram d;

	start(1);
	put_name6("::ffff:198.18.1.2", 4000, 0);
	cr_assert(dgram_parse(buf, false, &d));
	expect_addr(&d.from, "198.18.1.2:4000");
}

/* Without a sender there is no datagram, unless the socket is connected. */
Test(dgram, sender_is_needed_but_for_connected_sockets, .timeout = 5)
{
	struct sockaddr sa = { .sa_family = AF_UNIX };
	struct dgram d;

	start(3);
	put_name(&sa, sizeof(sa));
	cr_expect_not(dgram_parse(buf, false, &d));
	cr_expect(dgram_parse(buf, true, &d));
	cr_expect_eq(d.len, 3);
	put_name4("198.18.1.2", 4000);
	head()->namelen = DGRAM_NAME + 1; /* the kernel had more than there was room for */
	cr_expect_not(dgram_parse(buf, false, &d));
}

/* Nor is there one from the address of those who have none: its answer would stay here. */
Test(dgram, unspecified_sender_is_none, .timeout = 5)
{
	struct dgram d;

	start(3);
	put_name4("0.0.0.0", 4000);
	cr_expect_not(dgram_parse(buf, false, &d));
	put_name6("::", 4000, 0);
	cr_expect_not(dgram_parse(buf, false, &d));
	put_name6("::ffff:0.0.0.0", 4000, 0);
	cr_expect_not(dgram_parse(buf, false, &d));
}

/* The address that the datagram was sent to comes from pktinfo, of either family. */
Test(dgram, local_address_is_found, .timeout = 5)
{
	struct dgram d;

	start(1);
	put_name4("198.18.1.2", 4000);
	put_pktinfo4("198.18.1.1", 3);
	cr_assert(dgram_parse(buf, false, &d));
	expect_addr(&d.local, "198.18.1.1:0");
	cr_expect_eq(d.ifindex, 3);

	start(1);
	put_name6("fd00::2", 4000, 0);
	put_pktinfo6("fd00::1", 4);
	cr_assert(dgram_parse(buf, false, &d));
	expect_addr(&d.local, "[fd00::1]:0");
	cr_expect_eq(d.ifindex, 4);
}

/* Of IPv4 at a dual-stack socket both kinds of pktinfo come, in either order. */
Test(dgram, local_address_is_found_at_a_dual_stack_socket, .timeout = 5)
{
	struct dgram d;

	for (int i = 0; i < 2; i++) {
		start(1);
		put_name6("::ffff:198.18.1.2", 4000, 0);
		if (i == 0)
			put_pktinfo6("::ffff:198.18.1.1", 5);
		put_pktinfo4("198.18.1.1", 5);
		if (i == 1)
			put_pktinfo6("::ffff:198.18.1.1", 5);
		cr_assert(dgram_parse(buf, false, &d));
		expect_addr(&d.local, "198.18.1.1:0");
		cr_expect_eq(d.ifindex, 5);
		cr_expect_not(d.group);
	}
}

/* What was sent to a group has an address of the host to be answered from, or any. */
Test(dgram, group_is_told_from_an_address, .timeout = 5)
{
	struct in_pktinfo p = { .ipi_ifindex = 3 };
	struct dgram d;

	inet_pton(AF_INET, "198.18.1.255", &p.ipi_addr);
	inet_pton(AF_INET, "198.18.1.1", &p.ipi_spec_dst);
	start(1);
	put_name4("198.18.1.2", 4000);
	put_control(IPPROTO_IP, IP_PKTINFO, &p, sizeof(p));
	cr_assert(dgram_parse(buf, false, &d));
	cr_expect(d.group);
	expect_addr(&d.local, "198.18.1.1:0");

	start(1);
	put_name6("fe80::2", 4000, 7);
	put_pktinfo6("ff02::1", 7);
	cr_assert(dgram_parse(buf, false, &d));
	cr_expect(d.group);
	cr_expect(addr_is_any(&d.local));
	cr_expect_eq(d.ifindex, 7);
}

/* What came before IP_PKTINFO was set has its destination alone: that is the address. */
Test(dgram, early_datagram_has_its_destination, .timeout = 5)
{
	struct in_pktinfo p = { 0 };
	struct dgram d;

	inet_pton(AF_INET, "198.18.1.1", &p.ipi_addr);
	start(1);
	put_name4("198.18.1.2", 4000);
	put_control(IPPROTO_IP, IP_PKTINFO, &p, sizeof(p));
	cr_assert(dgram_parse(buf, false, &d));
	cr_expect(!d.group);
	expect_addr(&d.local, "198.18.1.1:0");
}

/* The size of segments is found, before or behind other control messages. */
Test(dgram, segment_is_found, .timeout = 5)
{
	struct dgram d;

	start(24000);
	put_name4("198.18.1.2", 4000);
	put_pktinfo4("198.18.1.1", 3);
	put_gro(1200);
	cr_assert(dgram_parse(buf, false, &d));
	cr_expect_eq(d.segment, 1200);
	expect_addr(&d.local, "198.18.1.1:0");

	start(24001);
	put_gro(1200);
	cr_assert(dgram_parse(buf, true, &d));
	cr_expect_eq(d.segment, 1200);
	cr_expect_eq(d.len, 24001);
}

/* One segment alone is a plain datagram: it may join others that are as long. */
Test(dgram, one_segment_is_a_plain_datagram, .timeout = 5)
{
	static const int segments[] = { 1200, 1201, 65535 };
	struct dgram d;

	for (size_t i = 0; i < ARRAY_SIZE(segments); i++) {
		start(1200);
		put_gro(segments[i]);
		cr_assert(dgram_parse(buf, true, &d));
		cr_expect_eq(d.segment, 0, "segments of %d", segments[i]);
	}
	start(0);
	put_gro(0);
	cr_assert(dgram_parse(buf, true, &d));
	cr_expect_eq(d.segment, 0);
}

/* Control messages of other kinds are passed over. */
Test(dgram, other_control_messages_are_passed_over, .timeout = 5)
{
	uint64_t stamp = 1;
	struct dgram d;

	start(10);
	put_name4("198.18.1.2", 4000);
	put_control(SOL_SOCKET, SO_TIMESTAMP, &stamp, sizeof(stamp));
	put_control(IPPROTO_IPV6, UDP_GRO, &stamp, sizeof(stamp));
	put_control(IPPROTO_UDP, IP_PKTINFO, &stamp, sizeof(stamp));
	put_gro(5);
	cr_assert(dgram_parse(buf, false, &d));
	cr_expect_eq(d.segment, 5);
	cr_expect_eq(d.ifindex, 0);
}

/* ---------------------------------------------------------------- receiving */

/* A bound socket, a sender that is connected to it, and buffers. */
struct rig {
	int fd, sender;
	struct bufs bufs;
	struct dgram_batch batch;
};

static struct rig rig;

static void rig_up(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	struct err err;
	int on = 1;

	rig.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	rig.sender = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	cr_assert(!bind(rig.fd, (struct sockaddr *)&sa, len));
	cr_assert(!getsockname(rig.fd, (struct sockaddr *)&sa, &len));
	cr_assert(!connect(rig.sender, (struct sockaddr *)&sa, len));
	cr_assert(!setsockopt(rig.fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)));
	cr_assert_eq(bufs_init(&rig.bufs, 48, DGRAM_SIZE, &err), 0, "%s", err.text);
	dgram_batch_init(&rig.batch);
}

static void rig_down(void)
{
	dgram_batch_fini(&rig.batch, &rig.bufs);
	cr_expect_eq(rig.bufs.n_free, rig.bufs.n_ready, "%u buffers have leaked",
		     rig.bufs.n_ready - rig.bufs.n_free);
	bufs_fini(&rig.bufs);
	close(rig.fd);
	close(rig.sender);
}

static void rig_send(unsigned i, size_t len)
{
	char data[2000];

	memset(data, (int)i, sizeof(data));
	cr_assert_eq(send(rig.sender, data, len, 0), (ssize_t)len);
}

/* Take buffer @i of the batch: it has @len bytes of number @n, and who sent them where. */
static buf_id rig_take(unsigned i, unsigned n, size_t len)
{
	buf_id id = rig.batch.buf[i];
	struct dgram d;

	rig.batch.buf[i] = BUF_NONE;
	cr_assert(dgram_parse(bufs_data(&rig.bufs, id), false, &d));
	cr_expect_eq(d.len, len);
	cr_expect(len == 0 || (d.data[0] == (uint8_t)n && d.data[len - 1] == (uint8_t)n));
	cr_expect(addr_is_loopback(&d.from) && addr_is_loopback(&d.local) && d.from.port > 0);
	return id;
}

/* One call takes what is there, with its bounds, its order and the empty ones. */
Test(dgram, batch_has_what_is_there, .init = rig_up, .fini = rig_down, .timeout = 5)
{
	static const size_t sizes[] = { 1, 0, 1472, 0, 3, 2000 };

	cr_expect_eq(dgram_receive(&rig.batch, &rig.bufs, rig.fd), -EAGAIN);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
		rig_send(i, sizes[i]);
	cr_assert_eq(dgram_receive(&rig.batch, &rig.bufs, rig.fd), ARRAY_SIZE(sizes));
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
		bufs_put(&rig.bufs, rig_take(i, i, sizes[i]));
	cr_expect_eq(dgram_receive(&rig.batch, &rig.bufs, rig.fd), -EAGAIN);
}

/* More than a batch comes in several, in order. */
Test(dgram, more_than_a_batch_comes_in_several, .init = rig_up, .fini = rig_down, .timeout = 5)
{
	unsigned seen = 0;

	for (unsigned i = 0; i < DGRAM_BATCH * 2 + 5; i++)
		rig_send(i, 10);
	for (int n; (n = dgram_receive(&rig.batch, &rig.bufs, rig.fd)) > 0;)
		for (int i = 0; i < n; i++)
			bufs_put(&rig.bufs, rig_take((unsigned)i, seen++, 10));
	cr_expect_eq(seen, DGRAM_BATCH * 2 + 5);
}

/* With few buffers left it takes that many, and with none it says so and loses nothing. */
Test(dgram, without_buffers_datagrams_wait, .init = rig_up, .fini = rig_down, .timeout = 5)
{
	buf_id held[128];
	unsigned n_held = 0, seen = 0, sent = rig.bufs.max + 20;
	int n;

	cr_assert_leq(rig.bufs.max, ARRAY_SIZE(held));
	for (unsigned i = 0; i < sent; i++)
		rig_send(i, 10);
	while ((n = dgram_receive(&rig.batch, &rig.bufs, rig.fd)) > 0)
		for (int i = 0; i < n; i++)
			held[n_held++] = rig_take((unsigned)i, seen++, 10);
	cr_expect_eq(n, -ENOBUFS);
	cr_expect_eq(n_held, rig.bufs.max);
	while (n_held > 0)
		bufs_put(&rig.bufs, held[--n_held]);
	while ((n = dgram_receive(&rig.batch, &rig.bufs, rig.fd)) > 0)
		for (int i = 0; i < n; i++)
			bufs_put(&rig.bufs, rig_take((unsigned)i, seen++, 10));
	cr_expect_eq(n, -EAGAIN);
	cr_expect_eq(seen, sent);
}
