/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams arrive as they were sent: their bounds, their bytes, their order, each once. */

#include "lib.h"

#include <poll.h>

#define SIZE_MAX_UDP 65507 /* of IPv4: 65535, without the two headers */

static const size_t sizes[] = { 0, 1, 1472, 0, 9000, 1, SIZE_MAX_UDP, 0 };

static uint8_t buf[65536];

/* One session that is open: the app knows the client. */
struct pair {
	int c, app;
	struct udp_in peer; /* the client, as the app sees it */
};

static struct pair pair;

static struct pair *pair_open(struct world *w)
{
	const struct udp_in *in;

	pair.app = udp_app(&w->ct, ANY[w->v->fam], 80);
	fwd_start(w, ARGS("-u", "8080:80"));
	pair.c = udp_client(&w->client[0], NULL, 0, HOST[w->v->fam], 8080);
	cr_assert(!udp_put(pair.c, NULL, 0, "hello", 5));
	in = udp_get(pair.app, 1000);
	cr_assert(in && in->len == 5, "%s", fwd_log(w));
	pair.peer = *in;
	return &pair;
}

/* The next datagram is @len bytes filled with @seed. */
static void expect_next(int fd, size_t len, unsigned seed)
{
	const struct udp_in *in = udp_get(fd, 1000);

	cr_assert(in, "number %u, of %zu bytes, does not come", seed, len);
	cr_assert_eq(in->len, len, "number %u has %zu bytes, not %zu", seed, in->len, len);
	cr_assert(udp_filled(in->data, len, seed), "number %u, of %zu bytes, is another", seed,
		  len);
}

static void send_to_app(struct pair *p, size_t len, unsigned seed)
{
	udp_fill(buf, len, seed);
	cr_assert(!udp_put(p->c, NULL, 0, buf, len), "%zu: %s", len, strerror(errno));
}

static void send_to_client(struct pair *p, size_t len, unsigned seed)
{
	udp_fill(buf, len, seed);
	cr_assert(!udp_answer(p->app, &p->peer, buf, len), "%zu: %s", len, strerror(errno));
}

/* Every size from none to the largest goes both ways, one at a time. */
EACH_VARIANT(udp_data, every_size_passes, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	struct pair *p = pair_open(w);

	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		send_to_app(p, sizes[i], i);
		expect_next(p->app, sizes[i], i);
		send_to_client(p, sizes[i], i);
		expect_next(p->c, sizes[i], i);
	}
	cr_expect(udp_silent(p->app) && udp_silent(p->c));
	world_down(w);
}

/* In one burst, sizes mixed, they keep their order, and none comes twice. */
EACH_VARIANT(udp_data, burst_of_mixed_sizes_keeps_its_order, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	struct pair *p = pair_open(w);

	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
		send_to_app(p, sizes[i], i);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
		expect_next(p->app, sizes[i], i);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
		send_to_client(p, sizes[i], i);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
		expect_next(p->c, sizes[i], i);
	cr_expect(udp_silent(p->app) && udp_silent(p->c));
	world_down(w);
}

/* Runs of equal sizes, with shorter and empty ones in between, come apart again as they were. */
EACH_VARIANT(udp_data, runs_keep_their_bounds, 10)
{
	static const size_t runs[] = { 100, 100, 100, 50, 100, 100, 101, 101,  0,    0,	   0,
				       7,   7,	 3,   3,  7,   0,   7,	 1400, 1400, 1400, 1,
				       1,   1,	 2,   1,  200, 200, 0,	 200,  200,  199,  200 };
	struct world *w = world_up(CT_ADDR, v);
	struct pair *p = pair_open(w);

	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < ARRAY_SIZE(runs); i++)
			send_to_app(p, runs[i], round + i);
		for (unsigned i = 0; i < ARRAY_SIZE(runs); i++)
			expect_next(p->app, runs[i], round + i);
		for (unsigned i = 0; i < ARRAY_SIZE(runs); i++)
			send_to_client(p, runs[i], round + i);
		for (unsigned i = 0; i < ARRAY_SIZE(runs); i++)
			expect_next(p->c, runs[i], round + i);
	}
	cr_expect(udp_silent(p->app) && udp_silent(p->c));
	world_down(w);
}

/* ---------------------------------------------------------------- segments */

static uint8_t bulk[65536];

/* Send @len bytes in segments, and read them back to back; how many reads that took. */
static unsigned expect_bulk(int from, int to, size_t len, unsigned segment, unsigned seed)
{
	static uint8_t got[65536];
	size_t have = 0;
	unsigned reads = 0;
	int err;

	udp_fill(bulk, len, seed);
	err = udp_put_segments(from, bulk, len, segment);
	cr_assert(err == 0, "%zu bytes by %u: %s", len, segment, strerror(-err));
	while (have < len) {
		const struct udp_in *in = udp_get(to, 1000);
		size_t want = len - have < segment ? len - have : segment;

		cr_assert(in, "%zu of %zu bytes came, by %u", have, len, segment);
		cr_assert(in->len <= len - have);
		if (in->segment)
			cr_assert_eq(in->segment, segment);
		else
			cr_assert_eq(in->len, want, "%zu bytes at %zu, by %u", in->len, have,
				     segment);
		memcpy(got + have, in->data, in->len);
		have += in->len;
		reads++;
	}
	cr_assert(udp_filled(got, len, seed), "%zu bytes by %u are others", len, segment);
	return reads;
}

struct shape {
	size_t len;
	unsigned segment;
};

static const struct shape shapes[] = { { 24000, 1200 }, { 24700, 1200 }, { 1201, 1200 },
				       { 64, 1 },	{ 6400, 100 },	 { 64000, 1400 },
				       { 2800, 1400 },	{ 63, 1 },	 { 60000, 1000 } };

/* Make the app's socket one that is connected to the client, for sending in segments. */
static void pair_connect(struct pair *p)
{
	cr_assert(!sock_connect(p->app, p->peer.ip, p->peer.port));
}

/* What a client sends in segments an app reads one by one; and the other way round. */
EACH_VARIANT(udp_data, segments_come_apart, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	struct pair *p = pair_open(w);

	pair_connect(p);
	for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++) {
		unsigned n = (unsigned)(shapes[i].len + shapes[i].segment - 1) / shapes[i].segment;

		cr_expect_eq(expect_bulk(p->c, p->app, shapes[i].len, shapes[i].segment, i), n);
		cr_expect_eq(expect_bulk(p->app, p->c, shapes[i].len, shapes[i].segment, i), n);
	}
	cr_expect(udp_silent(p->app) && udp_silent(p->c));
	world_down(w);
}

/* Who asks for runs (UDP_GRO) gets them as runs, not one by one. */
EACH_VARIANT(udp_data, segments_stay_together_for_who_asks, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	struct pair *p = pair_open(w);

	pair_connect(p);
	udp_want_gro(p->app);
	udp_want_gro(p->c);
	for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++) {
		unsigned a = expect_bulk(p->c, p->app, shapes[i].len, shapes[i].segment, i);
		unsigned b = expect_bulk(p->app, p->c, shapes[i].len, shapes[i].segment, i);

		cr_expect_leq(a, 2, "%u reads of %zu bytes by %u", a, shapes[i].len,
			      shapes[i].segment);
		cr_expect_leq(b, 2, "%u reads of %zu bytes by %u", b, shapes[i].len,
			      shapes[i].segment);
	}
	world_down(w);
}

/* Segments longer than the way to the client takes are sent one by one, in fragments. */
EACH_VARIANT(udp_data, segments_beyond_the_clients_mtu_arrive, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	struct pair *p = pair_open(w);

	pair_connect(p);
	ns_ip(&w->host, "link set eth0 mtu 1280\n");
	cr_expect_eq(expect_bulk(p->app, p->c, 14000, 1400, 1), 10);
	cr_expect_eq(expect_bulk(p->app, p->c, 14001, 1400, 2), 11);
	cr_expect_eq(expect_bulk(p->app, p->c, 12000, 1200, 3), 10);
	cr_expect(!strstr(fwd_summary(w), "datagrams not sent"), "%s", fwd_summary(w));
	world_down(w);
}

/* The same where it is the way into the container that takes less. */
EACH_VARIANT(udp_data, segments_beyond_the_containers_mtu_arrive, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	struct pair *p;

	ns_ip(&w->ct, "link set lo mtu 1280\n");
	p = pair_open(w);
	cr_expect_eq(expect_bulk(p->c, p->app, 14000, 1400, 1), 10);
	cr_expect_eq(expect_bulk(p->c, p->app, 14001, 1400, 2), 11);
	cr_expect(!strstr(fwd_summary(w), "datagrams not sent"), "%s", fwd_summary(w));
	world_down(w);
}

/* ---------------------------------------------------------------- long flows */

#define FLOW_DATAGRAMS 20000u
#define FLOW_WINDOW    64u

/* One direction of a flow: datagrams with a number each, of changing sizes. */
struct numbered {
	unsigned sent, got;
};

static size_t numbered_size(unsigned i)
{
	return sizeof(i) + (i / 50 % 3 == 0 ? 60 : i / 50 % 3 == 1 ? 1200 : i % 1400);
}

static void numbered_make(unsigned i)
{
	udp_fill(buf, numbered_size(i), i);
	memcpy(buf, &i, sizeof(i));
}

/* Take what is there; every one must be the next. */
static void numbered_take(struct numbered *n, int fd, int timeout_ms)
{
	const struct udp_in *in;

	while (n->got < n->sent && (in = udp_get(fd, timeout_ms))) {
		unsigned i;

		cr_assert_geq(in->len, sizeof(i));
		memcpy(&i, in->data, sizeof(i));
		cr_assert_eq(i, n->got, "number %u comes, %u is the next", i, n->got);
		cr_assert_eq(in->len, numbered_size(i));
		numbered_make(i);
		cr_assert(!memcmp(in->data, buf, in->len), "number %u is another", i);
		n->got++;
		timeout_ms = 0;
	}
}

/* Of 20000 datagrams each way, a few under way at a time, all arrive in order. */
EACH_VARIANT(udp_data, long_flow_loses_nothing, 30)
{
	struct world *w = world_up(CT_ADDR, v);
	struct pair *p = pair_open(w);
	struct numbered in = { 0, 0 }, out = { 0, 0 };
	int64_t progress = now_ms();

	while (in.got < FLOW_DATAGRAMS || out.got < FLOW_DATAGRAMS) {
		unsigned before = in.got + out.got;

		for (; in.sent < FLOW_DATAGRAMS && in.sent < in.got + FLOW_WINDOW; in.sent++) {
			numbered_make(in.sent);
			cr_assert(!udp_put(p->c, NULL, 0, buf, numbered_size(in.sent)));
		}
		for (; out.sent < FLOW_DATAGRAMS && out.sent < out.got + FLOW_WINDOW; out.sent++) {
			numbered_make(out.sent);
			cr_assert(!udp_answer(p->app, &p->peer, buf, numbered_size(out.sent)));
		}
		numbered_take(&in, p->app, 1);
		numbered_take(&out, p->c, 1);
		if (in.got + out.got > before)
			progress = now_ms();
		cr_assert(now_ms() - progress < patient(2000), "stuck: %u of %u and %u of %u\n%s",
			  in.got, in.sent, out.got, out.sent, fwd_summary(w));
	}
	cr_expect(udp_silent(p->app) && udp_silent(p->c));
	cr_expect(fwd_counts(w, "flows 1 now, 1 ever"), "%s", fwd_summary(w));
	world_down(w);
}

/* ---------------------------------------------------------------- many clients */

#define CLIENTS 200u

/* 200 clients ask at once, are answered in another order, and each gets its own answers. */
EACH_VARIANT(udp_data, each_of_200_clients_gets_its_own_answers, 20)
{
	static struct udp_in asked[CLIENTS];
	static int c[CLIENTS];
	struct world *w = world_up(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80);

	fwd_start(w, ARGS("-u", "8080:80"));
	udp_clients(&w->client[0], HOST[v->fam], 8080, c, CLIENTS);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < CLIENTS; i++)
			cr_assert(!sock_put(c[i], &i, sizeof(i)));
		for (unsigned n = 0; n < CLIENTS; n++) {
			const struct udp_in *in = udp_get(app, 2000);
			unsigned i;

			cr_assert(in && in->len == sizeof(i), "%u arrived\n%s", n, fwd_summary(w));
			memcpy(&i, in->data, sizeof(i));
			cr_assert_lt(i, CLIENTS);
			cr_expect_str_eq(endpoint(in->ip, in->port), self_of(c[i]));
			asked[i] = *in;
		}
		for (unsigned i = CLIENTS; i-- > 0;)
			cr_assert(!udp_answer(app, &asked[i], &i, sizeof(i)));
		for (unsigned i = 0; i < CLIENTS; i++) {
			unsigned got = CLIENTS;

			cr_assert_eq(sock_read(c[i], &got, sizeof(got)), sizeof(got), "client %u",
				     i);
			cr_assert_eq(got, i, "client %u gets the answer of %u", i, got);
			cr_expect_eq(sock_next(c[i], 0), -EAGAIN);
		}
	}
	cr_expect(fwd_counts(w, "flows 200 now, 200 ever"), "%s", fwd_summary(w));
	world_down(w);
}
