/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - fwd: publish ports of the host in a rootless container's namespace
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "err.h"
#include "fwd/conf.h"
#include "fwd/ctl.h"
#include "fwd/daemon.h"
#include "fwd/forwarder.h"
#include "fwd/hook.h"
#include "fwd/install.h"
#include "fwd/log.h"
#include "fwd/notify.h"
#include "fwd/passed.h"
#include "fwd/rootlessport.h"
#include "util.h"

static void main_log_assert(const char *line)
{
	log_err("%s", line);
}

/* Everything between the command line and the exit status. -errno with @err. */
static int main_forward(const struct conf *conf, struct daemon *daemon, struct pid_file *pid,
			const struct notify *notify, struct inherited *inherited, struct err *err)
{
	struct forwarder f;
	int ret;

	ret = forwarder_start(&f, conf, pid->dir, err);
	inherited_close(inherited); /* the command has them */
	if (ret < 0)
		return ret;
	ret = pid_file_write(pid, err);
	if (ret < 0) {
		forwarder_stop(&f);
		return ret;
	}
	log_info("ready: %u ports, %u threads, %s", ports_count(&f.ports), f.n_threads,
		 f.shared.engine->name);
	if (daemon->ready >= 0) {
		log_detach();
		daemon_ready(daemon);
	} else {
		notify_send(notify, "READY=1");
	}
	if (conf->detach)
		daemon_let_go(daemon);
	daemon_say_ready(conf->ready_fd);
	ret = forwarder_run(&f, notify);
	notify_send(notify, "STOPPING=1");
	forwarder_stop(&f);
	return ret;
}

/* What the caller left open is not ours to hold; a command may want it, but not our pipes. */
static int main_close_others(const struct conf *conf, struct inherited *inherited, struct err *err)
{
	int keep[2 + PASSED_MAX] = { conf->ready_fd, conf->exit_fd };
	unsigned n = 2;

	for (unsigned i = 0; i < n; i++)
		if (keep[i] >= 0)
			fcntl(keep[i], F_SETFD, FD_CLOEXEC);
	for (int i = 0; i < conf->n_passed; i++)
		keep[n++] = PASSED_FIRST + i;
	if (conf->command)
		return inherited_note(inherited, keep, n, err);
	close_fds_except(keep, n);
	return 0;
}

static int main_run(const struct conf *conf, struct err *err)
{
	struct daemon daemon = { .ready = -1, .null = -1 };
	struct pid_file pid = { .fd = -1, .dir = -1 };
	struct inherited inherited = { 0 };
	struct notify notify;
	int ret = 0;

	log_level = conf->debug ? LOG_LEVEL_DEBUG : conf->quiet ? LOG_LEVEL_WARN : LOG_LEVEL_INFO;
	fwd_assert_set_log(main_log_assert);
	passed_take(conf->n_passed);
	ret = main_close_others(conf, &inherited, err);
	if (ret == 0 && (conf->detach || (!conf->command && !conf->foreground)))
		ret = daemon_prepare(&daemon, err);
	if (conf->detach) {
		log_prepare();
		log_detach();
	}
	if (ret == 0 && conf->log_file)
		ret = log_to_file(conf->log_file, conf->log_size, err);
	notify_open(&notify);
	if (ret == 0 && !conf->command && !conf->foreground)
		ret = daemon_fork(&daemon, &notify, err);
	if (daemon.ready >= 0)
		log_prepare();
	if (ret == 0 && conf->pid_file)
		ret = pid_file_open(&pid, conf->pid_file, err);
	if (ret == 0)
		ret = main_forward(conf, &daemon, &pid, &notify, &inherited, err);
	pid_file_remove(&pid);
	if (ret < 0)
		notify_send(&notify, "STATUS=%s\nERRNO=%d", err->text, -ret);
	notify_close(&notify);
	return ret;
}

/* As Podman's helper. Podman shows what that has written to standard output. */
static int main_rootlessport(int argc)
{
	struct rootlessport rp;
	struct conf conf;
	struct err err;
	int ret;

	ret = rootlessport_parse(argc, stdin, &rp, &conf, &err);
	if (ret == 0) {
		ret = main_run(&conf, &err);
		conf_free(&conf);
		rootlessport_free(&rp);
	}
	if (ret < 0) {
		printf("fwd: %s\n", err.text);
		return 1;
	}
	return ret;
}

static int main_tool(int ret, const struct err *err)
{
	if (ret < 0)
		fprintf(stderr, "fwd: %s\n", err->text);
	return ret < 0;
}

/* What fwd does beside forwarding, by its first argument. */
static const struct {
	const char *name;
	int (*run)(int argc, char **argv, struct err *err);
} main_tools[] = {
	{ "install-podman", install_podman },
};

static int main_command_line(int argc, char **argv)
{
	struct conf conf;
	struct err err;
	int ret;

	ret = conf_parse(argc, argv, &conf, &err);
	if (ret == CONF_DONE)
		return 0;
	if (ret == CONF_RUN) {
		ret = main_run(&conf, &err);
		conf_free(&conf);
	}
	if (ret < 0) {
		fprintf(stderr, "fwd: %s\n", err.text);
		return 1;
	}
	return ret;
}

/* As a hook of an OCI runtime. */
static int main_hook(int argc, char **argv)
{
	struct publish args;
	struct err err;
	int ret = hook_run(argc, argv, stdin, &args, &err);

	if (ret != HOOK_FORWARD)
		return main_tool(ret, &err);
	ret = main_command_line((int)args.n, args.v);
	publish_free(&args);
	return ret;
}

int main(int argc, char **argv)
{
	struct err err;

	if (rootlessport_is_called(argv[0]))
		return main_rootlessport(argc);
	if (argc > 1 && strcmp(argv[1], "ctl") == 0)
		return ctl_main(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "hook") == 0)
		return main_hook(argc - 1, argv + 1);
	for (unsigned i = 0; argc > 1 && i < ARRAY_SIZE(main_tools); i++)
		if (strcmp(argv[1], main_tools[i].name) == 0)
			return main_tool(main_tools[i].run(argc - 1, argv + 1, &err), &err);
	return main_command_line(argc, argv);
}
