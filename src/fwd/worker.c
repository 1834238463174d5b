/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.c - a thread that forwards
 *
 * Turn after turn: wait for completions and handle them, free the flows that
 * have ended, end what has waited too long. Messages come by a queue, and an
 * eventfd that the loop waits for.
 *
 * A listener that cannot accept for want of descriptors or memory is paused, and
 * tried again when a flow has ended or after a while; the clients wait in its
 * backlog meanwhile. A listener that was shut down says EINVAL: that is how
 * the main thread closes one. One that a service manager has passed is never shut down:
 * it is the manager's, too, and clients wait in its backlog for whoever comes next. Such
 * a socket has one worker, which deals its connections out. (If all waited for it, the
 * kernel would wake the same one each time, as long as that is idle.)
 */
#include "fwd/worker.h"

#include <errno.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "fwd/log.h"
#include "util.h"

#define WORKER_DGRAMS	 512u /* buffers: held for one batch only */
#define WORKER_TELL_NS	 (60 * 1000000000ull)
#define WORKER_RESUME_NS (100 * 1000000ull)
#define WORKER_STOP_NS	 (1000 * 1000000ull) /* at most, to end all flows */

struct listener {
	int fd; /* owned; -1: the slot is free */
	uint32_t rule;
	uint16_t port;
	uint16_t generation;
	bool armed;
	bool closing; /* what it still accepts has come too late */
	bool udp;
	bool v6;    /* an AF_INET6 socket */
	bool first; /* of the sockets that share the port */
};

enum mail_kind {
	MAIL_LISTEN,
	MAIL_ARRIVAL,
	MAIL_UNLISTEN,
	MAIL_DELETE,
	MAIL_DROP,
	MAIL_RETARGET,
	MAIL_ASK,
	MAIL_SNAPSHOT,
	MAIL_STOP
};

struct mail {
	enum mail_kind kind;
	int fd;
	uint32_t rule;
	uint16_t port;
	bool first;
	uint32_t question;
	bool drop;
	uint32_t from; /* slot of a flow to go on from */
	struct snapshot *snapshot;
	struct source_targets targets;
	uint32_t ifindex[ADDR_FAMILIES];
};

struct mailbox {
	pthread_mutex_t lock;
	struct mail *v;
	size_t n, max;
	int event; /* eventfd */
};

struct worker {
	struct worker_shared *shared;
	unsigned index;
	int agent_channel; /* not owned */
	int agent_errands; /* not owned */
	pthread_t thread;
	sem_t ready;
	int start_code; /* 0 or -errno, once @ready */
	struct err start_err;
	struct mailbox mailbox;
	struct loop loop;
	struct sockpool sockets;
	struct tcp tcp;
	struct udp udp;
	struct stats stats;
	struct listener *listeners;
	uint32_t n_listeners, max_listeners;
	uint32_t n_dropped; /* of them, slots that are free again */
	unsigned dealt;	    /* connections of passed sockets: whose turn it is */
	unsigned n_paused;
	uint64_t resume_at;	   /* if any is paused */
	uint64_t tell_at;	   /* say no sooner that one is */
	_Atomic uint32_t answered; /* the last question */
	bool agent_gone;
	uint64_t stop_by; /* 0: not stopping */
};

static bool worker_post(struct worker *w, const struct mail *m)
{
	struct mailbox *b = &w->mailbox;
	uint64_t one = 1;
	bool ok = true;

	pthread_mutex_lock(&b->lock);
	if (b->n == b->max) {
		size_t max = b->max ? b->max * 2 : 16;
		struct mail *v = realloc(b->v, max * sizeof(*v));

		ok = v != NULL;
		if (ok) {
			b->v = v;
			b->max = max;
		}
	}
	if (ok)
		b->v[b->n++] = *m;
	pthread_mutex_unlock(&b->lock);
	return ok && write(b->event, &one, sizeof(one)) == sizeof(one);
}

/* ---------------------------------------------------------------- listeners */

static struct loop_ref worker_listener_ref(const struct worker *w, uint32_t i)
{
	const struct listener *l = &w->listeners[i];

	return (struct loop_ref){ .op = l->udp ? OP_UDP_LISTENER : OP_ACCEPT,
				  .generation = l->generation,
				  .slot = i };
}

static void worker_arm(struct worker *w, uint32_t i)
{
	struct listener *l = &w->listeners[i];

	l->armed = true;
	if (l->udp)
		w->loop.ops->datagrams(&w->loop, l->fd, worker_listener_ref(w, i));
	else
		w->loop.ops->accept(&w->loop, l->fd, worker_listener_ref(w, i));
}

/* Tell the main thread, which may wait, that something of a deleted rule is gone. */
static void worker_let_go(const struct worker *w)
{
	uint64_t one = 1;

	if (w->shared->let_go >= 0 && write(w->shared->let_go, &one, sizeof(one)) < 0)
		log_debug("worker: %s", strerror(errno));
}

static void worker_drop_listener(struct worker *w, struct listener *l)
{
	if (l->udp)
		udp_close_listener(&w->udp, (uint32_t)(l - w->listeners));
	w->loop.ops->forget(&w->loop, l->fd);
	close_fd(&l->fd);
	stats_leave(&w->stats.rule[l->rule].listeners);
	if (l->closing)
		worker_let_go(w);
	l->generation++;
	w->n_dropped++;
}

/* A free slot, or FLOW_NONE without memory. */
static uint32_t worker_listener_slot(struct worker *w)
{
	uint32_t i = 0;

	if (w->n_dropped > 0) {
		while (w->listeners[i].fd >= 0)
			i++;
		w->n_dropped--;
		return i;
	}
	if (w->n_listeners == w->max_listeners) {
		uint32_t max = w->max_listeners ? w->max_listeners * 2 : 16;
		struct listener *v = realloc(w->listeners, max * sizeof(*v));

		if (!v)
			return FLOW_NONE;
		w->listeners = v;
		w->max_listeners = max;
	}
	w->listeners[w->n_listeners] = (struct listener){ .fd = -1 };
	return w->n_listeners++;
}

static enum proto worker_proto(const struct worker *w, uint32_t rule)
{
	return w->shared->rules->v[rule].rule.proto;
}

/* Whether a service manager has it, too. */
static bool worker_is_passed(const struct worker *w, uint32_t rule)
{
	return w->shared->rules->v[rule].rule.passed != 0;
}

static bool worker_is_v6(int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	return getsockname(fd, (struct sockaddr *)&sa, &len) == 0 &&
	       len == sizeof(struct sockaddr_in6);
}

static void worker_add_listener(struct worker *w, const struct mail *m)
{
	uint32_t i = worker_listener_slot(w);

	if (i == FLOW_NONE) {
		log_err("port %u: %s", m->port, strerror(ENOMEM));
		close(m->fd);
		return;
	}
	w->listeners[i] = (struct listener){ .fd = m->fd,
					     .rule = m->rule,
					     .port = m->port,
					     .udp = worker_proto(w, m->rule) == PROTO_UDP,
					     .v6 = worker_is_v6(m->fd),
					     .first = m->first,
					     .generation = w->listeners[i].generation };
	stats_add(&w->stats.rule[m->rule].listeners, 1);
	sockpool_warm(&w->sockets, w->listeners[i].udp ? SOCKPOOL_UDP : SOCKPOOL_TCP);
	if (w->stop_by)
		worker_drop_listener(w, &w->listeners[i]);
	else
		worker_arm(w, i);
}

/*
 * Accepting or receiving has ended: @code is EINVAL if the listener was shut down,
 * ECANCELED if we are closing it.
 */
static void worker_listener_failed(struct worker *w, struct listener *l, int code)
{
	l->armed = false;
	if (code == EINVAL || code == ECANCELED || w->stop_by) {
		worker_drop_listener(w, l);
		return;
	}
	if (l->udp && code != ENOMEM && code != ENOBUFS) {
		/* An error of an earlier datagram, not of the socket. */
		worker_arm(w, (uint32_t)(l - w->listeners));
		return;
	}
	stats_add(&w->stats.error[STATS_ACCEPT], 1);
	if (w->n_paused == 0)
		stats_add(&w->stats.accept_paused, 1);
	if (now_ns() >= w->tell_at) {
		w->tell_at = now_ns() + WORKER_TELL_NS;
		log_warn("port %u: accept: %s: waiting until connections have ended", l->port,
			 strerror(code));
	}
	w->n_paused++;
	w->resume_at = now_ns() + WORKER_RESUME_NS;
}

static void worker_resume(struct worker *w)
{
	w->n_paused = 0;
	for (uint32_t i = 0; i < w->n_listeners; i++)
		if (w->listeners[i].fd >= 0 && !w->listeners[i].armed)
			worker_arm(w, i);
}

static struct listener *worker_listener_of(struct worker *w, struct loop_ref ref)
{
	struct listener *l = &w->listeners[ref.slot];

	fwd_assert(l->generation == ref.generation && l->fd >= 0);
	return l;
}

/* Give a connection to the worker whose turn it is; false if it is ours. */
static bool worker_deal(struct worker *w, int fd, const struct listener *l)
{
	struct mail m = { .kind = MAIL_ARRIVAL, .fd = fd, .rule = l->rule, .port = l->port };
	struct worker *to = w->shared->workers[w->dealt++ % w->shared->n_workers];

	return to != w && worker_post(to, &m);
}

static void worker_arrival(struct worker *w, int fd, uint32_t rule, uint16_t port)
{
	if (w->stop_by)
		close(fd);
	else
		tcp_accept(&w->tcp, &(struct tcp_arrival){ .fd = fd, .rule = rule, .port = port });
}

static void worker_on_accept(void *ctx, struct loop_ref ref, int res, buf_id buf)
{
	struct worker *w = ctx;
	struct listener *l = worker_listener_of(w, ref);

	(void)buf;
	if (res < 0) {
		worker_listener_failed(w, l, -res);
		return;
	}
	if (l->closing) {
		tcp_reject(&w->tcp, res);
		return;
	}
	if (!worker_is_passed(w, l->rule) || !worker_deal(w, res, l))
		worker_arrival(w, res, l->rule, l->port);
}

static void worker_udp_listener(const struct worker *w, uint32_t i, struct udp_listener *ret)
{
	const struct listener *l = &w->listeners[i];

	*ret = (struct udp_listener){ .fd = l->fd,
				      .v6 = l->v6,
				      .first = l->first,
				      .index = i,
				      .rule = l->rule,
				      .port = l->port };
}

static void worker_on_datagram(void *ctx, struct loop_ref ref, int res, buf_id buf)
{
	struct worker *w = ctx;
	struct listener *l = worker_listener_of(w, ref);
	struct udp_listener u;

	if (res < 0) {
		worker_listener_failed(w, l, -res);
		return;
	}
	worker_udp_listener(w, ref.slot, &u);
	udp_from_client(&w->udp, &u, buf);
}

/* For the sessions: the listener @index, if it is still there. */
static bool worker_find_listener(void *ctx, uint32_t index, struct udp_listener *ret)
{
	struct worker *w = ctx;

	if (w->listeners[index].fd < 0)
		return false;
	worker_udp_listener(w, index, ret);
	return true;
}

/* ---------------------------------------------------------------- messages */

static void worker_wait_mail(struct worker *w)
{
	w->loop.ops->readable(&w->loop, w->mailbox.event, (struct loop_ref){ .op = OP_MAIL });
}

static void worker_wait_agent(struct worker *w)
{
	w->loop.ops->readable(&w->loop, w->agent_channel, (struct loop_ref){ .op = OP_AGENT });
}

static void worker_close_listener(struct worker *w, uint32_t i)
{
	struct listener *l = &w->listeners[i];

	if (l->fd < 0)
		return;
	l->closing = true;
	if (!l->udp && !worker_is_passed(w, l->rule))
		shutdown(l->fd, SHUT_RDWR);
	if (l->armed)
		w->loop.ops->cancel(&w->loop, l->fd, worker_listener_ref(w, i));
	else
		worker_drop_listener(w, l);
}

static void worker_unlisten_port(struct worker *w, const struct mail *m)
{
	for (uint32_t i = 0; i < w->n_listeners; i++)
		if (w->listeners[i].rule == m->rule && w->listeners[i].port == m->port)
			worker_close_listener(w, i);
}

/*
 * A slice of the flows of a deleted rule; the rest when others had their turn. No flow
 * of it can be new: its listeners are closing.
 */
static void worker_drop_flows(struct worker *w, const struct mail *m)
{
	struct mail rest = { .kind = MAIL_DROP, .rule = m->rule, .from = m->from };

	while (!tcp_drop(&w->tcp, m->rule, &rest.from))
		if (worker_post(w, &rest))
			return;
	stats_deleted(&w->stats, m->rule);
	worker_let_go(w);
}

static void worker_delete_rule(struct worker *w, const struct mail *m)
{
	for (uint32_t i = 0; i < w->n_listeners; i++)
		if (w->listeners[i].rule == m->rule)
			worker_close_listener(w, i);
	if (w->shared->udp)
		udpfamily_forget(&w->udp.family, m->rule);
	if (m->drop) {
		worker_drop_flows(w, m);
	} else {
		stats_deleted(&w->stats, m->rule);
		worker_let_go(w);
	}
}

static void worker_begin_stop(struct worker *w)
{
	w->stop_by = now_ns() + WORKER_STOP_NS;
	for (uint32_t i = 0; i < w->n_listeners; i++)
		worker_close_listener(w, i);
	tcp_close_all(&w->tcp);
	if (w->shared->udp)
		udp_close_all(&w->udp);
}

static void worker_read_mail(struct worker *w, const struct mail *m)
{
	switch (m->kind) {
	case MAIL_LISTEN:
		worker_add_listener(w, m);
		break;
	case MAIL_ARRIVAL:
		worker_arrival(w, m->fd, m->rule, m->port);
		break;
	case MAIL_UNLISTEN:
		worker_unlisten_port(w, m);
		break;
	case MAIL_DELETE:
		worker_delete_rule(w, m);
		break;
	case MAIL_DROP:
		worker_drop_flows(w, m);
		break;
	case MAIL_RETARGET:
		w->tcp.targets = m->targets;
		if (w->shared->udp)
			udp_retarget(&w->udp, m->ifindex);
		break;
	case MAIL_ASK:
		atomic_store_explicit(&w->answered, m->question, memory_order_relaxed);
		break;
	case MAIL_SNAPSHOT:
		snapshot_fill(m->snapshot, &w->tcp, w->shared->udp ? &w->udp : NULL);
		break;
	case MAIL_STOP:
		worker_begin_stop(w);
		break;
	}
}

static void worker_on_mail(void *ctx, struct loop_ref ref, int res, buf_id buf)
{
	struct worker *w = ctx;
	struct mailbox *b = &w->mailbox;
	struct mail *v;
	uint64_t ignored;
	size_t n;

	(void)ref;
	(void)res;
	(void)buf;
	if (read(b->event, &ignored, sizeof(ignored)) < 0 && errno != EAGAIN)
		log_err("worker: %s", strerror(errno));
	pthread_mutex_lock(&b->lock);
	v = b->v;
	n = b->n;
	b->v = NULL;
	b->n = b->max = 0;
	pthread_mutex_unlock(&b->lock);
	for (size_t i = 0; i < n; i++)
		worker_read_mail(w, &v[i]);
	free(v);
	worker_wait_mail(w);
}

static void worker_on_agent(void *ctx, struct loop_ref ref, int res, buf_id buf)
{
	struct worker *w = ctx;

	(void)ref;
	(void)res;
	(void)buf;
	if (tcp_sockets_came(&w->tcp) == 0)
		worker_wait_agent(w);
	else
		w->agent_gone = true; /* the main thread ends the process */
}

/* ---------------------------------------------------------------- the thread */

static void worker_on_flow(void *ctx, struct loop_ref ref, int res, buf_id buf)
{
	tcp_complete(&((struct worker *)ctx)->tcp, ref, res, buf);
}

static void worker_on_session(void *ctx, struct loop_ref ref, int res, buf_id buf)
{
	udp_from_container(&((struct worker *)ctx)->udp, ref, res, buf);
}

static int worker_fd_of(void *ctx, struct loop_ref ref)
{
	struct worker *w = ctx;

	switch (ref.op) {
	case OP_ACCEPT:
	case OP_UDP_LISTENER:
		return w->listeners[ref.slot].fd;
	case OP_MAIL:
		return w->mailbox.event;
	case OP_AGENT:
		return w->agent_channel;
	case OP_UDP_SESSION:
		return udp_fd_of(&w->udp, ref);
	default:
		return tcp_fd_of(&w->tcp, ref);
	}
}

static loop_handler *const worker_handlers[] = {
	[OP_NONE] = NULL,
	[OP_ACCEPT] = worker_on_accept,
	[OP_CONNECT] = worker_on_flow,
	[OP_RECV] = worker_on_flow,
	[OP_SEND] = worker_on_flow,
	[OP_READABLE] = worker_on_flow,
	[OP_WRITABLE] = worker_on_flow,
	[OP_BROKEN] = worker_on_flow,
	[OP_MAIL] = worker_on_mail,
	[OP_AGENT] = worker_on_agent,
	[OP_UDP_LISTENER] = worker_on_datagram,
	[OP_UDP_SESSION] = worker_on_session,
};
_Static_assert(ARRAY_SIZE(worker_handlers) == OP_NUM, "a handler for each operation");

static bool worker_is_done(const struct worker *w)
{
	if (!w->stop_by)
		return false;
	if (now_ns() >= w->stop_by)
		return true;
	for (uint32_t i = 0; i < w->n_listeners; i++)
		if (w->listeners[i].fd >= 0)
			return false;
	return tcp_is_empty(&w->tcp) && (!w->shared->udp || udp_is_empty(&w->udp));
}

static uint64_t worker_deadline(const struct worker *w)
{
	uint64_t first = tcp_deadline(&w->tcp);
	uint64_t udp = w->shared->udp ? udp_deadline(&w->udp) : UINT64_MAX;

	if (udp < first)
		first = udp;
	if (w->n_paused > 0 && w->resume_at < first)
		first = w->resume_at;
	if (w->stop_by && w->stop_by < first)
		first = w->stop_by;
	return first;
}

static void worker_after_udp(struct worker *w)
{
	udp_end(&w->udp);
	udp_tick(&w->udp, now_ns());
	/* What came out of its turn may be what TCP flows wait for. */
	if (w->udp.waited && !w->agent_gone)
		tcp_sockets_came(&w->tcp);
	w->udp.waited = false;
}

static void worker_run(struct worker *w)
{
	while (!worker_is_done(w)) {
		int ret = w->loop.ops->run(&w->loop, worker_deadline(w));
		uint64_t now;

		if (ret < 0) {
			log_err("%s: %s", w->loop.ops->name, strerror(-ret));
			kill(getpid(), SIGTERM); /* the process cannot do its work any more */
			return;
		}
		if (w->shared->udp)
			worker_after_udp(w);
		now = now_ns();
		tcp_tick(&w->tcp, now);
		if ((tcp_reap(&w->tcp) || now >= w->resume_at) && w->n_paused > 0)
			worker_resume(w);
	}
}

static bool worker_make_room(void *ctx)
{
	return udp_make_room(&((struct worker *)ctx)->udp);
}

static int worker_init_udp(struct worker *w, struct err *err)
{
	struct worker_shared *s = w->shared;
	int ret;

	w->udp.tcp = &w->tcp;
	w->udp.pairs = &s->pairs;
	w->udp.table = s->udp_table;
	w->udp.listener_of = worker_find_listener;
	w->udp.ctx = w;
	w->tcp.make_room = worker_make_room;
	w->tcp.room_ctx = w;
	ret = udp_init(&w->udp, &w->loop, s->conf, &w->stats, w->index + 1, err);
	if (ret == 0)
		udp_retarget(&w->udp, s->ifindex);

	return ret;
}

static int worker_init(struct worker *w, struct err *err)
{
	struct worker_shared *s = w->shared;
	int ret;

	w->loop = (struct loop){ .ops = s->engine,
				 .handlers = worker_handlers,
				 .fd_of = worker_fd_of,
				 .ctx = w,
				 .max_fds = s->max_fds };
	/* Two for each direction of each flow, and what an engine holds ready. */
	ret = bufs_init(&w->loop.bufs, 4 * s->max_flows + 256, BUF_SIZE, err);
	if (ret == 0 && s->udp)
		ret = bufs_init(&w->loop.dgrams, WORKER_DGRAMS, DGRAM_SIZE, err);
	if (ret == 0)
		ret = w->loop.ops->init(&w->loop, err);
	if (ret < 0)
		return ret;
	sockpool_init(&w->sockets, w->agent_channel, w->agent_errands);
	w->tcp.sockets = &w->sockets;
	w->tcp.rules = s->rules;
	w->tcp.n_flows = &s->n_flows;
	w->tcp.max_flows = s->max_flows;
	w->tcp.targets = s->targets;
	if (s->udp)
		ret = worker_init_udp(w, err);
	if (ret == 0)
		ret = tcp_init(&w->tcp, &w->loop, s->conf, &w->stats, err);
	if (ret < 0)
		return ret;
	for (unsigned kind = 0; kind < SOCKPOOL_KINDS; kind++)
		if (s->warm[kind])
			sockpool_warm(&w->sockets, (enum sockpool_kind)kind);
	worker_wait_mail(w);
	worker_wait_agent(w);
	return 0;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	char name[16];

	snprintf(name, sizeof(name), "fwd-%s", w->shared->engine->name);
	pthread_setname_np(pthread_self(), name);
	w->start_code = worker_init(w, &w->start_err);
	sem_post(&w->ready);
	if (w->start_code == 0)
		worker_run(w);
	if (w->loop.engine)
		w->loop.ops->fini(&w->loop);
	for (uint32_t i = 0; i < w->n_listeners; i++)
		close_fd(&w->listeners[i].fd);
	free(w->listeners);
	sockpool_fini(&w->sockets);
	tcp_fini(&w->tcp);
	udp_fini(&w->udp);
	bufs_fini(&w->loop.bufs);
	bufs_fini(&w->loop.dgrams);
	return NULL;
}

/* ---------------------------------------------------------------- for the main thread */

void worker_free(struct worker *w)
{
	for (size_t i = 0; i < w->mailbox.n; i++)
		if (w->mailbox.v[i].kind == MAIL_LISTEN || w->mailbox.v[i].kind == MAIL_ARRIVAL)
			close(w->mailbox.v[i].fd);
	free(w->mailbox.v);
	close_fd(&w->mailbox.event);
	pthread_mutex_destroy(&w->mailbox.lock);
	sem_destroy(&w->ready);
	stats_fini(&w->stats);
	free(w);
}

int worker_start(struct worker_shared *shared, unsigned index, const struct agent *agent,
		 struct worker **ret, struct err *err)
{
	struct worker *w = calloc(1, sizeof(*w));
	int code;

	if (!w)
		return err_sys(err, ENOMEM, "worker");
	w->shared = shared;
	w->index = index;
	w->agent_channel = agent->channels[index];
	w->agent_errands = agent->errands[index];
	pthread_mutex_init(&w->mailbox.lock, NULL);
	sem_init(&w->ready, 0, 0);
	w->mailbox.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	code = w->mailbox.event < 0 ? -errno : stats_init(&w->stats, shared->rules->max);
	if (code == 0)
		code = -pthread_create(&w->thread, NULL, worker_main, w);
	if (code < 0) {
		worker_free(w);
		return err_sys(err, -code, "worker");
	}
	while (sem_wait(&w->ready) != 0)
		; /* EINTR */
	if (w->start_code < 0) {
		code = w->start_code;
		*err = w->start_err;
		pthread_join(w->thread, NULL);
		worker_free(w);
		return code;
	}
	*ret = w;
	return 0;
}

void worker_listen(struct worker *w, int fd, uint32_t rule, uint16_t port, bool first)
{
	struct mail m = {
		.kind = MAIL_LISTEN, .fd = fd, .rule = rule, .port = port, .first = first
	};

	if (!worker_post(w, &m))
		close(fd);
}

void worker_unlisten(struct worker *w, uint32_t rule, uint16_t port)
{
	worker_post(w, &(struct mail){ .kind = MAIL_UNLISTEN, .rule = rule, .port = port });
}

void worker_delete(struct worker *w, uint32_t slot, bool drop)
{
	worker_post(w, &(struct mail){ .kind = MAIL_DELETE, .rule = slot, .drop = drop });
}

bool worker_snapshot(struct worker *w, struct snapshot *s)
{
	struct mail m = { .kind = MAIL_SNAPSHOT, .snapshot = s };

	atomic_store_explicit(&s->busy, true, memory_order_relaxed);
	if (worker_post(w, &m))
		return true;
	atomic_store_explicit(&s->busy, false, memory_order_relaxed);
	return false;
}

void worker_retarget(struct worker *w, const struct source_targets *targets,
		     const uint32_t ifindex[ADDR_FAMILIES])
{
	struct mail m = { .kind = MAIL_RETARGET, .targets = *targets };

	memcpy(m.ifindex, ifindex, sizeof(m.ifindex));
	worker_post(w, &m);
}

void worker_ask(struct worker *w, uint32_t question)
{
	worker_post(w, &(struct mail){ .kind = MAIL_ASK, .question = question });
}

uint32_t worker_answered(const struct worker *w)
{
	return atomic_load_explicit(&w->answered, memory_order_relaxed);
}

struct stats *worker_stats(struct worker *w)
{
	return &w->stats;
}

void worker_stop(struct worker *w)
{
	worker_post(w, &(struct mail){ .kind = MAIL_STOP });
}

void worker_join(struct worker *w)
{
	pthread_join(w->thread, NULL);
}
