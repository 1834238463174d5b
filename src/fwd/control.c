/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.c - the server's side of the control socket
 *
 * A client is in one of these states, and each call of control_run() takes it one step
 * further at most, so that no client keeps the main thread from others:
 *
 *	reading --line--> served --answer--> writing --all written--> reading
 *	                     |                  ^
 *	                     `--flows--> waiting for a slice of a worker
 *
 * While an answer is under way nothing more is read from its client. So what a client
 * can make us hold is one line and one answer; flows come in slices, one at a time. A
 * client that has sent its last byte still gets its answers. One that stalls in the
 * middle of a line or of an answer is dropped, and one that is idle for long, or, when
 * there are too many, the one that has been idle for longest.
 *
 * A slice is filled in by a worker. A client that goes away meanwhile leaves its slot
 * behind, which is used again when the worker has given the slice back.
 */
#include "fwd/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "fwd/answer.h"
#include "fwd/ctlsock.h"
#include "fwd/log.h"
#include "util.h"

#define CONTROL_CLIENTS	   16u
#define CONTROL_IDLE_NS	   (60 * 1000000000ull) /* without a request */
#define CONTROL_STALL_NS   (5 * 1000000000ull)	/* in the middle of something */
#define CONTROL_ACCEPT_NS  (100 * 1000000ull)
#define CONTROL_LOCK_TRIES 100
#define CONTROL_LOCK_NS	   (10 * 1000000l)

/* What epoll(7) tells: a client's index, or one of these. */
enum { CONTROL_LISTENER = CONTROL_CLIENTS, CONTROL_EVENT };

struct control_client {
	int fd;	  /* owned; -1: gone, though a slice may still be awaited */
	char *in; /* owned; REQUEST_MAX + 1 bytes */
	size_t n_in;
	char *out; /* owned; what is being written */
	size_t n_out, written;
	bool eof;		   /* it has sent its last byte */
	bool last;		   /* what is being written is the last we say */
	bool flows;		   /* they are being sent, */
	unsigned worker;	   /* those of this one */
	struct snapshot *snapshot; /* owned; NULL before the first time */
	uint64_t active_at;	   /* something moved */
};

/* ---------------------------------------------------------------- the socket file */

/* Several instances that replace one stale file take turns: see control_bind(). */
static int control_lock(int dir)
{
	const struct timespec tick = { .tv_nsec = CONTROL_LOCK_NS };

	for (int i = 0; i < CONTROL_LOCK_TRIES; i++) {
		if (flock(dir, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		nanosleep(&tick, NULL);
	}
	return -EWOULDBLOCK;
}

/* A socket file is in the way: unlink it if nobody listens there. */
static int control_replace(const char *path, const struct control *c, struct err *err)
{
	struct err ignored;
	struct stat st;
	int fd;

	if (fstatat(c->dir, c->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return err_sys(err, errno, "control socket '%s'", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, EEXIST, "control socket '%s': there is another file", path);
	fd = ctlsock_connect(path, &ignored);
	if (fd >= 0) {
		close(fd);
		return err_set(err, EADDRINUSE, "control socket '%s': a running process has it",
			       path);
	}
	if (fd != -ECONNREFUSED)
		return err_sys(err, -fd, "control socket '%s'", path);
	if (unlinkat(c->dir, c->name, 0) != 0)
		return err_sys(err, errno, "control socket '%s': remove the old one", path);
	return 0;
}

/*
 * Between bind(2) and listen(2) a socket looks as if its process were gone. Whoever
 * replaces one holds the lock of the directory, and so does whoever makes one.
 */
static int control_bind(struct control *c, const char *path, struct err *err)
{
	struct sockaddr_un sa;
	struct stat st;
	int ret = ctlsock_addr(path, &sa, err);

	if (ret < 0)
		return ret;
	/* The mode of the file is that of the socket: it never has another (unix_bind_bsd()). */
	if (fchmod(c->fd, 0600) != 0)
		return err_sys(err, errno, "control socket '%s'", path);
	if (bind(c->fd, (struct sockaddr *)&sa, sizeof(sa)) != 0) {
		ret = errno == EADDRINUSE ? control_replace(path, c, err)
					  : err_sys(err, errno, "control socket '%s'", path);
		if (ret == 0 && bind(c->fd, (struct sockaddr *)&sa, sizeof(sa)) != 0)
			ret = err_sys(err, errno, "control socket '%s'", path);
	}
	if (ret < 0)
		return ret;
	if (fstatat(c->dir, c->name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		c->dev = st.st_dev;
		c->ino = st.st_ino;
	}
	if (listen(c->fd, CONTROL_CLIENTS) != 0)
		return err_sys(err, errno, "control socket '%s'", path);
	return 0;
}

void control_unlink(struct control *c)
{
	struct stat st;

	if (c->ino != 0 && fstatat(c->dir, c->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_dev == c->dev && st.st_ino == c->ino)
		unlinkat(c->dir, c->name, 0);
	c->ino = 0;
}

static int control_open_dir(struct control *c, const char *path, struct err *err)
{
	const char *slash = strrchr(path, '/');
	char dir[sizeof(((struct sockaddr_un *)0)->sun_path)];

	c->name = slash ? slash + 1 : path;
	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
	c->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return c->dir < 0 ? err_sys(err, errno, "control socket '%s': directory '%s'", path, dir)
			  : 0;
}

/* ---------------------------------------------------------------- clients */

static void control_want(const struct control *c, const struct control_client *cl, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.u32 = (uint32_t)(cl - c->clients) };

	epoll_ctl(c->epoll, EPOLL_CTL_MOD, cl->fd, &e);
}

static bool control_awaits_slice(const struct control_client *cl)
{
	return cl->snapshot && atomic_load_explicit(&cl->snapshot->busy, memory_order_acquire);
}

static bool control_is_free(const struct control_client *cl)
{
	return cl->fd < 0 && !control_awaits_slice(cl);
}

static void control_drop(struct control_client *cl)
{
	close_fd(&cl->fd);
	free(cl->in);
	free(cl->out);
	cl->in = cl->out = NULL;
	cl->flows = false;
}

/* Have @text, which it takes, written to the client. */
static void control_say(struct control_client *cl, char *text)
{
	cl->out = text;
	cl->n_out = text ? strlen(text) : 0;
	cl->written = 0;
	if (!text)
		control_drop(cl); /* no memory: it sees the end */
}

/* Takes @answer. */
static void control_answer(struct control_client *cl, json_t *answer)
{
	control_say(cl, answer_line(answer));
}

static void control_refuse(struct control_client *cl, const char *why)
{
	cl->last = true;
	control_answer(cl, answer_error(why));
}

/* Whether the client waits for nothing: it could go. */
static bool control_is_idle(const struct control_client *cl)
{
	return cl->fd >= 0 && cl->n_in == 0 && !cl->out && !cl->flows;
}

/* A slot for a new client: a free one, or that of the client that is idle for longest. */
static struct control_client *control_slot(const struct control *c)
{
	struct control_client *oldest = NULL;

	for (unsigned i = 0; i < CONTROL_CLIENTS; i++) {
		struct control_client *cl = &c->clients[i];

		if (control_is_free(cl))
			return cl;
		if (control_is_idle(cl) && (!oldest || cl->active_at < oldest->active_at))
			oldest = cl;
	}
	if (!oldest)
		return NULL;
	control_drop(oldest);
	return control_is_free(oldest) ? oldest : NULL;
}

static bool control_may(const struct control *c, int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == c->uid;
}

/* Send one line to someone who is not let in. */
static void control_turn_away(int fd, const char *why)
{
	char *line = answer_line(answer_error(why));

	if (line && send(fd, line, strlen(line), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		log_debug("control socket: %s", strerror(errno));
	free(line);
	close(fd);
}

static void control_admit(struct control *c, int fd)
{
	struct epoll_event e = { .events = EPOLLIN };
	struct control_client *cl;
	struct snapshot *snapshot;

	if (!control_may(c, fd)) {
		log_warn("control socket: refused a process of another user");
		control_turn_away(fd, "permission denied: only the user who runs fwd may");
		return;
	}
	cl = control_slot(c);
	if (!cl) {
		control_turn_away(fd, "too many clients: try again");
		return;
	}
	snapshot = cl->snapshot;
	*cl = (struct control_client){
		.fd = fd, .in = malloc(REQUEST_MAX + 1), .snapshot = snapshot, .active_at = now_ns()
	};
	e.data.u32 = (uint32_t)(cl - c->clients);
	if (!cl->in || epoll_ctl(c->epoll, EPOLL_CTL_ADD, fd, &e) != 0)
		control_drop(cl);
}

/* The listener is watched, or not. */
static void control_watch(const struct control *c, bool on)
{
	struct epoll_event e = { .events = on ? EPOLLIN : 0, .data.u32 = CONTROL_LISTENER };

	epoll_ctl(c->epoll, EPOLL_CTL_MOD, c->fd, &e);
}

static void control_accept(struct control *c)
{
	int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0) {
		control_admit(c, fd);
	} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
		/* It stays readable: do not ask again at once. */
		c->accept_at = now_ns() + CONTROL_ACCEPT_NS;
		control_watch(c, false);
	}
}

/* ---------------------------------------------------------------- one step of a client */

static void control_write(struct control_client *cl)
{
	ssize_t n = send(cl->fd, cl->out + cl->written, cl->n_out - cl->written,
			 MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			control_drop(cl);
		return;
	}
	cl->active_at = now_ns();
	cl->written += (size_t)n;
	if (cl->written < cl->n_out)
		return;
	free(cl->out);
	cl->out = NULL;
	if (cl->last)
		control_drop(cl);
}

/* Ask a worker for its next slice. */
static void control_ask(struct control *c, struct control_client *cl)
{
	if (!worker_snapshot(c->workers[cl->worker], cl->snapshot))
		control_drop(cl);
}

static void control_begin_flows(struct control *c, struct control_client *cl)
{
	if (!cl->snapshot)
		cl->snapshot = calloc(1, sizeof(*cl->snapshot));
	if (!cl->snapshot) {
		control_drop(cl);
		return;
	}
	*cl->snapshot = (struct snapshot){ .event = c->event };
	cl->flows = true;
	cl->worker = 0;
	control_ask(c, cl);
}

/* A slice has come: send it, and ask for the next. */
static void control_pass_flows(struct control *c, struct control_client *cl)
{
	struct snapshot *s = cl->snapshot;

	if (control_awaits_slice(cl))
		return;
	cl->active_at = now_ns();
	cl->flows = !s->end || cl->worker + 1 < c->n_workers;
	/* A slice can be empty: nothing to say, unless it is the last. */
	if (s->n > 0 || !cl->flows)
		control_answer(cl, answer_flows(s, cl->flows));
	if (cl->fd < 0 || !cl->flows)
		return;
	if (s->end) {
		*s = (struct snapshot){ .event = c->event };
		cl->worker++;
	}
	control_ask(c, cl);
}

static void control_serve_line(struct control *c, struct control_client *cl, size_t len)
{
	struct request req;
	struct err err;

	if (request_parse(cl->in, len, c->env, &req, &err) < 0) {
		control_answer(cl, answer_error(err.text));
		return;
	}
	if (req.kind == REQUEST_FLOWS)
		control_begin_flows(c, cl);
	else
		control_answer(cl, c->serve(c->ctx, &req));
	request_free(&req);
}

/* Serve the first line that has been read. False if there is none yet. */
static bool control_next_line(struct control *c, struct control_client *cl)
{
	char *end = memchr(cl->in, '\n', cl->n_in);
	size_t len = end ? (size_t)(end - cl->in) : cl->n_in;

	if (!end && len > REQUEST_MAX) {
		control_refuse(cl, "request is longer than 65536 bytes");
		return true;
	}
	/* The last line may do without a newline. */
	if (!end && !(cl->eof && len > 0))
		return false;
	control_serve_line(c, cl, len);
	if (cl->fd < 0)
		return true;
	fwd_assert(cl->in);
	len += end ? 1 : 0;
	cl->n_in -= len;
	memmove(cl->in, cl->in + len, cl->n_in);
	return true;
}

static void control_read(struct control_client *cl)
{
	ssize_t n = recv(cl->fd, cl->in + cl->n_in, REQUEST_MAX + 1 - cl->n_in, MSG_DONTWAIT);

	if (n > 0) {
		cl->n_in += (size_t)n;
		cl->active_at = now_ns();
	} else if (n == 0) {
		cl->eof = true;
	} else if (errno != EAGAIN && errno != EINTR) {
		control_drop(cl);
	}
}

/* What to wait for. A socket that can be written to calls us again at once. */
static uint32_t control_events(const struct control_client *cl)
{
	fwd_assert(cl->in);
	if (!cl->out && cl->flows)
		return control_awaits_slice(cl) ? 0 : EPOLLOUT;
	return cl->out || cl->eof || cl->n_in > REQUEST_MAX || memchr(cl->in, '\n', cl->n_in)
		       ? EPOLLOUT
		       : EPOLLIN;
}

static void control_step(struct control *c, struct control_client *cl)
{
	if (cl->out)
		control_write(cl);
	else if (cl->flows)
		control_pass_flows(c, cl);
	else if (!control_next_line(c, cl) && cl->eof)
		control_drop(cl);
	else if (!cl->out && !cl->flows && cl->fd >= 0)
		control_read(cl);
	if (cl->fd >= 0)
		control_want(c, cl, control_events(cl));
}

/* A worker has filled a slice. */
static void control_on_event(struct control *c)
{
	uint64_t ignored;

	if (read(c->event, &ignored, sizeof(ignored)) < 0)
		return;
	for (unsigned i = 0; i < CONTROL_CLIENTS; i++)
		if (c->clients[i].fd >= 0 && c->clients[i].flows && !c->clients[i].out)
			control_step(c, &c->clients[i]);
}

/* ---------------------------------------------------------------- time */

static uint64_t control_deadline(const struct control_client *cl)
{
	/* A worker that takes its time is not the client's fault. */
	if (cl->fd < 0 || (cl->flows && !cl->out))
		return UINT64_MAX;
	return cl->active_at + (control_is_idle(cl) ? CONTROL_IDLE_NS : CONTROL_STALL_NS);
}

int control_interval(const struct control *c)
{
	uint64_t first = c->accept_at ? c->accept_at : UINT64_MAX, now = now_ns();

	for (unsigned i = 0; c->fd >= 0 && i < CONTROL_CLIENTS; i++) {
		uint64_t deadline = control_deadline(&c->clients[i]);

		if (deadline < first)
			first = deadline;
	}
	if (first == UINT64_MAX)
		return -1;
	return first <= now ? 0 : (int)((first - now) / 1000000 + 1);
}

static void control_expire(struct control *c)
{
	uint64_t now = now_ns();

	for (unsigned i = 0; i < CONTROL_CLIENTS; i++)
		if (control_deadline(&c->clients[i]) <= now)
			control_drop(&c->clients[i]);
	if (c->accept_at && c->accept_at <= now) {
		c->accept_at = 0;
		control_watch(c, true);
	}
}

/* ---------------------------------------------------------------- for the caller */

static int control_prepare(struct control *c, struct err *err)
{
	struct epoll_event listener = { .events = EPOLLIN, .data.u32 = CONTROL_LISTENER };
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = CONTROL_EVENT };

	c->clients = calloc(CONTROL_CLIENTS, sizeof(*c->clients));
	if (!c->clients)
		return err_sys(err, ENOMEM, "control socket");
	for (unsigned i = 0; i < CONTROL_CLIENTS; i++)
		c->clients[i].fd = -1;
	c->epoll = epoll_create1(EPOLL_CLOEXEC);
	c->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->epoll < 0 || c->event < 0 || c->fd < 0 ||
	    epoll_ctl(c->epoll, EPOLL_CTL_ADD, c->event, &event) != 0 ||
	    epoll_ctl(c->epoll, EPOLL_CTL_ADD, c->fd, &listener) != 0)
		return err_sys(err, errno, "control socket");
	return 0;
}

int control_open(struct control *c, const char *path, const struct portspec_env *env,
		 struct err *err)
{
	struct sockaddr_un sa;
	int ret;

	*c = (struct control){
		.fd = -1, .dir = -1, .epoll = -1, .event = -1, .uid = geteuid(), .env = env
	};
	/* Now, because it opens a file, which may be impossible later (confine.h). */
	json_object_seed(0);
	ret = ctlsock_addr(path, &sa, err);
	if (ret == 0)
		ret = control_open_dir(c, path, err);
	if (ret == 0)
		ret = control_prepare(c, err);
	if (ret == 0) {
		ret = control_lock(c->dir);
		if (ret < 0)
			ret = err_sys(err, -ret, "control socket '%s': lock its directory", path);
		else
			ret = control_bind(c, path, err);
		flock(c->dir, LOCK_UN);
	}
	if (ret < 0)
		control_close(c);
	return ret;
}

int control_fd(const struct control *c)
{
	return c->epoll;
}

void control_run(struct control *c)
{
	struct epoll_event e[CONTROL_CLIENTS + 2];
	int n = epoll_wait(c->epoll, e, ARRAY_SIZE(e), 0);

	for (int i = 0; i < n; i++) {
		struct control_client *cl = &c->clients[e[i].data.u32 % CONTROL_CLIENTS];

		if (e[i].data.u32 == CONTROL_EVENT)
			control_on_event(c);
		else if (e[i].data.u32 == CONTROL_LISTENER)
			control_accept(c);
		else if (cl->fd >= 0 && e[i].events & (EPOLLHUP | EPOLLERR))
			control_drop(cl); /* closed in both directions */
		else if (cl->fd >= 0)
			control_step(c, cl);
	}
	control_expire(c);
}

void control_close(struct control *c)
{
	control_unlink(c);
	for (unsigned i = 0; c->clients && i < CONTROL_CLIENTS; i++) {
		control_drop(&c->clients[i]);
		free(c->clients[i].snapshot);
	}
	free(c->clients);
	c->clients = NULL;
	close_fd(&c->fd);
	close_fd(&c->dir);
	close_fd(&c->epoll);
	close_fd(&c->event);
}
