/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lib_ns.c - namespaces and the network between them
 *
 * The user namespace that owns clients and host maps our uid to 1000, not to
 * 0: a process in there has every capability until it executes something. So
 * "ip" is run with ambient capabilities, and fwd without any, which makes it
 * what it is in life: an ordinary user who owns the container but not the
 * host's network.
 *
 * A user namespace is made by a forked child. Everything else that needs to be
 * inside one happens in a child that shares our memory and descriptors
 * (ns_call()), so a socket or namespace opened there is simply ours.
 */

#include "lib.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/nsfs.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define NOBODY	   65534
#define CALL_STACK (256 * 1024)

const struct variant uring_v4 = { "io_uring", V4 };
const struct variant uring_v6 = { "io_uring", V6 };
const struct variant epoll_v4 = { "epoll", V4 };
const struct variant epoll_v6 = { "epoll", V6 };

const char *const HOST[2] = { "198.18.1.1", "fd00:1::1" };
const char *const HOST_B[2] = { "198.18.2.1", "fd00:2::1" };
const char *const CLIENT[2] = { "198.18.1.2", "fd00:1::2" };
const char *const CLIENT2[2] = { "198.18.1.3", "fd00:1::3" };
const char *const CLIENT_B[2] = { "198.18.2.2", "fd00:2::2" };
const char *const CT[2] = { "198.18.99.2", "fd00:99::2" };
const char *const LOOP[2] = { "127.0.0.1", "::1" };
const char *const ANY[2] = { "0.0.0.0", "::" };
const char *const NEIGHBOUR[2] = { "198.18.99.3", "fd00:99::3" };
const char *const BRIDGE[2] = { "198.18.99.1", "fd00:99::1" };
const char *const DUMMY[2] = { "192.0.0.8", "100:0:0:1::1" };

static struct world the_world = {
	.host = { -1, -1, -1, 0 },
	.client = { { -1, -1, -1, 0 }, { -1, -1, -1, 0 } },
	.mid = { -1, -1, -1, 0 },
	.ct = { -1, -1, -1, 0 },
};

/* ------------------------------------------------------------ being inside */

int ns_enter(const struct ns *ns)
{
	if (ns->user >= 0 && setns(ns->user, CLONE_NEWUSER))
		return -errno;
	if (ns->mnt >= 0 && setns(ns->mnt, CLONE_NEWNS))
		return -errno;
	if (ns->net >= 0 && setns(ns->net, CLONE_NEWNET))
		return -errno;
	if (ns->inner > 0 && setns(ns->inner, CLONE_NEWUSER))
		return -errno;
	return 0;
}

struct call {
	const struct ns *ns;
	int (*fn)(void *arg);
	void *arg;
	int ret;
};

static int call_main(void *data)
{
	struct call *c = data;

	c->ret = ns_enter(c->ns);
	if (!c->ret)
		c->ret = c->fn(c->arg);
	return 0;
}

int ns_call(const struct ns *ns, int (*fn)(void *arg), void *arg)
{
	static char stack[CALL_STACK] __attribute__((aligned(16)));
	struct call c = { ns, fn, arg, -EIO };
	pid_t pid = clone(call_main, stack + sizeof(stack),
			  CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, &c);

	cr_assert(pid > 0, "clone: %s", strerror(errno));
	waitpid(pid, NULL, 0);
	return c.ret;
}

struct socket_args {
	int family, type;
	int *fds;
	unsigned n;
};

static int sockets_inside(void *arg)
{
	struct socket_args *a = arg;

	for (unsigned i = 0; i < a->n; i++) {
		a->fds[i] = socket(a->family, a->type | SOCK_CLOEXEC, 0);
		if (a->fds[i] < 0)
			return -errno;
	}
	return 0;
}

void ns_sockets(const struct ns *ns, int family, int type, int *fds, unsigned n)
{
	struct socket_args a = { family, type, fds, n };
	int err = ns_call(ns, sockets_inside, &a);

	cr_assert(err == 0, "socket: %s", strerror(-err));
}

int ns_socket(const struct ns *ns, int family, int type)
{
	int fd = -1;

	ns_sockets(ns, family, type, &fd, 1);
	return fd;
}

int ns_parent_user(const struct ns *ns)
{
	int fd = ioctl(ns->user, NS_GET_PARENT);

	cr_assert(fd >= 0, "NS_GET_PARENT: %s", strerror(errno));
	return fd;
}

static int ifindex_inside(void *name)
{
	int index = (int)if_nametoindex(name);

	return index ? index : -errno;
}

int ns_ifindex(const struct ns *ns, const char *name)
{
	int index = ns_call(ns, ifindex_inside, (void *)(uintptr_t)name);

	cr_assert(index > 0, "%s: %s", name, strerror(-index));
	return index;
}

struct sysctl_args {
	const char *path, *value;
};

static int sysctl_inside(void *arg)
{
	struct sysctl_args *a = arg;
	char path[128];

	snprintf(path, sizeof(path), "/proc/sys/%s", a->path);
	return write_file(path, a->value);
}

int ns_sysctl(const struct ns *ns, const char *path, const char *value)
{
	struct sysctl_args a = { path, value };

	return ns_call(ns, sysctl_inside, &a);
}

/* ------------------------------------------------------------ making them */

static int new_net_inside(void *unused)
{
	(void)unused;
	if (unshare(CLONE_NEWNET))
		return -errno;

	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

struct ns ns_new_net(const struct ns *ns)
{
	struct ns ret = *ns;

	ret.net = ns_call(ns, new_net_inside, NULL);
	cr_assert(ret.net >= 0, "unshare: %s", strerror(-ret.net));
	return ret;
}

/* In a child: become the first process of a user namespace that maps us to @id. */
static int user_unshare(int id, int more)
{
	char map[64];
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int err;

	if (unshare(CLONE_NEWUSER | more))
		return -errno;
	snprintf(map, sizeof(map), "%d %u 1", id, uid);
	err = write_file("/proc/self/uid_map", map);
	if (!err)
		err = write_file("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "%d %u 1", id, gid);
	return err ? err : write_file("/proc/self/gid_map", map);
}

static int open_ns(pid_t pid, const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert(fd >= 0, "%s: %s", path, strerror(errno));
	return fd;
}

struct start {
	const struct ns *parent;
	int id;	     /* what our uid is inside */
	int more;    /* CLONE_* beside the user namespace */
	bool nested; /* another user namespace in between */
};

/* The child of ns_start(): tell how it went, then sleep until killed. */
_Noreturn static void start_child(const struct start *s, int ready)
{
	int err = ns_enter(s->parent);

	if (!err && s->nested)
		err = user_unshare(0, 0);
	if (!err)
		err = user_unshare(s->id, s->more);
	if (!err && (s->more & CLONE_NEWNS) && mount("", "/", NULL, MS_SLAVE | MS_REC, NULL))
		err = -errno;
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* last: a change of credentials clears it */
	if (write(ready, &err, sizeof(err)) != sizeof(err))
		_exit(1);
	close(ready);
	for (;;)
		pause();
}

/* Fork a process that sleeps in new namespaces; its pid, or -errno. */
static pid_t ns_start(const struct start *s)
{
	int pipefd[2], err = -EPIPE;
	pid_t pid;

	cr_assert(!pipe2(pipefd, O_CLOEXEC));
	pid = fork();
	cr_assert(pid >= 0);
	if (pid == 0) {
		close(pipefd[0]);
		start_child(s, pipefd[1]);
	}
	close(pipefd[1]);
	if (read(pipefd[0], &err, sizeof(err)) != sizeof(err))
		err = -EPIPE;
	close(pipefd[0]);
	if (err) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return err;
	}
	return pid;
}

/* What every namespace gets: cubic, and no waiting for duplicate addresses. */
static int basics_inside(void *unused)
{
	(void)unused;
	/* Where cubic is not allowed the tests run with what there is. */
	write_file("/proc/sys/net/ipv4/tcp_congestion_control", "cubic");
	write_file("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
	write_file("/proc/sys/net/ipv6/conf/all/accept_dad", "0");
	write_file("/proc/sys/net/ipv6/conf/default/router_solicitations", "0");
	return 0;
}

/* ------------------------------------------------------------ the network */

void ns_ip(const struct ns *ns, const char *script)
{
	static const char *const argv[] = { "ip", "-batch", "-", NULL };
	int in[2];
	struct proc p;
	char out[2048] = "";
	int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);

	cr_assert(!pipe2(in, O_CLOEXEC));
	cr_assert(write(in[1], script, strlen(script)) == (ssize_t)strlen(script));
	close(in[1]);
	dup2(in[0], STDIN_FILENO);
	close(in[0]);
	p = ns_spawn(ns, SPAWN_CAPS | SPAWN_CAPTURE, argv);
	dup2(saved, STDIN_FILENO);
	close(saved);
	proc_output(&p, out, sizeof(out), 5000);
	cr_assert(proc_wait(p.pid, 5000) == 0, "ip: %s\n%s", out, script);
}

/* Without what the kernel does for IPv6 by itself, some time after a link is up. */
void ns_routing(const struct ns *ns, char *buf, size_t size)
{
	static const char script[] =
		"ip rule; ip -6 rule; ip -4 route show table all;"
		"ip -6 route show table all | sed '/ proto kernel /d; s/ expires [^ ]*//'";
	static const char *const argv[] = { "sh", "-c", script, NULL };
	struct proc p = ns_spawn(ns, SPAWN_CAPS | SPAWN_CAPTURE, argv);

	buf[0] = 0;
	cr_assert(proc_output(&p, buf, size, 5000));
	cr_assert(proc_wait(p.pid, 5000) == 0, "%s", buf);
}

/* A veth pair: @name in @a, @peer in @b. */
static void veth(const struct ns *a, const char *name, const struct ns *b, const char *peer)
{
	char script[256];
	int fd = dup(b->net); /* not close-on-exec: for ip */

	snprintf(script, sizeof(script),
		 "link add %s type veth peer name %s netns /proc/self/fd/%d\n", name, peer, fd);
	ns_ip(a, script);
	close(fd);
}

static void make_client(struct world *w, int n)
{
	static const char host_side[] = "link set lo up\n"
					"addr add 198.18.%d.1/24 dev eth%d\n"
					"addr add fd00:%d::1/64 dev eth%d nodad\n"
					"link set eth%d up\n";
	static const char client_side[] = "link set lo up\n"
					  "addr add 198.18.%d.2/24 dev eth0\n"
					  "addr add 198.18.%d.3/24 dev eth0\n"
					  "addr add fd00:%d::2/64 dev eth0 nodad\n"
					  "addr add fd00:%d::3/64 dev eth0 nodad preferred_lft 0\n"
					  "link set eth0 up\n"
					  "route add default via 198.18.%d.1\n"
					  "route add default via fd00:%d::1\n";
	char script[1024], name[16];
	int net = n + 1;

	w->client[n] = ns_new_net(&w->host);
	ns_call(&w->client[n], basics_inside, NULL);
	snprintf(name, sizeof(name), "eth%d", n);
	veth(&w->host, name, &w->client[n], "eth0");
	snprintf(script, sizeof(script), host_side, net, n, net, n, n);
	ns_ip(&w->host, script);
	snprintf(script, sizeof(script), client_side, net, net, net, net, net, net);
	ns_ip(&w->client[n], script);
}

void world_second_client(struct world *w)
{
	make_client(w, 1);
}

static void make_ct(struct world *w, enum ct_kind kind)
{
	static const char up[] = "link set lo up\n";
	static const char eth0[] = "link set lo up\n"
				   "addr add 198.18.99.2/24 dev eth0\n"
				   "addr add fd00:99::2/64 dev eth0 nodad\n"
				   "link set eth0 up\n"
				   "route add default via 198.18.99.1 dev eth0\n"
				   "route add default via fd00:99::1 dev eth0\n";
	static const char bridge[] = "link set lo up\n"
				     "link add br0 type bridge\n"
				     "link set ct0 master br0\n"
				     "addr add 198.18.99.1/24 dev br0\n"
				     "addr add fd00:99::1/64 dev br0 nodad\n"
				     "link set ct0 up\n"
				     "link set br0 up\n";
	/* An own address needs a device; the far end of the pair stays unused. */
	static const char alone[] = "link add eth0 type veth peer name far\nlink set far up\n";
	struct start s = { &w->host, 0, CLONE_NEWNET, kind == CT_NESTED };

	w->ct_pid = ns_start(&s);
	cr_assert(w->ct_pid > 0, "container: %s", strerror(-w->ct_pid));
	guard_pid(w->ct_pid);
	w->ct = (struct ns){ open_ns(w->ct_pid, "user"), -1, open_ns(w->ct_pid, "net"), 0 };
	ns_call(&w->ct, basics_inside, NULL);

	switch (kind) {
	case CT_LO:
	case CT_NESTED:
		ns_ip(&w->ct, up);
		break;
	case CT_ADDR:
		ns_ip(&w->ct, alone);
		ns_ip(&w->ct, eth0);
		break;
	case CT_BRIDGE:
		w->mid = ns_new_net(&w->ct);
		ns_call(&w->mid, basics_inside, NULL);
		veth(&w->mid, "ct0", &w->ct, "eth0");
		ns_ip(&w->mid, bridge);
		ns_ip(&w->ct, eth0);
		break;
	}
}

struct ns world_neighbour(struct world *w)
{
	static const char own[] = "link set lo up\n"
				  "addr add 198.18.99.3/24 dev eth0\n"
				  "addr add fd00:99::3/64 dev eth0 nodad\n"
				  "link set eth0 up\n";
	struct ns n = ns_new_net(&w->mid);

	ns_call(&n, basics_inside, NULL);
	veth(&w->mid, "ct1", &n, "eth0");
	ns_ip(&w->mid, "link set ct1 master br0\nlink set ct1 up\n");
	ns_ip(&n, own);
	return n;
}

/* ------------------------------------------------------------ up and down */

/* Root only prepares what needs root, then is nobody for good. */
static void become_user(void)
{
	if (geteuid() == 0) {
		/* New namespaces may use a congestion control only if it is allowed here. */
		write_file("/proc/sys/net/ipv4/tcp_allowed_congestion_control", "reno cubic bbr");
		cr_assert(!setgroups(0, NULL));
		cr_assert(!setresgid(NOBODY, NOBODY, NOBODY));
		cr_assert(!setresuid(NOBODY, NOBODY, NOBODY));
	}
	prctl(PR_SET_DUMPABLE, 1);	  /* or nobody could not even see our namespaces */
	prctl(PR_SET_CHILD_SUBREAPER, 1); /* so that a daemon is our child, and can be waited for */
}

struct world *world_up(enum ct_kind kind, const struct variant *v)
{
	struct world *w = &the_world;
	struct start s = { &w->host, 1000, CLONE_NEWNS | CLONE_NEWNET, false };
	pid_t pid;

	signal(SIGPIPE, SIG_IGN);
	fwd_path();
	become_user();
	w->v = v;
	snprintf(w->dir, sizeof(w->dir), "/tmp/fwd-test.XXXXXX");
	cr_assert(mkdtemp(w->dir), "mkdtemp: %s", strerror(errno));
	guard_start(w->dir);

	pid = ns_start(&s);
	if (pid == -EPERM || pid == -ENOSPC || pid == -EACCES)
		cr_skip_test("no user namespaces for this user: %s", strerror(-pid));
	cr_assert(pid > 0, "user namespace: %s", strerror(-pid));
	w->host = (struct ns){ open_ns(pid, "user"), open_ns(pid, "mnt"), open_ns(pid, "net"), 0 };
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ns_call(&w->host, basics_inside, NULL);

	w->fwd_in = w->host;

	make_client(w, 0);
	make_ct(w, kind);
	return w;
}

static const struct ns nowhere = { -1, -1, -1, 0 };

pid_t stranger_start(void)
{
	struct start s = { &nowhere, 0, CLONE_NEWNET, false };
	int other = NOBODY - 1;
	pid_t pid;

	if (geteuid() != 0)
		return 0;
	/* Only the effective ids, and back: the child alone is to be someone else. */
	cr_assert(!setresgid(-1, other, -1) && !setresuid(-1, other, -1));
	prctl(PR_SET_DUMPABLE, 1);
	pid = ns_start(&s);
	cr_assert(!setresuid(-1, 0, -1) && !setresgid(-1, 0, -1));
	cr_assert(pid > 0, "stranger: %s", strerror(-pid));
	return pid;
}

struct mount_args {
	const char *from, *to;
};

static int mount_inside(void *arg)
{
	struct mount_args *a = arg;
	int fd = open(a->to, O_CREAT | O_RDONLY | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	close(fd);
	return mount(a->from, a->to, NULL, MS_BIND, NULL) ? -errno : 0;
}

void netns_mount(struct world *w, const struct ns *what, const char *path)
{
	char from[64];
	struct mount_args a = { from, path };
	int err;

	snprintf(from, sizeof(from), "/proc/self/fd/%d", what->net);
	err = ns_call(&w->host, mount_inside, &a);
	cr_assert(err == 0, "bind mount at %s: %s", path, strerror(-err));
}

static int unmount_inside(void *path)
{
	return umount2(path, MNT_DETACH) || unlink(path) ? -errno : 0;
}

void netns_unmount(struct world *w, const char *path)
{
	int err = ns_call(&w->host, unmount_inside, (void *)(uintptr_t)path);

	cr_assert(err == 0, "unmount %s: %s", path, strerror(-err));
}
