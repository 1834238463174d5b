/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook.c - as a hook of an OCI runtime
 *
 * The runtime starts us in its own namespaces, when those of the container are there and its
 * program is not (createRuntime), when that runs (poststart), or when it has ended
 * (poststop), with the container's state as JSON on standard input. It waits for our end;
 * a createRuntime hook that fails fails the container. So starting is what it is on the
 * command line: go to the background when all ports are open. The forwarder ends with the
 * container, whether somebody calls poststop or not; that only waits for it, so that the
 * ports are free when the runtime has done.
 *
 * What the forwarder writes is in the bundle, the directory in which the runtime has found
 * the container's configuration. It is the container's own, unlike any directory of the
 * user's; who can write there can make the runtime run anything, so that nobody gains by a
 * file of ours; and Podman removes it with the container. fwd's own process is known by the
 * lock of its pid file there.
 *
 * Not every runtime shows what its hooks say: crun throws it away. So why a start has failed
 * is also in the log file, and in the system's log.
 */
#include "fwd/hook.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "fwd/daemon.h"
#include "fwd/log.h"
#include "util.h"

#define HOOK_STATE_MAX (1u << 20) /* bytes of the state */
#define HOOK_TERM_MS   5000	  /* for fwd to end when it is asked to */
#define HOOK_KILL_MS   1000	  /* and when it is not asked */
#define HOOK_LOG_SIZE  (1u << 20) /* bytes of the log file, as by default */

/* In the bundle. */
#define HOOK_PID_FILE "fwd.pid"
#define HOOK_LOG_FILE "fwd.log"
#define HOOK_CONTROL  "fwd.ctl"

/* Our annotations. */
#define HOOK_PREFIX  "fwd."
#define HOOK_PUBLISH HOOK_PREFIX "publish"
#define HOOK_OPTIONS HOOK_PREFIX "options"

static const char hook_usage[] =
	"Usage: fwd hook [createRuntime|poststart|poststop]\n"
	"\n"
	"For OCI runtimes (crun, runc), which give a container's state on standard input:\n"
	"publish the ports that its annotation fwd.publish names, while it runs.\n"
	"\n"
	"  fwd.publish    [[ADDRESS][%INTERFACE]/]PORTS[/tcp|/udp|/tcp+udp], and more such,\n"
	"                 separated by commas or blanks; as for --tcp-ports\n"
	"  fwd.options    more options, as --source=require\n"
	"\n"
	"Without the name of the stage the state tells. The manual is fwd(1).\n";

/* What the runtime says of the container. */
struct state {
	json_t *json; /* owned; the rest points into it */
	const char *status, *bundle;
	json_int_t pid;	     /* 0: none */
	json_t *annotations; /* an object, null or NULL */
	const char *publish; /* "": nothing to publish */
	const char *options;
};

enum stage { STAGE_OF_STATE, STAGE_START, STAGE_STOP };

/* ---------------------------------------------------------------- the state */

static int state_read(FILE *in, struct state *s, struct err *err)
{
	char *text = malloc(HOOK_STATE_MAX + 1);
	size_t len = text ? fread(text, 1, HOOK_STATE_MAX + 1, in) : 0;
	json_error_t why;
	int ret = 0;

	if (!text)
		return err_sys(err, ENOMEM, "state of the container");
	if (ferror(in))
		ret = err_set(err, EIO, "state of the container: standard input cannot be read");
	else if (len > HOOK_STATE_MAX)
		ret = err_set(err, EFBIG, "state of the container: more than %u bytes",
			      HOOK_STATE_MAX);
	else
		s->json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
	if (ret == 0 && !s->json)
		ret = err_set(err, EINVAL, "state of the container: %s", why.text);
	free(text);
	return ret;
}

static int state_unpack(struct state *s, struct err *err)
{
	json_error_t why;
	json_t *publish;

	s->status = s->publish = s->options = "";
	if (json_unpack_ex(s->json, &why, 0, "{s:s, s?s, s?I, s?o}", "bundle", &s->bundle, "status",
			   &s->status, "pid", &s->pid, "annotations", &s->annotations) != 0)
		return err_set(err, EINVAL, "state of the container: %s", why.text);
	if (*s->bundle != '/')
		return err_set(err, EINVAL, "state of the container: bundle '%.200s' is no path",
			       s->bundle);
	if (s->pid < 0 || s->pid > INT_MAX)
		return err_set(err, EINVAL, "state of the container: pid %lld is none",
			       (long long)s->pid);
	if (s->annotations && !json_is_object(s->annotations) && !json_is_null(s->annotations))
		return err_set(err, EINVAL, "state of the container: annotations are no object");
	publish = json_object_get(s->annotations, HOOK_PUBLISH);
	if (publish && !json_is_string(publish))
		return err_set(err, EINVAL, "annotation " HOOK_PUBLISH " is no string");
	if (publish)
		s->publish = json_string_value(publish);
	return 0;
}

/* The annotations beside what is to be published. */
static int state_options(struct state *s, struct err *err)
{
	const char *name;
	json_t *v;

	json_object_foreach(s->annotations, name, v)
	{
		if (strncmp(name, HOOK_PREFIX, strlen(HOOK_PREFIX)) != 0 ||
		    strcmp(name, HOOK_PUBLISH) == 0)
			continue;
		/* One that is misspelt might have been --source=require. */
		if (strcmp(name, HOOK_OPTIONS) != 0)
			return err_set(err, EINVAL, "annotation %.64s: there is no such one", name);
		if (!json_is_string(v))
			return err_set(err, EINVAL, "annotation " HOOK_OPTIONS " is no string");
		s->options = json_string_value(v);
	}
	return 0;
}

/* ---------------------------------------------------------------- processes */

/* When process @pid began, in ticks since the system did (proc(5)); 0: it is not known. */
static unsigned long long process_began(pid_t pid)
{
	unsigned long long ret = 0;
	char path[64], text[1024];
	const char *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (read_file(path, text, sizeof(text)) < 0)
		return 0;
	/* The name, in parentheses, is field 2 and may have anything in it; this is 22. */
	p = strrchr(text, ')');
	for (unsigned field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (p)
		sscanf(p, " %llu", &ret);
	return ret;
}

static bool process_ends(int pidfd, int ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int n;

	do
		n = poll(&p, 1, ms);
	while (n < 0 && errno == EINTR);
	return n > 0;
}

/* End the fwd of this bundle, if there is one, and wait for its end. */
static int hook_stop(struct err *err)
{
	pid_t pid = pid_file_owner(HOOK_PID_FILE);
	cleanup_fd int pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

	/* If it has ended in between, the number may be somebody else's: ask again. */
	if (pidfd < 0 || pid_file_owner(HOOK_PID_FILE) != pid)
		return 0;
	if (syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0) != 0 && errno != ESRCH)
		return err_sys(err, errno, "end fwd, process %d", (int)pid);
	if (process_ends(pidfd, HOOK_TERM_MS))
		return 0;
	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	if (process_ends(pidfd, HOOK_KILL_MS))
		return 0;
	return err_set(err, ETIMEDOUT, "fwd, process %d, does not end", (int)pid);
}

/*
 * Does a fwd of this bundle run for this very process? One that was for an earlier is older.
 * If they are as old, to the tick, or it is not known: no, because to start again is harmless.
 */
static bool hook_runs_for(pid_t container)
{
	unsigned long long began = process_began(container);
	pid_t pid = pid_file_owner(HOOK_PID_FILE);

	return began > 0 && pid > 0 && process_began(pid) > began;
}

/* ---------------------------------------------------------------- start */

/* Messages quote annotations, which must not command a terminal or forge lines of a log. */
static void hook_tame(char *text, char keep)
{
	for (; *text; text++)
		if (((unsigned char)*text < ' ' && *text != keep) || *text == 127)
			*text = '?';
}

/* Write to the logs why it has failed. */
static void hook_note(const char *text)
{
	struct err ignored;

	syslog(LOG_DAEMON | LOG_ERR, "%s", text);
	log_detach();
	if (log_to_file(HOOK_LOG_FILE, HOOK_LOG_SIZE, &ignored) == 0)
		log_err("%s", text);
}

/* The same of the last line of what fwd has said. */
static void hook_note_last(char *text)
{
	static const char name[] = "fwd: ";
	size_t len = strlen(text);
	const char *line;

	if (len > 0 && text[len - 1] == '\n')
		text[len - 1] = '\0';
	line = strrchr(text, '\n');
	line = line ? line + 1 : text;
	if (strncmp(line, name, strlen(name)) == 0)
		line += strlen(name);
	hook_note(*line ? line : "fwd has ended without a word");
}

/* Read to the end of file; the last of it into @buf, at least half of its size. */
static void hook_read_last(int fd, char *buf, size_t size)
{
	size_t len = 0;
	ssize_t n;

	for (;;) {
		n = read(fd, buf + len, size - 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
		if (len == size - 1) {
			len = size / 2;
			memmove(buf, buf + size - 1 - len, len);
		}
	}
	buf[len] = '\0';
}

/*
 * The process that the runtime waits for. The new one holds its standard error, which is
 * @from, until it is ready or has ended.
 */
static _Noreturn void hook_wait(pid_t child, int from)
{
	char text[4096];
	int status = 0;

	hook_read_last(from, text, sizeof(text));
	hook_tame(text, '\n');
	fputs(text, stderr);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		_exit(0);
	hook_note_last(text);
	_exit(1);
}

static int hook_fork(struct err *err)
{
	int pair[2], code;
	pid_t child;

	if (pipe2(pair, O_CLOEXEC) != 0)
		return err_sys(err, errno, "pipe");
	child = fork();
	code = errno;
	if (child > 0) {
		close(pair[1]);
		hook_wait(child, pair[0]);
	}
	if (child == 0)
		dup2(pair[1], STDERR_FILENO);
	close(pair[0]);
	close(pair[1]);
	return child < 0 ? err_sys(err, code, "fork") : 0;
}

/* What is for the container's own process, or for ours alone. */
static void hook_forget_environment(void)
{
	static const char *const names[] = { "LISTEN_FDS",    "LISTEN_PID",    "LISTEN_FDNAMES",
					     "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID" };

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		unsetenv(names[i]);
}

static int hook_args(struct state *s, struct publish *args, struct err *err)
{
	char pid[16];
	const char *const ours[] = { "fwd", "--netns",	   pid,	 "-P",	      HOOK_PID_FILE,
				     "-l",  HOOK_LOG_FILE, "-c", HOOK_CONTROL };
	int ret = 0;

	snprintf(pid, sizeof(pid), "%lld", (long long)s->pid);
	for (unsigned i = 0; i < ARRAY_SIZE(ours) && ret == 0; i++)
		ret = publish_add(args, ours[i], err);
	if (ret == 0)
		ret = state_options(s, err);
	if (ret == 0)
		ret = publish_options(s->options, args, err);
	return ret == 0 ? publish_specs(s->publish, args, err) : ret;
}

static int hook_start(struct state *s, struct publish *args, struct err *err)
{
	int ret;

	if (s->pid == 0)
		return err_set(err, EINVAL, "state of the container: it has no pid");
	if (access(".", W_OK) != 0)
		return err_sys(err, errno, "bundle '%s', for fwd's files", s->bundle);
	if (hook_runs_for((pid_t)s->pid))
		return HOOK_DONE;
	/* One that is about to see that its container has ended. */
	ret = hook_stop(err);
	if (ret == 0)
		ret = hook_args(s, args, err);
	if (ret < 0)
		return ret;
	signal(SIGCHLD, SIG_DFL);
	hook_forget_environment();
	ret = hook_fork(err);
	return ret < 0 ? ret : HOOK_FORWARD;
}

/* ---------------------------------------------------------------- the command */

static int hook_stage(int argc, char **argv, enum stage *ret, struct err *err)
{
	static const struct {
		const char *name;
		enum stage stage;
	} stages[] = {
		{ "createRuntime", STAGE_START },
		{ "prestart", STAGE_START },
		{ "poststart", STAGE_START },
		{ "poststop", STAGE_STOP },
	};

	*ret = STAGE_OF_STATE;
	if (argc > 2)
		return err_set(err, EINVAL, "hook: '%s': there is one stage", argv[2]);
	if (argc < 2)
		return 0;
	for (unsigned i = 0; i < ARRAY_SIZE(stages); i++) {
		if (strcmp(argv[1], stages[i].name) == 0) {
			*ret = stages[i].stage;
			return 0;
		}
	}
	return err_set(err, EINVAL,
		       "hook: '%s' is not createRuntime, poststart or poststop: in the others "
		       "nothing can be published",
		       argv[1]);
}

/* For a container that has ports to publish. */
static int hook_act(struct state *s, enum stage stage, struct publish *args, struct err *err)
{
	bool stop = stage == STAGE_STOP ||
		    (stage == STAGE_OF_STATE && (s->pid == 0 || strcmp(s->status, "stopped") == 0));
	int ret;

	if (chdir(s->bundle) != 0) {
		if (stop && errno == ENOENT)
			return HOOK_DONE;
		return err_sys(err, errno, "bundle '%s'", s->bundle);
	}
	ret = stop ? hook_stop(err) : hook_start(s, args, err);
	if (ret < 0) {
		hook_tame(err->text, '\0');
		hook_note(err->text);
	}
	return ret;
}

int hook_run(int argc, char **argv, FILE *in, struct publish *ret, struct err *err)
{
	struct publish args = { .n = 0 };
	struct state s = { .json = NULL };
	enum stage stage;
	int code;

	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		fputs(hook_usage, stdout);
		return HOOK_DONE;
	}
	code = hook_stage(argc, argv, &stage, err);
	if (code < 0)
		return code;
	code = state_read(in, &s, err);
	if (code == 0)
		code = state_unpack(&s, err);
	if (code == 0 && *s.publish)
		code = hook_act(&s, stage, &args, err);
	json_decref(s.json);
	if (code == HOOK_FORWARD)
		*ret = args;
	else
		publish_free(&args);
	return code;
}
