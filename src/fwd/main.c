/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - fwd: publish ports of the host in a rootless container's namespace
 */
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "err.h"
#include "fwd/conf.h"
#include "fwd/daemon.h"
#include "fwd/forwarder.h"
#include "fwd/log.h"

static int fail(const struct err *err)
{
	fprintf(stderr, "fwd: %s\n", err->text);
	return 1;
}

static int run(const struct conf *conf, struct daemon *daemon)
{
	struct forwarder f;
	struct err err;
	int status;

	if (forwarder_start(&f, conf, &err) < 0)
		return fail(&err);
	if (conf->pid_file && daemon_write_pid(conf->pid_file, &err) < 0) {
		forwarder_stop(&f);
		return fail(&err);
	}
	log_info("ready: %u ports, %u threads, %s", ports_count(&f.ports), f.n_threads,
		 f.shared.engine->name);
	if (daemon->ready >= 0) {
		log_detach();
		daemon_ready(daemon);
	}
	status = forwarder_run(&f);
	forwarder_stop(&f);
	if (conf->pid_file)
		unlink(conf->pid_file);
	return status;
}

int main(int argc, char **argv)
{
	struct daemon daemon = { .ready = -1 };
	struct conf conf;
	struct err err;
	int ret;

	ret = conf_parse(argc, argv, &conf, &err);
	if (ret < 0)
		return fail(&err);
	if (ret == CONF_DONE)
		return 0;
	log_level = conf.debug ? LOG_LEVEL_DEBUG : conf.quiet ? LOG_LEVEL_WARN : LOG_LEVEL_INFO;
	/* What the caller left open is not ours to hold; a command may want it. */
	if (!conf.command)
		syscall(SYS_close_range, 3u, ~0u, 0);
	if (conf.log_file && log_to_file(conf.log_file, conf.log_size, &err) < 0)
		return fail(&err);
	if (!conf.command && !conf.foreground && daemon_fork(&daemon, &err) < 0)
		return fail(&err);
	ret = run(&conf, &daemon);
	conf_free(&conf);
	return ret;
}
