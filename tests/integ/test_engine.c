/* SPDX-License-Identifier: Apache-2.0 */
/* Which engine runs, why, and real servers behind each of them. */

#include "lib.h"

#include <fcntl.h>

/* The log says which engine was asked for. */
EACH_ENGINE(engine, chosen_engine_is_logged, 10)
{
	struct world *w = world_up(CT_LO, v);

	fwd_start(w, ARGS("-t", "8080"));
	cr_expect(fwd_log_has(w, v->engine), "%s", fwd_log(w));
	world_down(w);
}

/* Start without --engine; returns the log's name. */
static void start_plain(struct world *w, unsigned flags)
{
	static char log[64], pid_path[64], pid[16];
	char text[16];
	struct run r;

	w->fwd_flags = flags;
	snprintf(log, sizeof(log), "%s/log", w->dir);
	snprintf(pid_path, sizeof(pid_path), "%s/pid", w->dir);
	snprintf(pid, sizeof(pid), "%d", w->ct_pid);
	r = fwd_run(w, ARGS("-l", log, "-P", pid_path, "-t", "8080:80", pid));
	cr_assert_eq(r.status, 0, "%s", r.out);
	cr_assert(read_file(pid_path, text, sizeof(text)) > 0);
	w->fwd = atoi(text);
	guard_pid(w->fwd);
}

static bool file_has(struct world *w, const char *text)
{
	static char log[4096];
	char path[64];

	snprintf(path, sizeof(path), "%s/log", w->dir);
	return read_file(path, log, sizeof(log)) > 0 && strstr(log, text);
}

/* Where io_uring is refused, epoll takes its place, and the log says why. */
Test(engine, epoll_replaces_a_refused_io_uring, .timeout = 10 + TEST_LATE_SECS)
{
	struct world *w = world_up(CT_LO, &uring_v4);
	int l = tcp_listen(&w->ct, "0.0.0.0", 80);
	struct conn c;

	start_plain(w, SPAWN_NO_URING);
	c = conn_open(w, 8080, l);
	cr_expect(conn_works(&c));
	cr_expect(file_has(w, "engine epoll, because io_uring"));
	world_down(w);
}

/* --engine=io_uring where it is refused is an error, not something else in its place. */
Test(engine, refused_io_uring_is_an_error_on_request, .timeout = 10 + TEST_LATE_SECS)
{
	struct world *w = world_up(CT_LO, &uring_v4);
	struct run r;

	w->fwd_flags = SPAWN_NO_URING;
	r = fwd_fails(w, ARGS("-t", "8080:80"));
	cr_expect_eq(r.status, 1, "%s", r.out);
	cr_expect(strstr(r.out, "fwd: ") == r.out && strstr(r.out, "io_uring"), "%s", r.out);
}

/* Otherwise io_uring is the default. */
Test(engine, io_uring_is_the_default, .timeout = 10 + TEST_LATE_SECS)
{
	struct world *w = world_up(CT_LO, &uring_v4);

	start_plain(w, 0);
	if (!file_has(w, ", io_uring"))
		cr_skip_test("io_uring is refused on this machine");
	world_down(w);
}

/* ------------------------------------------------------------ real servers */

static bool answers(void *arg)
{
	struct world *w = arg;
	int fd = tcp_connect(&w->ct, NULL, 0, CT[w->v->fam], 80);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

	cr_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

/* Run nginx in the container, on port 80 of all addresses. */
static struct proc nginx_start(struct world *w)
{
	static const char format[] =
		"user root; daemon off; master_process off; pid %s/nginx.pid; error_log "
		"%s/error.log;\n"
		"events { }\n"
		"http {\n"
		"  log_format who '$remote_addr $remote_port $status $body_bytes_sent';\n"
		"  access_log %s/access.log who;\n"
		"  client_body_temp_path %s/t1; proxy_temp_path %s/t2; fastcgi_temp_path %s/t3;\n"
		"  uwsgi_temp_path %s/t4; scgi_temp_path %s/t5;\n"
		"  server { listen 80; listen [::]:80; root %s; }\n"
		"}\n";
	static char conf[64];
	static const char *const argv[] = { "nginx", "-e", "stderr", "-c", conf, NULL };
	const char *d = w->dir;
	char text[1024];
	struct proc p;

	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	if (access("/usr/sbin/nginx", X_OK))
		cr_skip_test("nginx is not installed");
	snprintf(conf, sizeof(conf), "%s/nginx.conf", d);
	snprintf(text, sizeof(text), format, d, d, d, d, d, d, d, d, d);
	write_text(conf, text);
	p = ns_spawn(&w->ct, SPAWN_CAPTURE, argv);
	if (!eventually(answers, w, 5000)) {
		char out[2048] = "";

		kill(p.pid, SIGKILL);
		proc_output(&p, out, sizeof(out), 1000);
		cr_assert_fail("nginx does not start: %s", out);
	}
	return p;
}

/* Fetch /@name over @fd; the length of what came, with headers. */
static size_t http_get(int fd, const char *name)
{
	static char buf[65536];
	char request[128];
	size_t got = 0;
	ssize_t n;

	snprintf(request, sizeof(request),
		 "GET /%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", name);
	cr_assert(!sock_put(fd, request, strlen(request)));
	while ((n = sock_read(fd, buf, sizeof(buf))) > 0)
		got += (size_t)n;
	cr_expect_eq(n, 0, "%s", strerror((int)-n));
	return got;
}

struct line {
	const char *path;
	const char *text;
};

static bool log_line(void *arg)
{
	static char log[65536];
	struct line *l = arg;

	return read_file(l->path, log, sizeof(log)) > 0 && strstr(log, l->text);
}

/* nginx logs the client's own address and port, and what it sends arrives whole. */
EACH_VARIANT(engine, nginx_logs_the_client, 20)
{
	static char big[3 << 20];
	struct world *w = world_up(CT_ADDR, v);
	char path[64], text[128];
	struct line line = { path, text };
	size_t got;
	int c, fd;

	nginx_start(w);
	snprintf(path, sizeof(path), "%s/big", w->dir);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	cr_assert(write(fd, big, sizeof(big)) == sizeof(big));
	close(fd);
	fwd_start(w, ARGS("-t", "8080:80"));
	c = tcp_connect(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	cr_assert_geq(c, 0);
	got = http_get(c, "big");
	cr_expect(got > sizeof(big) && got < sizeof(big) + 1000, "%zu bytes", got);
	snprintf(path, sizeof(path), "%s/access.log", w->dir);
	snprintf(text, sizeof(text), "%s %d 200 %zu\n", CLIENT[v->fam], self_port(c), sizeof(big));
	cr_expect(eventually(log_line, &line, 2000), "no line '%s'", text);
	world_down(w);
}

/* socat in the container prints the client's address and port. */
EACH_VARIANT(engine, socat_sees_the_client, 20)
{
	static const char *const listen[] = { "TCP4-LISTEN:80,reuseaddr",
					      "TCP6-LISTEN:80,reuseaddr,ipv6only=1" };
	struct world *w = world_up(CT_ADDR, v);
	const char *argv[] = { "socat", listen[v->fam],
			       "SYSTEM:echo $SOCAT_PEERADDR $SOCAT_PEERPORT", NULL };
	char text[128] = "", want[128];
	struct proc p;
	int64_t end = now_ms() + 3000;
	int c = -1;

	if (access("/usr/bin/socat", X_OK))
		cr_skip_test("socat is not installed");
	fwd_start(w, ARGS("-t", "8080:80"));
	p = ns_spawn(&w->ct, SPAWN_CAPTURE, argv);
	/* Until socat listens, connections are reset. */
	while (now_ms() < end) {
		c = tcp_connect(&w->client[0], NULL, 0, HOST[v->fam], 8080);
		if (c >= 0 && sock_next(c, 2000) > 0)
			break;
		if (c >= 0)
			close(c);
		c = -1;
		usleep(5000);
	}
	cr_assert_geq(c, 0);
	cr_expect_gt(sock_read(c, text, sizeof(text) - 1), 0);
	snprintf(want, sizeof(want), v->fam == V4 ? "%s %d\n" : "[%s] %d\n",
		 v->fam == V4 ? CLIENT[V4] : "fd00:0001:0000:0000:0000:0000:0000:0002",
		 self_port(c));
	cr_expect_str_eq(text, want);
	close(c);
	cr_expect_eq(proc_wait(p.pid, 2000), 0);
	world_down(w);
}
