/* SPDX-License-Identifier: Apache-2.0 */
/* fwd as Podman's rootlessport: what Podman says on standard input, and what it is told. */

#include "lib.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/un.h>

/* The id of a container, in its full length. */
#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* One run, from Podman's side. */
struct rlp {
	struct proc proc;
	int ready; /* what ReadyFD is the other end of */
	int end;   /* and ExitFD */
	char netns[64], tmp[128], socket[256];
};

/* Descriptors that the child gets under their own numbers. */
static int inherited(int fd)
{
	fcntl(fd, F_SETFD, 0);
	return fd;
}

static void put_stdin(const char *text)
{
	int in[2];

	cr_assert(!pipe2(in, O_CLOEXEC));
	cr_assert_eq(write(in[1], text, strlen(text)), (ssize_t)strlen(text));
	close(in[1]);
	dup2(in[0], STDIN_FILENO);
	close(in[0]);
}

/*
 * Start rootlessport as Podman does, with @mappings and with @more, further members. The
 * namespace is a mounted file. Podman reads standard output only, so that is what
 * proc_output() gives.
 */
static struct rlp rlp_spawn(struct world *w, const char *mappings, const char *more)
{
	struct rlp r = { .ready = -1, .end = -1 };
	static const char script[] = "exec \"$0\" 2>/dev/null";
	char link_path[64], text[1024];
	const char *argv[] = { "sh", "-c", script, link_path, NULL };
	int ready[2], end[2];

	snprintf(link_path, sizeof(link_path), "%s/rootlessport", w->dir);
	cr_assert(!symlink(fwd_path(), link_path) || errno == EEXIST);
	snprintf(r.netns, sizeof(r.netns), "%s/netns", w->dir);
	if (access(r.netns, F_OK))
		netns_mount(w, &w->ct, r.netns);
	/* Longer than the path of a socket can be, as Podman's often are. */
	snprintf(r.tmp, sizeof(r.tmp), "%s/%080d", w->dir, 0);
	cr_assert(!mkdir(r.tmp, 0755) || errno == EEXIST);
	snprintf(r.socket, sizeof(r.socket), "%s/rp/" ID, r.tmp);

	cr_assert(!pipe2(ready, O_CLOEXEC) && !pipe2(end, O_CLOEXEC));
	snprintf(text, sizeof(text),
		 "{\"Mappings\":%s,\"NetNSPath\":\"%s\",\"ExitFD\":%d,\"ReadyFD\":%d,"
		 "\"TmpDir\":\"%s\",\"ContainerID\":\"" ID "\"%s}",
		 mappings, r.netns, inherited(end[0]), inherited(ready[1]), r.tmp, more);
	put_stdin(text);
	r.proc = ns_spawn(&w->fwd_in,
			  SPAWN_CAPTURE |
				  (w->v == &epoll_v4 || w->v == &epoll_v6 ? SPAWN_NO_URING : 0),
			  argv);
	close(ready[1]);
	close(end[0]);
	r.ready = ready[0];
	r.end = end[1];
	return r;
}

/* The same, which must become ready. */
static struct rlp rlp_start(struct world *w, const char *mappings, const char *more)
{
	struct rlp r = rlp_spawn(w, mappings, more);
	char text[8] = "", out[512] = "";

	cr_assert_eq(read(r.ready, text, sizeof(text)), 1, "not ready: %s",
		     (proc_output(&r.proc, out, sizeof(out), 1000), out));
	cr_assert_str_eq(text, "1");
	return r;
}

/* Let go of ExitFD, as conmon does when the container ends. */
static void rlp_end(struct rlp *r)
{
	close(r->end);
	close(r->ready);
	cr_expect_eq(proc_wait(r->proc.pid, 3000), 0);
	cr_expect(access(r->socket, F_OK) && errno == ENOENT, "the reload socket is left over");
}

/* Send a message to the reload socket, and read the answer. */
static const char *rlp_reload(const struct rlp *r, const char *message)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	static char answer[256];
	char dir[256];
	ssize_t n;
	int dir_fd;

	snprintf(dir, sizeof(dir), "%s/rp", r->tmp);
	dir_fd = open(dir, O_PATH | O_CLOEXEC);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/" ID, dir_fd);
	cr_assert(!connect(fd, (struct sockaddr *)&sa, sizeof(sa)), "%s", strerror(errno));
	close(dir_fd);
	sock_timeout(fd, 5000);
	cr_assert_eq(send(fd, message, strlen(message), 0), (ssize_t)strlen(message));
	n = recv(fd, answer, sizeof(answer) - 1, 0);
	answer[n > 0 ? n : 0] = 0;
	close(fd);
	return answer;
}

static bool tcp_free(void *arg)
{
	struct world *w = arg;
	int fd = ns_socket(&w->host, AF_INET6, SOCK_STREAM), err = sock_bind(fd, "::", 8080);

	if (!err)
		err = listen(fd, 1);
	close(fd);
	return !err;
}

static const char both[] = "[{\"host_ip\":\"\",\"container_port\":80,\"host_port\":8080,"
			   "\"range\":1,\"protocol\":\"tcp,udp\"}]";

/* TCP and UDP, with the client's address, until ExitFD ends; then the port is free. */
EACH_VARIANT(rootlessport, forwards_with_the_clients_address, 15)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	int app = udp_app(&w->ct, ANY[v->fam], 80);
	struct rlp r = rlp_start(w, both, "");
	struct conn c = conn_open(w, 8080, l);
	int u = udp_client(&w->client[0], CLIENT[v->fam], 0, HOST[v->fam], 8080);

	cr_expect(conn_works(&c));
	cr_expect_str_eq(peer_of(c.a), self_of(c.c));
	cr_expect_str_eq(udp_ask(u, app), self_of(u));
	rlp_end(&r);
	cr_expect(tcp_free(w));
	cr_expect_eq(sock_next(c.c, 1000), -ECONNRESET);
}

/* It is Podman's child, which waits for it: no fork. What it could write to is let go of. */
Test(rootlessport, stays_and_lets_go, .timeout = 10)
{
	struct world *w = world_up(CT_LO, &uring_v4);
	struct rlp r = rlp_start(w, both, "");
	char text[8];

	cr_expect(proc_alive(r.proc.pid));
	cr_expect_eq(read(r.ready, text, sizeof(text)), 0, "ReadyFD is still open");
	cr_expect_eq(read(r.proc.out, text, sizeof(text)), 0, "stdout is still open");
	rlp_end(&r);
}

/* The end of the namespace ends it, too, when Podman unmounts that before conmon is gone. */
Test(rootlessport, ends_with_the_namespace, .timeout = 10)
{
	struct world *w = world_up(CT_LO, &uring_v4);
	struct rlp r = rlp_start(w, both, "");

	netns_unmount(w, r.netns);
	cr_expect_eq(proc_wait(r.proc.pid, 3000), 0);
	cr_expect(tcp_free(w));
}

/* A range leads to a range; an address is listened on alone; range 0 is one port. */
Test(rootlessport, ranges_and_addresses, .timeout = 10)
{
	static const char mappings[] =
		"[{\"host_ip\":\"198.18.1.1\",\"container_port\":80,\"host_port\":8080,\"range\":3,"
		"\"protocol\":\"tcp\"},{\"host_ip\":\"fd00:1::1\",\"container_port\":90,"
		"\"host_port\":9090,\"range\":0,\"protocol\":\"\"}]";
	struct world *w = world_up(CT_ADDR, &uring_v4);
	struct rlp r;

	world_second_client(w);
	r = rlp_start(w, mappings, "");
	for (int i = 0; i < 3; i++) {
		int l = tcp_listen(&w->ct, ANY[V4], 80 + i);
		struct conn c = conn_open(w, 8080 + i, l);

		cr_expect(conn_works(&c), "port %d", 8080 + i);
		conn_close(&c);
	}
	cr_expect(tcp_refused(&w->client[0], HOST[V4], 8083));
	cr_expect(tcp_refused(&w->client[1], HOST_B[V4], 8080));

	int l = tcp_listen(&w->ct, ANY[V6], 90);
	struct conn c = conn_open_from(&w->client[0], NULL, 0, HOST[V6], 9090, l);

	cr_expect(conn_works(&c));
	cr_expect(tcp_refused(&w->client[0], HOST[V4], 9090));
	rlp_end(&r);
}

/* What is wrong is said on standard output in one line, which Podman shows; status 1. */
Test(rootlessport, says_what_is_wrong, .timeout = 20)
{
	static const struct {
		const char *mappings, *more, *text;
	} bad[] = {
		{ "[{\"container_port\":80,\"host_port\":8080,\"protocol\":\"sctp\"}]", "",
		  "port 8080/sctp: only tcp and udp" },
		{ "[{\"container_port\":80,\"host_port\":8080,\"protocol\":\"tcp,\"}]", "",
		  "port 8080/: only tcp and udp" },
		{ "[{\"container_port\":80,\"host_port\":7000}]", "", "tcp port 7000" },
		{ "[{\"host_ip\":\"198.18.1.77\",\"container_port\":80,\"host_port\":8080}]", "",
		  "198.18.1.77" },
		{ "[{\"host_ip\":\"%eth0/80,\",\"container_port\":80,\"host_port\":8080}]", "",
		  "'%eth0/80,' is not an address" },
		{ "[{\"container_port\":80,\"host_port\":0}]", "", "not from 1 to 65535" },
		{ "[{\"container_port\":80,\"host_port\":65535,\"range\":2}]", "",
		  "not from 1 to 65535" },
		{ "[{\"host_port\":8080}]", "", "container_port" },
		{ "[7]", "", "a mapping of Podman's" },
		{ "[", "", "Podman's configuration" },
		{ "[]", ",\"ChildIP\":\"here\"", "ChildIP 'here'" },
		{ "[]", ",\"ExitFD\":999", "ExitFD 999 is not open" },
		{ "[]", ",\"ReadyFD\":0", "ReadyFD 0 is not open" },
		{ "[]", ",\"NetNSPath\":\"\"", "NetNSPath is empty" },
		{ "[]", ",\"NetNSPath\":\"/nonexistent/ns\"", "/nonexistent/ns" },
		{ "[]", ",\"NetNSPath\":7", "Expected string, got integer" },
		{ "[]", ",\"RootlessCNI\":true,\"ContainerID\":\"a/b\"", "ContainerID" },
		{ "[]", ",\"RootlessCNI\":true,\"TmpDir\":\"/nonexistent\"", "/nonexistent" },
	};
	struct world *w = world_up(CT_LO, &uring_v4);

	tcp_listen(&w->host, ANY[V4], 7000);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct rlp r = rlp_spawn(w, bad[i].mappings, bad[i].more);
		char out[1024] = "";

		cr_expect(proc_output(&r.proc, out, sizeof(out), 5000), "%s", bad[i].text);
		cr_expect_eq(proc_wait(r.proc.pid, 2000), 1, "%s", bad[i].text);
		cr_expect(!strncmp(out, "fwd: ", 5), "%s", out);
		cr_expect_eq(strchr(out, '\n'), out + strlen(out) - 1, "%s", out);
		cr_expect(strstr(out, bad[i].text), "no '%s' in: %s", bad[i].text, out);
		close(r.ready);
		close(r.end);
	}
}

/* There are no arguments; a name that only ends like it is another. */
Test(rootlessport, takes_no_arguments, .timeout = 10)
{
	struct world *w = world_up(CT_LO, &uring_v4);
	char path[64];
	struct run r = { .out = "" };
	struct proc p;

	snprintf(path, sizeof(path), "%s/rootlessport", w->dir);
	cr_assert(!symlink(fwd_path(), path));
	put_stdin("{}");
	p = ns_spawn(&w->fwd_in, SPAWN_CAPTURE, ARGS(path, "--version").v);
	cr_assert(proc_output(&p, r.out, sizeof(r.out), 5000));
	cr_expect_eq(proc_wait(p.pid, 1000), 1);
	cr_expect(strstr(r.out, "there are no arguments"), "%s", r.out);

	snprintf(path, sizeof(path), "%s/not-rootlessport", w->dir);
	cr_assert(!symlink(fwd_path(), path));
	r.out[0] = 0;
	p = ns_spawn(&w->fwd_in, SPAWN_CAPTURE, ARGS(path, "--version").v);
	cr_assert(proc_output(&p, r.out, sizeof(r.out), 5000));
	cr_expect_eq(proc_wait(p.pid, 1000), 0);
	cr_expect(strstr(r.out, "fwd "), "%s", r.out);
}

static void more_addresses(struct world *w)
{
	ns_ip(&w->ct, "addr add 198.18.99.20/24 dev eth0\n"
		      "addr add fd00:99::20/64 dev eth0 nodad\n");
}

static const char reloadable[] = ",\"RootlessCNI\":true,\"ChildIP\":\"198.18.99.2\"";

/*
 * A reload leads new connections to the new address, and leaves those that there are. A
 * UDP session, which has no beginning that its client knows of, moves.
 */
EACH_ENGINE(rootlessport, reload_keeps_what_is_open, 15)
{
	struct world *w = world_up(CT_ADDR, v);
	int old_l = tcp_listen(&w->ct, CT[V4], 80);
	int old_u = udp_app(&w->ct, CT[V4], 80);
	struct rlp r;
	struct conn c, d;

	more_addresses(w);
	r = rlp_start(w, both, reloadable);
	c = conn_open(w, 8080, old_l);
	int u = udp_client(&w->client[0], CLIENT[V4], 0, HOST[V4], 8080);

	cr_expect_str_eq(udp_ask(u, old_u), self_of(u));
	int new_l = tcp_listen(&w->ct, "198.18.99.20", 80);
	int new_u = udp_app(&w->ct, "198.18.99.20", 80);

	cr_expect_str_eq(rlp_reload(&r, "\"198.18.99.20\"\n"), "OK");
	d = conn_open(w, 8080, new_l);
	cr_expect_str_eq(peer_of(d.a), self_of(d.c));
	cr_expect(conn_works(&d));
	cr_expect(conn_works(&c), "the old connection was lost");
	cr_expect_str_eq(udp_ask(u, new_u), self_of(u));

	/* Back; then to one that the container does not have: what it has counts. */
	cr_expect_str_eq(rlp_reload(&r, "\"198.18.99.2\""), "OK");
	conn_close(&d);
	d = conn_open(w, 8080, old_l);
	cr_expect_str_eq(rlp_reload(&r, "\"198.18.77.7\""), "OK");
	conn_close(&d);
	d = conn_open(w, 8080, old_l);
	cr_expect(conn_works(&d));
	cr_expect(conn_works(&c));
	rlp_end(&r);
}

/* ChildIP is preferred from the start, among the addresses of its family. */
Test(rootlessport, child_ip_is_preferred, .timeout = 15)
{
	struct world *w = world_up(CT_ADDR, &uring_v4);
	int l = tcp_listen(&w->ct, ANY[V6], 80);
	struct rlp r;
	struct conn c;

	more_addresses(w);
	r = rlp_start(w, both, ",\"ChildIP\":\"198.18.99.20\"");
	c = conn_open(w, 8080, l);
	cr_expect(strstr(self_of(c.a), "198.18.99.20:"), "%s", self_of(c.a));
	cr_expect_str_eq(peer_of(c.a), self_of(c.c));
	conn_close(&c);
	c = conn_open_from(&w->client[0], NULL, 0, HOST[V6], 8080, l);
	cr_expect_str_eq(peer_of(c.a), self_of(c.c));
	rlp_end(&r);
}

/* The address that is preferred goes: the next one is used, and it again when it is back. */
Test(rootlessport, preferred_address_may_go_and_come, .timeout = 15)
{
	struct world *w = world_up(CT_ADDR, &uring_v4);
	int l = tcp_listen(&w->ct, ANY[V4], 80);
	struct rlp r;
	struct conn c;

	more_addresses(w);
	r = rlp_start(w, both, ",\"RootlessCNI\":true,\"ChildIP\":\"198.18.99.20\"");
	c = conn_open(w, 8080, l);
	cr_expect(strstr(self_of(c.a), "198.18.99.20:"), "%s", self_of(c.a));
	conn_close(&c);
	ns_ip(&w->ct, "addr del 198.18.99.20/24 dev eth0\n");
	/* As Podman does after "network disconnect"; and what that answers to is in order. */
	cr_expect_str_eq(rlp_reload(&r, "\"198.18.99.2\"\n"), "OK");
	c = conn_open(w, 8080, l);
	cr_expect(strstr(self_of(c.a), "198.18.99.2:"), "%s", self_of(c.a));
	conn_close(&c);
	ns_ip(&w->ct, "addr add 198.18.99.20/24 dev eth0\n");
	cr_expect_str_eq(rlp_reload(&r, "\"198.18.99.20\"\n"), "OK");
	c = conn_open(w, 8080, l);
	cr_expect(strstr(self_of(c.a), "198.18.99.20:"), "%s", self_of(c.a));
	rlp_end(&r);
}

/* What is no address is answered with what is wrong; a client that says nothing is no harm. */
Test(rootlessport, reload_refuses_junk, .timeout = 15)
{
	struct world *w = world_up(CT_ADDR, &uring_v4);
	int l = tcp_listen(&w->ct, ANY[V4], 80);
	struct rlp r = rlp_start(w, both, reloadable);
	char big[4096];
	struct stat st;
	struct conn c;

	cr_assert(!stat(r.socket, &st) && S_ISSOCK(st.st_mode));
	cr_expect_str_eq(rlp_reload(&r, "\"here\""), "not an address");
	cr_expect_str_eq(rlp_reload(&r, "198.18.99.2"), "not a JSON string");
	cr_expect_str_eq(rlp_reload(&r, "{}"), "not a JSON string");
	memset(big, '"', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	cr_expect_str_eq(rlp_reload(&r, big), "too long");
	cr_expect_str_eq(rlp_reload(&r, "\"\""), "OK");
	cr_expect_str_eq(rlp_reload(&r, ""), "");

	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	cr_assert(!chdir(r.tmp));
	strcpy(sa.sun_path, "rp/" ID);
	cr_assert(!connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	c = conn_open(w, 8080, l);
	cr_expect(conn_works(&c));
	rlp_end(&r);
}

/* A reload socket that one that was killed has left is replaced. */
Test(rootlessport, leftover_socket_is_replaced, .timeout = 15)
{
	struct world *w = world_up(CT_ADDR, &uring_v4);
	struct rlp r = rlp_start(w, both, reloadable);

	kill(r.proc.pid, SIGKILL);
	cr_assert_eq(proc_wait(r.proc.pid, 3000), WAIT_SIGNAL + SIGKILL);
	cr_expect(!access(r.socket, F_OK));
	cr_assert(eventually(tcp_free, w, 2000));
	r = rlp_start(w, both, reloadable);
	cr_expect_str_eq(rlp_reload(&r, "\"198.18.99.2\"\n"), "OK");
	rlp_end(&r);
}
