/* SPDX-License-Identifier: Apache-2.0 */
/* A real QUIC client and server, and a client that goes on from another port meanwhile. */

#include "lib.h"

#include <sys/stat.h>

#define BIG (24u << 20)

static char server_key[80], server_cert[80];

static bool installed(const char *path, const char *hint)
{
	if (!access(path, X_OK))
		return true;
	fprintf(stderr, "%s: Debian has it in %s\n", path, hint);
	return false;
}

/* A key and a certificate, for whoever is asked in this test. */
static void make_key(struct world *w)
{
	const char *const argv[] = { "openssl",
				     "req",
				     "-x509",
				     "-newkey",
				     "ec",
				     "-pkeyopt",
				     "ec_paramgen_curve:prime256v1",
				     "-nodes",
				     "-keyout",
				     server_key,
				     "-out",
				     server_cert,
				     "-days",
				     "2",
				     "-subj",
				     "/CN=fwd.test",
				     NULL };
	char out[4096] = "";
	struct proc p;

	snprintf(server_key, sizeof(server_key), "%s/key.pem", w->dir);
	snprintf(server_cert, sizeof(server_cert), "%s/cert.pem", w->dir);
	p = ns_spawn(&w->host, SPAWN_CAPTURE, argv);
	proc_output(&p, out, sizeof(out), 5000);
	cr_assert_eq(proc_wait(p.pid, 1000), 0, "openssl: %s", out);
	cr_assert(!chmod(server_key, 0644));
}

/* Something large to download, and a place for it. */
static void make_files(struct world *w)
{
	static uint8_t data[BIG];
	char path[80];
	FILE *f;

	udp_fill(data, sizeof(data), 7);
	snprintf(path, sizeof(path), "%s/got", w->dir);
	cr_assert(!mkdir(path, 0777) && !chmod(path, 0777));
	snprintf(path, sizeof(path), "%s/big", w->dir);
	f = fopen(path, "we");
	cr_assert(f && fwrite(data, 1, sizeof(data), f) == sizeof(data) && !fclose(f));
	cr_assert(!chmod(path, 0644) && !chmod(w->dir, 0755));
}

static bool downloaded(struct world *w)
{
	static uint8_t data[BIG + 1];
	char path[80];
	size_t n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/got/big", w->dir);
	f = fopen(path, "re");
	if (f) {
		n = fread(data, 1, sizeof(data), f);
		fclose(f);
	}
	return n == BIG && udp_filled(data, BIG, 7);
}

static bool server_is_up(void *arg)
{
	struct world *w = arg;
	int fd = ns_socket(&w->ct, w->v->fam == V4 ? AF_INET : AF_INET6, SOCK_DGRAM);
	bool up = udp_bind(fd, ANY[w->v->fam], 443) == -EADDRINUSE;

	close(fd);
	return up;
}

static void start_server(struct world *w)
{
	const char *const argv[] = { "gtlsserver", "-q",       "-d",	    w->dir, "*",
				     "443",	   server_key, server_cert, NULL };

	ns_spawn(&w->ct, SPAWN_CAPS | SPAWN_CAPTURE, argv);
	cr_assert(eventually(server_is_up, w, 3000), "the server does not start");
}

/* The client goes on from another port a moment after the handshake, with these arguments more. */
static void run_client(struct world *w, const char *first, const char *second)
{
	char url[80], out[8192] = "";
	const char *host = HOST[w->v->fam];
	const char *const argv[] = { "gtlsclient",
				     "-q",
				     "--exit-on-all-streams-close",
				     "--change-local-addr=20ms",
				     first,
				     second,
				     host,
				     "8443",
				     url,
				     NULL };
	struct proc p;

	snprintf(url, sizeof(url), w->v->fam == V4 ? "https://%s/big" : "https://[%s]/big", host);
	p = ns_spawn(&w->client[0], SPAWN_CAPTURE, argv);
	proc_output(&p, out, sizeof(out), 5000);
	cr_expect_eq(proc_wait(p.pid, 1000), 0, "%s\n%s", out, fwd_summary(w));
}

static struct world *quic_up(const struct variant *v)
{
	struct world *w;

	if (!installed("/usr/bin/gtlsclient", "ngtcp2-client") ||
	    !installed("/usr/sbin/gtlsserver", "ngtcp2-server") ||
	    !installed("/usr/bin/openssl", "openssl"))
		cr_skip_test("a QUIC client, a server or openssl is not installed");
	w = world_up(CT_ADDR, v);
	make_key(w);
	make_files(w);
	start_server(w);
	fwd_start(w, ARGS("-u", "8443:443"));
	return w;
}

/* Both ports of the client were seen, and kept. */
static void quic_down(struct world *w)
{
	cr_expect(fwd_counts(w, "2 ever") && fwd_counts(w, "source 2 kept"), "%s", fwd_summary(w));
	world_down(w);
}

/* A client that moves (connection migration) while it downloads gets every byte. */
EACH_VARIANT(udp_quic, migrating_client_is_served, 20)
{
	struct world *w = quic_up(v);
	char got[80];

	snprintf(got, sizeof(got), "--download=%s/got", w->dir);
	run_client(w, got, "--no-preferred-addr");
	cr_expect(downloaded(w), "%s", fwd_summary(w));
	quic_down(w);
}

/* One whose NAT gives it another port, of which it does not know, uploads to the end. */
EACH_VARIANT(udp_quic, rebound_client_is_served, 20)
{
	struct world *w = quic_up(v);
	char big[80];

	snprintf(big, sizeof(big), "--data=%s/big", w->dir);
	run_client(w, big, "--nat-rebinding");
	quic_down(w);
}
