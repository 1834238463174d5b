/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real tunnel (WireGuard in user space) whose server is in the container and whose
 * client is outside; what it carries, and what becomes of it when the client moves.
 */

#include "lib.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define MIB (1u << 20)

#define IN_CT	  "198.19.0.1" /* in the tunnel */
#define IN_CLIENT "198.19.0.2"

/* One end of the tunnel: a process that keeps it, and does what is asked by signals. */
struct end_of_tunnel {
	struct proc p;
	char said[16384];
};

static struct end_of_tunnel server, client;

/*
 * Where only root may open /dev/net/tun (a minimal system; elsewhere everybody may, as
 * tun(4) suggests), root gives the test a node of its own, in a mount namespace.
 */
static void open_tun_to_all(void)
{
	if (getuid() != 0 || unshare(CLONE_NEWNS) ||
	    mount("", "/", NULL, MS_PRIVATE | MS_REC, NULL))
		return;
	if (mount("none", "/dev/net", "tmpfs", 0, "mode=0755"))
		return;
	if (mknod("/dev/net/tun", S_IFCHR | 0666, makedev(10, 200)) == 0)
		chmod("/dev/net/tun", 0666);
}

static bool have_all(void)
{
	static const char *const programs[] = { "/usr/bin/wireguard-go", "/usr/bin/wg",
						"/usr/bin/unshare" };

	for (unsigned i = 0; i < ARRAY_SIZE(programs); i++)
		if (access(programs[i], X_OK))
			return false;
	return true;
}

/* Read what it says until it has said @text; false after patient(3000) ms. */
static bool says(struct end_of_tunnel *e, const char *text)
{
	int64_t end = now_ms() + patient(3000);
	size_t len = strlen(e->said);

	while (!strstr(e->said, text)) {
		struct pollfd p = { e->p.out, POLLIN, 0 };
		ssize_t n = 0;

		if (now_ms() < end && poll(&p, 1, (int)(end - now_ms())) == 1)
			n = read(e->p.out, e->said + len, sizeof(e->said) - len - 1);
		if (n <= 0)
			return false;
		len += (size_t)n;
		e->said[len] = 0;
	}
	return true;
}

/* Forget what it has said, and ask by @sig; it answers with a line that has @text. */
static bool asked(struct end_of_tunnel *e, int sig, const char *text)
{
	e->said[0] = 0;
	return kill(e->p.pid, sig) == 0 && says(e, text);
}

/*
 * /run/wireguard must be writable, so each end has a /run of its own. USR1: which
 * endpoint the peer has. USR2: take another port.
 */
static const char script[] =
	"set -e; cd $1; me=$2; other=$3; port=$4; next=$5; ip=$6; peer=$7; endpoint=$8;"
	"mount -t tmpfs none /run; mkdir /run/wireguard;"
	"wireguard-go -f wg0 & "
	"while ! [ -S /run/wireguard/wg0.sock ]; do kill -0 $!; sleep 0.02; done;"
	"wg set wg0 listen-port $port private-key $me.key peer $(cat $other.pub)"
	" allowed-ips $peer/32 ${endpoint:+endpoint $endpoint};"
	"ip addr add $ip/32 dev wg0; ip link set wg0 up; ip route add $peer/32 dev wg0;"
	"trap 'wg show wg0 endpoints' USR1;"
	"trap 'wg set wg0 listen-port $next; echo moved' USR2;"
	"echo ready $!; while :; do wait || :; done";

static void start_end(struct world *w, struct end_of_tunnel *e, const struct ns *ns,
		      const char *const args[7])
{
	const char *const argv[] = { "unshare", "--mount", "sh",    "-c",    script,
				     "end",	w->dir,	   args[0], args[1], args[2],
				     args[3],	args[4],   args[5], args[6], NULL };

	e->said[0] = 0;
	e->p = ns_spawn(ns, SPAWN_CAPS | SPAWN_CAPTURE, argv);
	cr_assert(says(e, "ready ") && says(e, "\n"), "%s", e->said);
	guard_pid(atoi(strstr(e->said, "ready ") + 6));
}

static void make_keys(struct world *w)
{
	static const char make[] = "umask 022; cd $1; for k in server client; do "
				   "wg genkey >$k.key; wg pubkey <$k.key >$k.pub; done";
	const char *const argv[] = { "sh", "-c", make, "keys", w->dir, NULL };
	char out[1024] = "";
	struct proc p;

	cr_assert(!chmod(w->dir, 0755));
	p = ns_spawn(&w->host, SPAWN_CAPTURE, argv);
	proc_output(&p, out, sizeof(out), 5000);
	cr_assert_eq(proc_wait(p.pid, 1000), 0, "%s", out);
}

/* Can the container have a tun device at all? */
static bool has_tun(struct world *w)
{
	const char *const argv[] = { "ip", "tuntap", "add", "dev", "probe", "mode", "tun", NULL };
	const char *const undo[] = { "ip", "tuntap", "del", "dev", "probe", "mode", "tun", NULL };
	struct proc p = ns_spawn(&w->ct, SPAWN_CAPS | SPAWN_CAPTURE, argv);
	bool ok = proc_wait(p.pid, 2000) == 0;

	if (ok) {
		p = ns_spawn(&w->ct, SPAWN_CAPS | SPAWN_CAPTURE, undo);
		ok = proc_wait(p.pid, 2000) == 0;
	}
	return ok;
}

/* The client sends from @port. */
static struct world *tunnel_up(const struct variant *v, const char *port)
{
	char to[80];
	const char *const at_server[] = {
		"server", "client", "51820", "51820", IN_CT, IN_CLIENT, ""
	};
	const char *const at_client[] = { "client", "server", port, "40000", IN_CLIENT, IN_CT, to };
	struct world *w;

	if (!have_all())
		cr_skip_test("WireGuard is not installed (Debian: wireguard-go, wireguard-tools)");
	open_tun_to_all();
	w = world_up(CT_ADDR, v);
	if (!has_tun(w))
		cr_skip_test("this user cannot open /dev/net/tun");
	make_keys(w);
	snprintf(to, sizeof(to), "%s", endpoint(HOST[v->fam], 51820));
	start_end(w, &server, &w->ct, at_server);
	fwd_start(w, ARGS("-d", "-u", "51820"));
	start_end(w, &client, &w->client[0], at_client);
	return w;
}

static struct conn connect_through(struct world *w)
{
	int l = tcp_listen(&w->ct, IN_CT, 7);
	struct conn c = conn_open_from(&w->client[0], NULL, 0, IN_CT, 7, l);

	close(l);
	return c;
}

/* Bytes go both ways through the tunnel, by TCP, which notices each that is lost. */
static void expect_traffic(struct world *w, struct conn *c)
{
	struct stream s[] = { { .from = c->c, .to = c->a, .total = 4 * MIB },
			      { .from = c->a, .to = c->c, .total = 4 * MIB } };

	cr_assert(streams_run(s, 2, 15000), "%s", fwd_summary(w));
}

struct known {
	const char *ip;
	int port;
};

/* The server has the client at this address and port; it is told by what comes from there. */
static bool is_known(void *arg)
{
	struct known *k = arg;

	return asked(&server, SIGUSR1, "\n") && strstr(server.said, endpoint(k->ip, k->port));
}

static void expect_known(const char *ip, int port)
{
	struct known k = { ip, port };

	cr_expect(eventually(is_known, &k, 3000), "it knows %s", server.said);
}

struct move {
	struct conn *c;
	struct known k;
};

/* What comes in at the old address makes WireGuard send from there again: then look anew. */
static bool has_moved(void *arg)
{
	struct move *m = arg;

	cr_assert(asked(&client, SIGUSR2, "moved"), "%s", client.said);
	return passes(m->c->c, m->c->a, "word") && is_known(&m->k);
}

/* Let the client send from its other address. */
static void move_client(struct world *w, struct conn *c)
{
	struct move m = { c, { CLIENT2[w->v->fam], 40000 } };

	ns_ip(&w->client[0], "route replace 198.18.1.1/32 dev eth0 src 198.18.1.3\n"
			     "addr del fd00:1::2/64 dev eth0\n");
	cr_expect(eventually(has_moved, &m, 5000), "it knows %s", server.said);
}

/* A tunnel carries TCP both ways, and goes on when the client's port and address change. */
EACH_VARIANT(udp_wireguard, tunnel_outlives_the_clients_moves, 30)
{
	struct world *w = tunnel_up(v, "50000");
	struct conn c = connect_through(w);

	expect_traffic(w, &c);
	expect_known(CLIENT[v->fam], 50000);
	cr_assert(asked(&client, SIGUSR2, "moved"), "%s", client.said);
	expect_traffic(w, &c);
	expect_known(CLIENT[v->fam], 40000);
	move_client(w, &c);
	expect_traffic(w, &c);
	expect_known(CLIENT2[v->fam], 40000);
	cr_expect(fwd_counts(w, "3 ever") && fwd_counts(w, "source 3 kept"), "%s", fwd_summary(w));
	world_down(w);
}

/* With the tunnel's own port at both ends the port cannot be kept: it works, and that is said. */
EACH_VARIANT(udp_wireguard, same_port_at_both_ends_works, 20)
{
	struct world *w = tunnel_up(v, "51820");
	struct conn c = connect_through(w);

	expect_traffic(w, &c);
	cr_expect(asked(&server, SIGUSR1, CLIENT[v->fam]), "%s", server.said);
	cr_expect(fwd_counts(w, "1 port changed"), "%s", fwd_summary(w));
	cr_expect(fwd_log_has(w, "warning: "), "%s", fwd_log(w));
	world_down(w);
}
