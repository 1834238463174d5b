/* SPDX-License-Identifier: Apache-2.0 */
/* fwd install-podman: what it makes in a home directory, what it leaves alone, and --undo. */

#include "lib.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#define LINK	".local/lib/fwd/podman/rootlessport"
#define DROP_IN ".config/containers/containers.conf.d/fwd.conf"

#define HOOK	     ".local/lib/fwd/hooks.d/fwd.json"
#define HOOK_DROP_IN ".config/containers/containers.conf.d/fwd-hook.conf"

static char home[64];

static struct world *home_up(void)
{
	struct world *w = world_up(CT_LO, &uring_v4);

	snprintf(home, sizeof(home), "%s/home", w->dir);
	cr_assert(!mkdir(home, 0755));
	/* Whoever runs fwd must be able to write there. */
	cr_assert(!chmod(home, 0777));
	setenv("HOME", home, 1);
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("CONTAINERS_CONF");
	umask(0);
	return w;
}

static const char *in_home(const char *path)
{
	static char text[4][PATH_MAX];
	static unsigned n;

	snprintf(text[++n % 4], PATH_MAX, "%s/%s", home, path);
	return text[n % 4];
}

static bool there(const char *path)
{
	struct stat st;

	return lstat(in_home(path), &st) == 0;
}

static const char *content(const char *path)
{
	static char text[8192];

	if (read_file(in_home(path), text, sizeof(text)) < 0)
		text[0] = 0;
	return text;
}

static void put(const char *path, const char *text)
{
	char full[PATH_MAX];
	FILE *f;

	snprintf(full, sizeof(full), "%s", in_home(path));
	for (char *p = strchr(full + strlen(home) + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = 0;
		mkdir(full, 0777);
		*p = '/';
	}
	f = fopen(full, "w");
	cr_assert(f, "%s: %s", full, strerror(errno));
	fputs(text, f);
	fclose(f);
}

/* Everything below the home directory, with what files contain, as text. */
static const char *snapshot(void)
{
	static const char *const argv[] = {
		"sh", "-c", "cd \"$HOME\" && find . | sort && find . -type f -exec cat {} +", NULL
	};
	static char text[2][16384];
	static unsigned n;
	struct ns here = { -1, -1, -1, 0 };
	struct proc p = ns_spawn(&here, SPAWN_CAPTURE, argv);

	text[++n % 2][0] = 0;
	cr_assert(proc_output(&p, text[n % 2], sizeof(text[0]), 5000));
	cr_assert_eq(proc_wait(p.pid, 2000), 0);
	return text[n % 2];
}

static void expect(const struct run *r, int status, const char *text)
{
	cr_expect_eq(r->status, status, "status %d: %s", r->status, r->out);
	cr_expect(strstr(r->out, text), "no '%s' in: %s", text, r->out);
}

/* A link and a drop-in file; a second time there is nothing to do; --undo leaves nothing. */
Test(install, makes_and_undoes, .timeout = 15)
{
	struct world *w = home_up();
	char target[PATH_MAX] = "", ours[PATH_MAX];
	struct run r = fwd_run(w, ARGS("install-podman"));

	expect(&r, 0, LINK);
	expect(&r, 0, DROP_IN);
	cr_assert(readlink(in_home(LINK), target, sizeof(target) - 1) > 0);
	cr_expect_str_eq(target, fwd_path());
	snprintf(ours, sizeof(ours), "[engine]\nhelper_binaries_dir = [\n  \"%s\",\n",
		 in_home(".local/lib/fwd/podman"));
	cr_expect(strstr(content(DROP_IN), ours), "%s", content(DROP_IN));
	cr_expect(strstr(content(DROP_IN), "\"/usr/lib/podman\""), "%s", content(DROP_IN));

	r = fwd_run(w, ARGS("install-podman"));
	expect(&r, 0, "fwd.conf is there already");
	r = fwd_run(w, ARGS("install-podman", "--undo"));
	expect(&r, 0, "remove ");
	cr_expect(!there(LINK) && !there(DROP_IN));
	cr_expect(!there(".local/lib") && !there(".config/containers"));
	r = fwd_run(w, ARGS("install-podman", "--undo"));
	expect(&r, 0, "fwd.conf is not there");
}

/* What was there before is there after --undo, byte for byte. */
Test(install, leaves_the_rest_alone, .timeout = 15)
{
	struct world *w = home_up();
	const char *before;
	struct run r;

	put(".config/containers/containers.conf",
	    "[containers]\n# helper_binaries_dir = [\"/x\"]\n");
	put(".config/containers/containers.conf.d/50-mine.conf", "[network]\n");
	put(".local/lib/mine", "mine\n");
	before = snapshot();
	r = fwd_run(w, ARGS("install-podman"));
	expect(&r, 0, "write ");
	r = fwd_run(w, ARGS("install-podman", "--undo"));
	expect(&r, 0, "remove ");
	cr_expect_str_eq(snapshot(), before);
}

/* --dry-run says what would be done, and does nothing. */
Test(install, dry_run_changes_nothing, .timeout = 15)
{
	struct world *w = home_up();
	const char *before = snapshot();
	struct run r = fwd_run(w, ARGS("install-podman", "--dry-run"));

	expect(&r, 0, "would make ");
	expect(&r, 0, "would write ");
	cr_expect_str_eq(snapshot(), before);
	r = fwd_run(w, ARGS("install-podman"));
	expect(&r, 0, "write ");
	before = snapshot();
	r = fwd_run(w, ARGS("install-podman", "--undo", "--dry-run"));
	expect(&r, 0, "would remove ");
	cr_expect_str_eq(snapshot(), before);
}

/* An older link of ours, as after a move of fwd, is replaced. */
Test(install, link_is_brought_up_to_date, .timeout = 15)
{
	struct world *w = home_up();
	char target[PATH_MAX] = "";
	struct run r;

	put(".local/lib/fwd/podman/x", "");
	cr_assert(!symlink("/nonexistent/fwd", in_home(LINK)));
	r = fwd_run(w, ARGS("install-podman"));
	expect(&r, 0, "make ");
	cr_assert(readlink(in_home(LINK), target, sizeof(target) - 1) > 0);
	cr_expect_str_eq(target, fwd_path());
}

/* Files of that name which fwd has not made are left, and nothing else is done. */
Test(install, foreign_files_are_left, .timeout = 15)
{
	struct world *w = home_up();
	const char *before;
	struct run r;

	put(DROP_IN, "[engine]\n");
	before = snapshot();
	r = fwd_run(w, ARGS("install-podman"));
	expect(&r, 1, "was not made by fwd");
	cr_expect_str_eq(snapshot(), before);
	r = fwd_run(w, ARGS("install-podman", "--undo"));
	expect(&r, 1, "was not made by fwd");
	cr_expect_str_eq(snapshot(), before);

	cr_assert(!unlink(in_home(DROP_IN)));
	put(LINK, "#!/bin/sh\n");
	before = snapshot();
	r = fwd_run(w, ARGS("install-podman"));
	expect(&r, 1, "is not a link that fwd has made");
	r = fwd_run(w, ARGS("install-podman", "--undo"));
	expect(&r, 1, "is not a link that fwd has made");
	cr_expect_str_eq(snapshot(), before);
}

/* Where the user has set the list, the line to add is said; with it, all is well. */
Test(install, own_list_is_respected, .timeout = 15)
{
	struct world *w = home_up();
	char text[PATH_MAX];
	struct run r;

	put(".config/containers/containers.conf",
	    "[engine]\n  helper_binaries_dir=[\"/opt/podman\"]\n");
	r = fwd_run(w, ARGS("install-podman"));
	expect(&r, 1, "containers.conf' sets helper_binaries_dir: put \"");
	cr_expect(there(LINK) && !there(DROP_IN));
	snprintf(text, sizeof(text), "[engine]\nhelper_binaries_dir = [\"%s\", \"/opt/podman\"]\n",
		 in_home(".local/lib/fwd/podman"));
	put(".config/containers/containers.conf", text);
	r = fwd_run(w, ARGS("install-podman"));
	expect(&r, 0, "already");
	cr_expect(there(LINK) && !there(DROP_IN));
	r = fwd_run(w, ARGS("install-podman", "--undo"));
	expect(&r, 0, "which is for you to change");
	cr_expect_str_eq(content(".config/containers/containers.conf"), text);
}

/* As a hook: a file for it and a drop-in file of their own, which come and go alone. */
Test(install, hook_makes_and_undoes, .timeout = 15)
{
	struct world *w = home_up();
	char ours[PATH_MAX], example[4096], want[8192], *path;
	struct run r = fwd_run(w, ARGS("install-podman"));
	const char *before = snapshot();

	expect(&r, 0, DROP_IN);
	r = fwd_run(w, ARGS("install-podman", "--hook", "--dry-run"));
	expect(&r, 0, "would write ");
	cr_expect_str_eq(snapshot(), before);
	r = fwd_run(w, ARGS("install-podman", "--hook"));
	expect(&r, 0, HOOK ", which names ");
	expect(&r, 0, HOOK_DROP_IN ", which names ");
	snprintf(
		ours, sizeof(ours),
		"[engine]\nhooks_dir = [\n  \"%s\",\n  \"/usr/share/containers/oci/hooks.d\",\n]\n",
		in_home(".local/lib/fwd/hooks.d"));
	cr_expect(strstr(content(HOOK_DROP_IN), ours), "%s", content(HOOK_DROP_IN));
	/* The example in the documentation, but for the path of the program. */
	cr_assert(read_file("docs/examples/hooks.d/fwd.json", example, sizeof(example)) > 0);
	path = strstr(example, "/usr/local/bin/fwd");
	cr_assert(path);
	snprintf(want, sizeof(want), "%.*s%s%s", (int)(path - example), example, fwd_path(),
		 path + strlen("/usr/local/bin/fwd"));
	cr_expect_str_eq(content(HOOK), want);

	r = fwd_run(w, ARGS("install-podman", "--hook"));
	expect(&r, 0, "fwd.json is there already");
	expect(&r, 0, "fwd-hook.conf is there already");
	r = fwd_run(w, ARGS("install-podman", "--undo", "--hook"));
	expect(&r, 0, "remove ");
	cr_expect_str_eq(snapshot(), before);
}

/* A file of another program of fwd's is brought up to date; what fwd has not made is left. */
Test(install, hook_leaves_foreign_files, .timeout = 15)
{
	struct world *w = home_up();
	char text[8192], old[4096], *path;
	struct run r = fwd_run(w, ARGS("install-podman", "--hook"));
	const char *before;

	expect(&r, 0, "write ");
	snprintf(text, sizeof(text), "%s", content(HOOK));
	snprintf(old, sizeof(old), "%s", content(HOOK));
	path = strstr(old, fwd_path());
	cr_assert(path);
	memcpy(path, "/old", 4);
	cr_assert(!unlink(in_home(HOOK)));
	put(HOOK, old);
	r = fwd_run(w, ARGS("install-podman", "--hook"));
	expect(&r, 0, "write ");
	cr_expect_str_eq(content(HOOK), text);

	put(HOOK, "{\"version\":\"1.0.0\"}\n");
	before = snapshot();
	r = fwd_run(w, ARGS("install-podman", "--hook"));
	expect(&r, 1, "was not made by fwd");
	r = fwd_run(w, ARGS("install-podman", "--hook", "--undo"));
	expect(&r, 1, "was not made by fwd");
	cr_expect_str_eq(snapshot(), before);

	put(HOOK, text);
	cr_assert(!unlink(in_home(HOOK_DROP_IN)));
	put(".config/containers/containers.conf", "[engine]\nhooks_dir=[\"/opt/hooks.d\"]\n");
	r = fwd_run(w, ARGS("install-podman", "--hook"));
	expect(&r, 1, "containers.conf' sets hooks_dir: put \"");
}

/* Variables that move Podman's configuration count. */
Test(install, environment_counts, .timeout = 15)
{
	struct world *w = home_up();
	struct run r;

	setenv("XDG_CONFIG_HOME", in_home("cfg"), 1);
	r = fwd_run(w, ARGS("install-podman"));
	expect(&r, 0, "cfg/containers/containers.conf.d/fwd.conf");
	cr_expect(there("cfg/containers/containers.conf.d/fwd.conf") && !there(DROP_IN));
	r = fwd_run(w, ARGS("install-podman", "--undo"));
	expect(&r, 0, "remove ");
	setenv("CONTAINERS_CONF", "/opt/containers.conf", 1);
	r = fwd_run(w, ARGS("install-podman"));
	expect(&r, 1, "Podman reads '/opt/containers.conf' only");
	unsetenv("CONTAINERS_CONF");
	setenv("HOME", "relative", 1);
	r = fwd_run(w, ARGS("install-podman"));
	expect(&r, 1, "home directory 'relative'");
}

/* Its command line. */
Test(install, options_are_checked, .timeout = 15)
{
	struct world *w = home_up();
	struct run r = fwd_run(w, ARGS("install-podman", "--help"));

	expect(&r, 0, "--undo");
	r = fwd_run(w, ARGS("install-podman", "--force"));
	expect(&r, 1, "fwd: install-podman: unrecognized option '--force'");
	r = fwd_run(w, ARGS("install-podman", "all"));
	expect(&r, 1, "no operands");
	cr_expect(!there(LINK) && !there(DROP_IN));
}
