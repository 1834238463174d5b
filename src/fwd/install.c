/* SPDX-License-Identifier: Apache-2.0 */
/*
 * install.c - have fwd started by Podman, for one user
 *
 * Podman looks for its helpers in the directories of helper_binaries_dir, and takes the
 * first file of the right name. So there is a directory of ours with nothing in it but a
 * link of that name, and a drop-in file for containers.conf(5) which names it before the
 * directories that Podman has built in: a list that is set replaces that one. If fwd is
 * removed the link leads nowhere, and Podman goes on to its own.
 *
 * It reads hooks from all directories of hooks_dir, in the same way: ours has nothing in it
 * but a file that names fwd. If fwd is removed, containers with its annotation do not start.
 *
 * Podman merges no lists that older versions could read. So where another file sets the
 * list nothing is written, and the user is told what to write there.
 */
#include "fwd/install.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util.h"

/* What can be installed; directories are below the home directory. */
struct install_kind {
	const char *key;	 /* of containers.conf(5): a list of directories */
	const char *const *dirs; /* what is in it if nobody sets it */
	const char *dir, *file;	 /* ours, and what is in it */
	const char *drop_in;	 /* our file for Podman */
	const char *mark;	 /* its first line */
	const char *for_root;	 /* what to say to root */
	const char *done;	 /* and when all is done */
	bool link;		 /* @file is a link to this program; else it names it */
};

static const struct install_kind install_rootlessport = {
	.key = "helper_binaries_dir",
	.dirs = (const char *const[]){ "/usr/local/libexec/podman", "/usr/local/lib/podman",
				       "/usr/libexec/podman", "/usr/lib/podman", NULL },
	.dir = ".local/lib/fwd/podman",
	.file = "rootlessport",
	.drop_in = "fwd.conf",
	.mark = "# Made by \"fwd install-podman\"; \"fwd install-podman --undo\" removes it.\n",
	.for_root = "Podman uses rootlessport for rootless containers only",
	.done = "containers that run go on as they are; from their next start on, they use fwd",
	.link = true,
};

static const struct install_kind install_hook = {
	.key = "hooks_dir",
	.dirs = (const char *const[]){ "/usr/share/containers/oci/hooks.d", NULL },
	.dir = ".local/lib/fwd/hooks.d",
	.file = "fwd.json",
	.drop_in = "fwd-hook.conf",
	.mark = "# Made by \"fwd install-podman --hook\"; \"fwd install-podman --hook --undo\" "
		"removes it.\n",
	.for_root = "for all users, put docs/examples/hooks.d/fwd.json into "
		    "/usr/share/containers/oci/hooks.d",
	.done = "containers with the annotation fwd.publish use it from their next start on",
};

/* The file of a hook, around the path of the program. */
static const char install_hook_head[] = "{\n"
					"  \"version\": \"1.0.0\",\n"
					"  \"hook\": {\n"
					"    \"path\": \"";
static const char install_hook_tail[] = "\",\n"
					"    \"args\": [\"fwd\", \"hook\"]\n"
					"  },\n"
					"  \"when\": {\n"
					"    \"annotations\": {\n"
					"      \"^fwd\\\\.publish$\": \".+\"\n"
					"    }\n"
					"  },\n"
					"  \"stages\": [\"createRuntime\", \"poststop\"]\n"
					"}\n";

struct install {
	const struct install_kind *kind;
	bool dry_run;
	char exe[PATH_MAX];	   /* this program */
	char home[PATH_MAX / 4];   /* of the user */
	char config[PATH_MAX / 2]; /* ~/.config/containers */
	char dir[PATH_MAX / 2];	   /* ours */
	char file[PATH_MAX];	   /* what is in there */
	char drop_in[PATH_MAX];	   /* our file for Podman */
};

static const char install_usage[] =
	"Usage: fwd install-podman [--hook] [--undo] [--dry-run]\n"
	"\n"
	"Let Podman use fwd as its rootlessport, for this user: for ports published (-p) by\n"
	"rootless containers on bridge networks. Containers started from then on see their\n"
	"clients' addresses. With --hook: let it use fwd as a hook, for containers that have\n"
	"the annotation fwd.publish.\n"
	"\n"
	"  --hook      as a hook, instead\n"
	"  --undo      take it back\n"
	"  --dry-run   only print what would be done\n"
	"  -h, --help  print this\n";

/* One line for each step. */
static void __attribute__((format(printf, 2, 3)))
install_say(const struct install *in, const char *fmt, ...)
{
	va_list ap;

	if (in->dry_run)
		fputs("would ", stdout);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

/* ---------------------------------------------------------------- where */

/* Root of the machine, not of a container. */
static bool install_is_root(void)
{
	char map[256];
	unsigned inside, outside, n;

	return geteuid() == 0 && read_file("/proc/self/uid_map", map, sizeof(map)) > 0 &&
	       sscanf(map, "%u %u %u", &inside, &outside, &n) == 3 && outside == 0 &&
	       n == UINT32_MAX;
}

static int install_find_home(struct install *in, struct err *err)
{
	const char *home = getenv("HOME");

	if (!home || !*home) {
		const struct passwd *pw = getpwuid(geteuid());

		home = pw ? pw->pw_dir : "";
	}
	/* Both go into a file of Podman's. */
	if (*home != '/' || strlen(home) >= sizeof(in->home) || strpbrk(home, "\"\\\n"))
		return err_set(err, EINVAL, "home directory '%s' cannot be used", home);
	memcpy(in->home, home, strlen(home) + 1);
	return 0;
}

static int install_find(struct install *in, struct err *err)
{
	const char *config = getenv("XDG_CONFIG_HOME");
	ssize_t n = readlink("/proc/self/exe", in->exe, sizeof(in->exe) - 1);
	int ret;

	if (n < 0)
		return err_sys(err, errno, "/proc/self/exe");
	in->exe[n] = '\0';
	if (!in->kind->link && strpbrk(in->exe, "\"\\\n"))
		return err_set(err, EINVAL, "path '%s' of fwd cannot be used", in->exe);
	if (install_is_root())
		return err_set(err, EPERM, "run this as the user whose containers are meant: %s",
			       in->kind->for_root);
	ret = install_find_home(in, err);
	if (ret < 0)
		return ret;
	if (config && *config)
		snprintf(in->config, sizeof(in->config), "%s/containers", config);
	else
		snprintf(in->config, sizeof(in->config), "%s/.config/containers", in->home);
	snprintf(in->dir, sizeof(in->dir), "%s/%s", in->home, in->kind->dir);
	snprintf(in->file, sizeof(in->file), "%s/%s", in->dir, in->kind->file);
	snprintf(in->drop_in, sizeof(in->drop_in), "%s/containers.conf.d/%s", in->config,
		 in->kind->drop_in);
	return 0;
}

/* ---------------------------------------------------------------- what is there */

/* Nothing, or a link; or a file as we write it, whatever program it names. */
static int install_check_file(const struct install *in, struct err *err)
{
	size_t tail = strlen(install_hook_tail);
	char text[PATH_MAX + sizeof(install_hook_head) + sizeof(install_hook_tail)];
	struct stat st;
	int n;

	if (lstat(in->file, &st) != 0 || (in->kind->link && S_ISLNK(st.st_mode)))
		return 0;
	if (in->kind->link)
		return err_set(err, EEXIST, "'%s' is not a link that fwd has made: left as it is",
			       in->file);
	n = S_ISREG(st.st_mode) ? read_file(in->file, text, sizeof(text)) : -EINVAL;
	if (n >= (int)tail && strcmp(text + n - tail, install_hook_tail) == 0 &&
	    strncmp(text, install_hook_head, strlen(install_hook_head)) == 0)
		return 0;
	return err_set(err, EEXIST, "'%s' was not made by fwd: left as it is", in->file);
}

/* Nothing, or a file of ours. */
static int install_check_drop_in(const struct install *in, struct err *err)
{
	char text[8192];
	int n = read_file(in->drop_in, text, sizeof(text));

	if (n == -ENOENT || n == -ENOTDIR)
		return 0;
	if (n >= 0 && strncmp(text, in->kind->mark, strlen(in->kind->mark)) == 0)
		return 0;
	return err_set(err, EEXIST, "'%s' was not made by fwd: left as it is", in->drop_in);
}

/* Whether a file sets the list, in a line that is no comment. */
static bool install_sets_list(const char *text, const char *key)
{
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += strspn(line, " \t\n");
		if (strncmp(line, key, strlen(key)) == 0)
			return true;
	}
	return false;
}

enum install_others { OTHERS_NONE, OTHERS_NAME_US, OTHERS_SET };

static enum install_others install_look_into(const struct install *in, const char *path)
{
	static char text[1 << 18];

	if (strcmp(path, in->drop_in) == 0 || read_file(path, text, sizeof(text)) < 0 ||
	    !install_sets_list(text, in->kind->key))
		return OTHERS_NONE;
	return strstr(text, in->dir) ? OTHERS_NAME_US : OTHERS_SET;
}

/* Does another file of Podman's set the list? Which one, in @ret. */
static enum install_others install_look_around(const struct install *in, char ret[PATH_MAX])
{
	static const char *const patterns[] = {
		"/usr/share/containers/containers.conf",
		"/etc/containers/containers*.conf",
		"/etc/containers/containers*.conf.d/*.conf",
		"%s/containers.conf",
		"%s/containers.conf.d/*.conf",
	};
	enum install_others found = OTHERS_NONE;

	for (unsigned i = 0; i < ARRAY_SIZE(patterns); i++) {
		const char *rest = strncmp(patterns[i], "%s", 2) == 0 ? patterns[i] + 2 : NULL;
		char pattern[PATH_MAX];
		glob_t g;

		snprintf(pattern, sizeof(pattern), "%s%s", rest ? in->config : "",
			 rest ? rest : patterns[i]);
		if (glob(pattern, 0, NULL, &g) != 0)
			continue;
		for (size_t j = 0; j < g.gl_pathc; j++) {
			enum install_others o = install_look_into(in, g.gl_pathv[j]);

			/* The last one is what Podman goes by. */
			if (o != OTHERS_NONE) {
				found = o;
				snprintf(ret, PATH_MAX, "%s", g.gl_pathv[j]);
			}
		}
		globfree(&g);
	}
	return found;
}

/* ---------------------------------------------------------------- do */

/* Make the directory of @path, and those above it. */
static int install_make_dirs(const char *path, struct err *err)
{
	char dir[PATH_MAX];

	snprintf(dir, sizeof(dir), "%s", path);
	for (char *p = strchr(dir + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (mkdir(dir, 0755) != 0 && errno != EEXIST)
			return err_sys(err, errno, "directory '%s'", dir);
		*p = '/';
	}
	return 0;
}

static int install_add_link(const struct install *in, struct err *err)
{
	char old[PATH_MAX], tmp[PATH_MAX + 8];
	ssize_t n = readlink(in->file, old, sizeof(old));
	int ret;

	if (n == (ssize_t)strlen(in->exe) && memcmp(old, in->exe, (size_t)n) == 0) {
		printf("%s leads to %s already\n", in->file, in->exe);
		return 0;
	}
	install_say(in, "make %s, a link to %s", in->file, in->exe);
	if (in->dry_run)
		return 0;
	ret = install_make_dirs(in->file, err);
	if (ret < 0)
		return ret;
	snprintf(tmp, sizeof(tmp), "%s.new", in->file);
	unlink(tmp);
	if (symlink(in->exe, tmp) != 0 || rename(tmp, in->file) != 0)
		return err_sys(err, errno, "'%s'", in->file);
	return 0;
}

/* Write beside, then rename: Podman never reads half of it. */
static int install_write(const char *path, const char *text, struct err *err)
{
	char tmp[PATH_MAX + 8];
	size_t len = strlen(text);
	int fd, code = 0;

	snprintf(tmp, sizeof(tmp), "%s.new", path);
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return err_sys(err, errno, "'%s'", tmp);
	if (write(fd, text, len) != (ssize_t)len || fsync(fd) != 0)
		code = errno;
	close(fd);
	if (code == 0 && rename(tmp, path) != 0)
		code = errno;
	if (code == 0)
		return 0;
	unlink(tmp);
	return err_sys(err, code, "'%s'", path);
}

/* Have @text at @path; @what it is for, for the line that says so. */
static int install_put(const struct install *in, const char *path, const char *text,
		       const char *what, struct err *err)
{
	char old[PATH_MAX + 4096];
	int ret;

	if (read_file(path, old, sizeof(old)) >= 0 && strcmp(old, text) == 0) {
		printf("%s is there already\n", path);
		return 0;
	}
	install_say(in, "write %s, which names %s", path, what);
	if (in->dry_run)
		return 0;
	ret = install_make_dirs(path, err);
	return ret < 0 ? ret : install_write(path, text, err);
}

static int install_add_file(const struct install *in, struct err *err)
{
	char text[PATH_MAX + sizeof(install_hook_head) + sizeof(install_hook_tail)];

	if (in->kind->link)
		return install_add_link(in, err);
	snprintf(text, sizeof(text), "%s%s%s", install_hook_head, in->exe, install_hook_tail);
	return install_put(in, in->file, text, in->exe, err);
}

static void install_compose(const struct install *in, char *ret, size_t size)
{
	int n = snprintf(ret, size, "%s[engine]\n%s = [\n  \"%s\",\n", in->kind->mark,
			 in->kind->key, in->dir);

	for (const char *const *dir = in->kind->dirs; *dir; dir++)
		n += snprintf(ret + n, size - (size_t)n, "  \"%s\",\n", *dir);
	snprintf(ret + n, size - (size_t)n, "]\n");
}

static int install_add_drop_in(const struct install *in, struct err *err)
{
	enum install_others others;
	char text[8192], other[PATH_MAX] = "";

	others = install_look_around(in, other);
	if (others == OTHERS_NAME_US) {
		printf("%s names %s already\n", other, in->dir);
		return 0;
	}
	if (others == OTHERS_SET)
		return err_set(err, EEXIST, "'%s' sets %s: put \"%s\" first in its list", other,
			       in->kind->key, in->dir);
	install_compose(in, text, sizeof(text));
	return install_put(in, in->drop_in, text, in->dir, err);
}

static void install_note(const struct install *in)
{
	char path[PATH_MAX];

	for (const char *const *dir = in->kind->dirs; *dir; dir++) {
		snprintf(path, sizeof(path), "%s/%s", *dir, in->kind->file);
		if (access(path, X_OK) == 0)
			return;
	}
	puts("note: Podman's own helpers are in none of its usual directories: if it has others, "
	     "add them to the list in that file");
}

static int install_do(const struct install *in, struct err *err)
{
	const char *only = getenv("CONTAINERS_CONF");
	int ret;

	ret = install_check_file(in, err);
	if (ret == 0)
		ret = install_check_drop_in(in, err);
	if (ret == 0)
		ret = install_add_file(in, err);
	if (ret == 0 && only && *only)
		ret = err_set(err, EINVAL,
			      "CONTAINERS_CONF is set, so Podman reads '%s' only: put \"%s\" first "
			      "in %s there",
			      only, in->dir, in->kind->key);
	if (ret == 0)
		ret = install_add_drop_in(in, err);
	if (ret < 0)
		return ret;
	if (in->kind->link)
		install_note(in);
	if (!in->dry_run)
		puts(in->kind->done);
	return 0;
}

/* ---------------------------------------------------------------- undo */

/* Directories that are empty now; from the inside out. */
static void install_remove_dirs(const struct install *in)
{
	const char *const below[] = { in->kind->dir, ".local/lib/fwd", ".local/lib" };
	char path[PATH_MAX];

	for (unsigned i = 0; i < ARRAY_SIZE(below); i++) {
		snprintf(path, sizeof(path), "%s/%s", in->home, below[i]);
		rmdir(path);
	}
	snprintf(path, sizeof(path), "%s/containers.conf.d", in->config);
	rmdir(path);
	rmdir(in->config);
}

static int install_remove(const struct install *in, const char *path, struct err *err)
{
	struct stat st;

	if (lstat(path, &st) != 0) {
		printf("%s is not there\n", path);
		return 0;
	}
	install_say(in, "remove %s", path);
	if (!in->dry_run && unlink(path) != 0)
		return err_sys(err, errno, "'%s'", path);
	return 0;
}

static int install_undo(const struct install *in, struct err *err)
{
	char other[PATH_MAX];
	int ret;

	ret = install_check_file(in, err);
	if (ret == 0)
		ret = install_check_drop_in(in, err);
	if (ret == 0)
		ret = install_remove(in, in->drop_in, err);
	if (ret == 0)
		ret = install_remove(in, in->file, err);
	if (ret == 0 && !in->dry_run)
		install_remove_dirs(in);
	if (ret == 0 && install_look_around(in, other) == OTHERS_NAME_US)
		printf("note: %s names %s, which is for you to change\n", other, in->dir);
	return ret;
}

int install_podman(int argc, char **argv, struct err *err)
{
	static const struct option options[] = {
		{ "hook", no_argument, NULL, 'k' },
		{ "undo", no_argument, NULL, 'u' },
		{ "dry-run", no_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct install in = { .kind = &install_rootlessport };
	bool undo = false;
	int opt, ret;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt == 'h') {
			fputs(install_usage, stdout);
			return 0;
		}
		if (opt == '?')
			return err_set(err, EINVAL, "install-podman: unrecognized option '%s'",
				       argv[optind - 1]);
		if (opt == 'k')
			in.kind = &install_hook;
		undo |= opt == 'u';
		in.dry_run |= opt == 'n';
	}
	if (argv[optind])
		return err_set(err, EINVAL, "install-podman: '%s': there are no operands",
			       argv[optind]);
	ret = install_find(&in, err);
	if (ret < 0)
		return ret;
	return undo ? install_undo(&in, err) : install_do(&in, err);
}
