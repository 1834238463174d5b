/* SPDX-License-Identifier: Apache-2.0 */
/* Every way to name a namespace, and every kind that must be refused. */

#include "lib.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

static void expect_error(const struct run *r, const char *text)
{
	cr_expect_eq(r->status, 1, "status %d: %s", r->status, r->out);
	cr_expect(strstr(r->out, "fwd: ") == r->out, "%s", r->out);
	cr_expect_eq(strchr(r->out, '\n'), r->out + strlen(r->out) - 1, "%s", r->out);
	cr_expect(strstr(r->out, text), "no '%s' in: %s", text, r->out);
}

/* Start with @target, and expect the source to be kept through it. */
static void expect_works(struct world *w, struct args target)
{
	int l = tcp_listen(&w->ct, ANY[w->v->fam], 80);
	struct conn c;

	fwd_start_at(w, ARGS("-t", "8080:80"), target);
	c = conn_open(w, 8080, l);
	cr_expect_str_eq(peer_of(c.a), self_of(c.c));
	cr_expect(conn_works(&c));
	conn_close(&c);
	world_down(w);
	close(l);
}

/* --netns takes a process id. */
EACH_ENGINE(join, by_pid_option, 10)
{
	struct world *w = world_up(CT_LO, v);
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", w->ct_pid);
	expect_works(w, ARGS("--netns", pid));
}

/* --netns takes a path in /proc. */
EACH_ENGINE(join, by_proc_path, 10)
{
	struct world *w = world_up(CT_LO, v);
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", w->ct_pid);
	expect_works(w, ARGS("--netns", path));
}

/* --netns takes the path of a bind mount, absolute or relative. */
EACH_ENGINE(join, by_path_of_a_mount, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	char path[64];

	snprintf(path, sizeof(path), "%s/netns", w->dir);
	netns_mount(w, &w->ct, path);
	expect_works(w, ARGS("--netns", path));
}

static int mount_run(void *unused)
{
	(void)unused;
	if (mount("run", "/run", "tmpfs", 0, "mode=755") || mkdir("/run/netns", 0755))
		return -errno;
	return 0;
}

/* --netns takes a name, as "ip netns" does. */
EACH_ENGINE(join, by_name, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	int err = ns_call(&w->host, mount_run, NULL);

	cr_assert(!err, "%s", strerror(-err));
	netns_mount(w, &w->ct, "/run/netns/box");
	expect_works(w, ARGS("--netns", "box"));
}

/* A caller that is already root in the container's user namespace (podman unshare). */
EACH_ENGINE(join, from_inside_the_user_namespace, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	char pid[16];

	w->fwd_in.inner = w->ct.user;
	snprintf(pid, sizeof(pid), "%d", w->ct_pid);
	expect_works(w, ARGS(pid));
}

/* From there into a user namespace below (podman --userns=keep-id). */
EACH_ENGINE(join, from_inside_into_a_nested_user_namespace, 10)
{
	struct world *w = world_up(CT_NESTED, v);
	char pid[16];

	/* The parent of the container's user namespace, as NS_GET_PARENT finds it. */
	w->fwd_in.inner = ns_parent_user(&w->ct);
	snprintf(pid, sizeof(pid), "%d", w->ct_pid);
	expect_works(w, ARGS(pid));
}

/* A caller with all capabilities over the host's namespaces: its root. */
EACH_ENGINE(join, as_root_of_the_host, 10)
{
	struct world *w = world_up(CT_ADDR, v);
	char pid[16];

	w->fwd_flags = SPAWN_CAPS;
	snprintf(pid, sizeof(pid), "%d", w->ct_pid);
	expect_works(w, ARGS(pid));
}

/* As root of the host the namespace may belong to the host's own user namespace. */
EACH_ENGINE(join, root_joins_a_namespace_of_its_own_user_namespace, 10)
{
	struct world *w = world_up(CT_LO, v);
	char path[64];
	struct conn c;
	int l;

	w->fwd_flags = SPAWN_CAPS;
	w->ct = ns_new_net(&w->host);
	ns_ip(&w->ct, "link set lo up\n");
	snprintf(path, sizeof(path), "%s/netns", w->dir);
	netns_mount(w, &w->ct, path);
	l = tcp_listen(&w->ct, "0.0.0.0", 80);
	fwd_start_at(w, ARGS("-t", "8080:80"), ARGS("--netns", path));
	c = conn_open(w, 8080, l);
	cr_expect_str_eq(peer_of(c.a), self_of(c.c));
	world_down(w);
}

/* A namespace that belongs to a user namespace which is not ours is refused. */
EACH_ENGINE(join, namespace_of_the_hosts_root_is_refused, 10)
{
	struct world *w = world_up(CT_LO, v);
	char path[64];
	struct run r;

	snprintf(path, sizeof(path), "%s/netns", w->dir);
	netns_mount(w, &w->client[0], path);
	r = fwd_run(w, ARGS("-t", "8080:80", "--netns", path));
	expect_error(&r, path);
	cr_expect(tcp_refused(&w->client[0], HOST[V4], 8080));
}

/* A process of another user is refused. */
EACH_ENGINE(join, process_of_another_user_is_refused, 10)
{
	pid_t stranger = stranger_start();
	struct world *w = world_up(CT_LO, v);
	char pid[16];
	struct run r;

	if (!stranger)
		cr_skip_test("only root can make a process of another user");
	guard_pid(stranger);
	snprintf(pid, sizeof(pid), "%d", stranger);
	r = fwd_run(w, ARGS("-t", "8080:80", pid));
	expect_error(&r, pid);
	cr_expect(strstr(r.out, "denied") || strstr(r.out, "permitted") ||
			  strstr(r.out, "not yours"),
		  "%s", r.out);
}

/* What is no network namespace is refused by name. */
EACH_ENGINE(join, what_is_no_namespace_is_refused, 10)
{
	struct world *w = world_up(CT_LO, v);
	pid_t gone = fork();
	char text[64];
	struct run r;
	int fd;

	if (gone == 0)
		_exit(0);
	cr_assert_eq(proc_wait(gone, 2000), 0);
	snprintf(text, sizeof(text), "%d", gone);
	r = fwd_run(w, ARGS("-t", "8080", text));
	expect_error(&r, text);

	r = fwd_run(w, ARGS("-t", "8080", "--netns", "no-such-name"));
	expect_error(&r, "no-such-name");
	r = fwd_run(w, ARGS("-t", "8080", "--netns", "/no/such/path"));
	expect_error(&r, "/no/such/path");

	snprintf(text, sizeof(text), "%s/file", w->dir);
	fd = open(text, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	r = fwd_run(w, ARGS("-t", "8080", "--netns", text));
	expect_error(&r, text);

	snprintf(text, sizeof(text), "/proc/%d/ns/uts", w->ct_pid);
	r = fwd_run(w, ARGS("-t", "8080", "--netns", text));
	expect_error(&r, text);
}

struct victim {
	pid_t pid;
	const char *file;
};

static int open_inside(void *arg)
{
	struct victim *v = arg;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", v->pid, v->file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/* Root in the container must not get at the memory, files or root of fwd and its agent. */
EACH_ENGINE(join, containers_root_cannot_open_the_agent, 10)
{
	static const char *const files[] = { "root/", "mem", "fd/", "environ", "cwd/" };
	struct world *w = world_up(CT_LO, v);
	char path[64], children[256], *save = NULL;
	unsigned seen = 0;
	struct victim victim;

	fwd_start(w, ARGS("-t", "8080"));
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", w->fwd, w->fwd);
	cr_assert(read_file(path, children, sizeof(children)) >= 0);
	for (char *t = strtok_r(children, " ", &save); t; t = strtok_r(NULL, " ", &save)) {
		seen++;
		for (unsigned i = 0; i < ARRAY_SIZE(files); i++) {
			int err;

			victim = (struct victim){ atoi(t), files[i] };
			err = ns_call(&w->ct, open_inside, &victim);
			cr_expect(err == -EACCES || err == -EPERM, "agent: %s opens: %d", files[i],
				  err);
		}
	}
	cr_expect_geq(seen, 1, "no agent is seen");
	/* The main process is an ordinary one of the user: its memory and root are what matters. */
	for (unsigned i = 0; i < 2; i++) {
		victim = (struct victim){ w->fwd, files[i] };
		cr_expect_lt(ns_call(&w->ct, open_inside, &victim), 0, "fwd: %s opens", files[i]);
	}
	world_down(w);
}
