/* SPDX-License-Identifier: Apache-2.0 */
/* Rules and flows are changed and seen while fwd runs, by its control socket. */

#include "lib.h"

#include <jansson.h>
#include <sys/stat.h>
#include <sys/un.h>

static char path[80]; /* of the control socket */

static struct world *start(enum ct_kind kind, const struct variant *v)
{
	struct world *w = world_up(kind, v);

	snprintf(path, sizeof(path), "%s/ctl", w->dir);
	fwd_start(w, ARGS("-c", path));
	return w;
}

/* Run fwd ctl: its output, after checking its exit status. */
#define CTL(w, want, ...) ctl((w), (want), ARGS(__VA_ARGS__))

static const char *ctl(struct world *w, int want, struct args a)
{
	static struct run r;
	struct args all = ARGS("ctl", path);

	for (unsigned i = 0; i < a.n; i++)
		all.v[all.n++] = a.v[i];
	all.v[all.n] = NULL;
	r = fwd_run(w, all);
	cr_assert_eq(r.status, want, "fwd ctl %s: status %d\n%s", a.v[0], r.status, r.out);
	return r.out;
}

/* The same with --json: an object, which lives until the next call. */
static json_t *ctl_json(struct world *w, const char *command)
{
	static json_t *last;
	const char *text = CTL(w, 0, command, "--json");

	json_decref(last);
	last = json_loads(text, 0, NULL);
	cr_assert(last, "%s", text);
	return last;
}

/*
 * What the control socket answers to @text: its first line, or with @half_close all of
 * it; "" if it only closes.
 */
static const char *say(const char *text, size_t len, bool half_close)
{
	static char answer[1 << 20];
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t n = 0;
	ssize_t r = 0;

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	cr_assert(!connect(fd, (struct sockaddr *)&sa, sizeof(sa)), "%s", strerror(errno));
	sock_timeout(fd, patient(5000));
	while (len > 0 && (r = send(fd, text, len, MSG_NOSIGNAL)) > 0) {
		text += r;
		len -= (size_t)r;
	}
	if (half_close)
		shutdown(fd, SHUT_WR);
	while (n < sizeof(answer) - 1 && (half_close || !memchr(answer, '\n', n)) &&
	       (r = recv(fd, answer + n, sizeof(answer) - 1 - n, 0)) > 0)
		n += (size_t)r;
	answer[n] = '\0';
	close(fd);
	return answer;
}

/* ------------------------------------------------------------ rules */

/* A rule that is added is as good as one from the start; one that is deleted leaves its flows. */
EACH_VARIANT(control, tcp_rule_comes_and_goes, 20)
{
	struct world *w = start(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	struct conn c;

	cr_expect(tcp_refused(&w->client[0], HOST[v->fam], 8080));
	cr_expect_str_eq(CTL(w, 0, "add", "-t", "8080:80"), "1\ttcp 8080:80\ton *:8080\n");
	c = conn_open(w, 8080, l);
	cr_expect_str_eq(peer_of(c.a), self_of(c.c));
	cr_expect(conn_works(&c));
	CTL(w, 0, "delete", "1");
	cr_expect(tcp_refused(&w->client[0], HOST[v->fam], 8080));
	cr_expect(conn_works(&c));
	cr_expect_str_eq(CTL(w, 0, "list"), "");
	/* The port can be had again at once, and the rule has another id. */
	cr_expect_str_eq(CTL(w, 0, "add", "-t", "8080:80"), "2\ttcp 8080:80\ton *:8080\n");
	conn_close(&c);
	world_down(w);
}

EACH_VARIANT(control, udp_rule_comes_and_goes, 20)
{
	struct world *w = start(CT_ADDR, v);
	int app = udp_app(&w->ct, ANY[v->fam], 80);
	int c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
	char text[16];

	for (int i = 0; i < 3; i++) {
		CTL(w, 0, "add", "-u", "8080:80");
		cr_expect_str_eq(udp_ask(c, app), self_of(c));
		CTL(w, 0, "delete", "-u", "8080:80");
		cr_expect_str_eq(CTL(w, 0, "list"), "");
		close(c);
		c = udp_client(&w->client[0], NULL, 0, HOST[v->fam], 8080);
		/* The port is closed, and says so. */
		cr_expect(!udp_put(c, NULL, 0, "ask", 3));
		cr_expect_eq(sock_read(c, text, sizeof(text)), -ECONNREFUSED);
	}
	world_down(w);
}

/* --drop ends what goes on, also after the rule was deleted without. */
EACH_ENGINE(control, drop_resets_established_flows, 20)
{
	struct world *w = start(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	struct conn c[20];

	CTL(w, 0, "add", "-t", "8080:80");
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		c[i] = conn_open(w, 8080, l);
	CTL(w, 0, "delete", "1");
	cr_expect(conn_works(&c[0]));
	CTL(w, 0, "delete", "1", "--drop");
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		cr_expect_eq(sock_next(c[i].c, 2000), -ECONNRESET);
		cr_expect_eq(sock_next(c[i].a, 2000), -ECONNRESET);
	}
	world_down(w);
}

/* If one port of a request cannot be had, nothing of it is opened, in the words of the start. */
EACH_ENGINE(control, adding_is_all_or_none, 20)
{
	struct world *w = start(CT_ADDR, v);
	int taken = tcp_listen(&w->host, ANY[v->fam], 8090);
	const char *out;

	out = CTL(w, 1, "add", "-t", "8081:80", "-u", "8082:80", "-t", "8090:80");
	cr_expect(strstr(out, "cannot listen on tcp port 8090, all addresses: "
			      "Address already in use"),
		  "%s", out);
	cr_expect_str_eq(CTL(w, 0, "list"), "");
	cr_expect(tcp_refused(&w->client[0], HOST[v->fam], 8081));
	close(taken);
	CTL(w, 0, "add", "-t", "8081:80", "-u", "8082:80", "-t", "8090:80");
	out = CTL(w, 1, "add", "-t", "80x80");
	cr_expect(strstr(out, "80x80"), "%s", out);
	world_down(w);
}

/* Rules of the command line are there, too, and an automatic one lists what is open. */
EACH_ENGINE(control, list_shows_where_rules_listen, 20)
{
	struct world *w = world_up(CT_ADDR, v);
	const char *out;
	int l;

	snprintf(path, sizeof(path), "%s/ctl", w->dir);
	fwd_start(w, ARGS("-c", path, "-t", "198.18.1.1%eth0/8000-8002:80-82", "-u", "5353"));
	cr_expect_str_eq(CTL(w, 0, "list"),
			 "1\ttcp 198.18.1.1%eth0/8000-8002:80-82\ton 198.18.1.1%eth0:8000-8002\n"
			 "2\tudp 5353\ton *:5353\n");
	l = tcp_listen(&w->ct, ANY[v->fam], 8888);
	out = CTL(w, 0, "add", "-t", "8888,auto");
	cr_expect(strstr(out, "*:8888"), "%s", out);
	close(l);
	world_down(w);
}

/* Many ports by one request, in no order and not next to each other. */
EACH_ENGINE(control, many_ports_at_once, 20)
{
	enum { N = 64 };
	struct world *w = start(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	char ports[10 * N];
	const char *out;
	size_t len = 0;
	unsigned n = 0;

	for (unsigned i = 0; i < N; i++)
		len += (size_t)snprintf(ports + len, sizeof(ports) - len, "%s%u:80", i ? "," : "",
					10000 + i * 37 % N * 2);
	CTL(w, 0, "add", "-t", ports);
	for (out = CTL(w, 0, "list"); *out; out++)
		n += *out == '\n';
	cr_expect_eq(n, N);
	for (unsigned i = 0; i < N; i += 9) {
		struct conn c = conn_open(w, (int)(10000 + 2 * i), l);

		cr_expect(conn_works(&c), "%u", i);
		conn_close(&c);
	}
	world_down(w);
}

/* Many rules, one after the other: slots are used again, and nothing grows. */
EACH_ENGINE(control, slots_are_used_again, 60)
{
	struct world *w = world_up(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80), fds = 0;
	char id[16];

	snprintf(path, sizeof(path), "%s/ctl", w->dir);
	fwd_start(w, ARGS("--sandbox=off", "-c", path));
	for (int i = 1; i <= 60; i++) {
		struct conn c;

		CTL(w, 0, "add", "-t", "8080:80", "-u", "8080:80");
		c = conn_open(w, 8080, l);
		conn_close(&c);
		snprintf(id, sizeof(id), "%d", 2 * i - 1);
		CTL(w, 0, "delete", id, "-u", "8080:80", "--drop");
		if (i == 10)
			fds = proc_fds(w->fwd);
	}
	cr_expect(fwd_fds_within(w, fds + 16), "%d, after %d", proc_fds(w->fwd), fds);
	world_down(w);
}

/* ------------------------------------------------------------ flows and counters */

struct saying {
	struct world *w;
	const char *text;
};

static bool says(void *arg)
{
	struct saying *s = arg;

	return strstr(CTL(s->w, 0, "stats"), s->text);
}

/* Bytes are counted once they have been passed on: their receiver may be faster. */
static bool stats_say(struct world *w, const char *text)
{
	struct saying s = { w, text };

	return eventually(says, &s, 2000);
}

EACH_VARIANT(control, flows_are_shown, 20)
{
	struct world *w = start(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	json_t *list, *f;
	struct conn c;

	CTL(w, 0, "add", "-t", "8080:80");
	c = conn_open(w, 8080, l);
	cr_expect(passes(c.c, c.a, "four"));
	cr_expect(stats_say(w, "bytes 4 in, 0 out"));
	list = json_object_get(ctl_json(w, "flows"), "flows");
	cr_assert_eq(json_array_size(list), 1);
	f = json_array_get(list, 0);
	cr_expect_str_eq(json_string_value(json_object_get(f, "proto")), "tcp");
	cr_expect_str_eq(json_string_value(json_object_get(f, "client")), self_of(c.c));
	cr_expect_str_eq(json_string_value(json_object_get(f, "local")),
			 endpoint(HOST[v->fam], 8080));
	cr_expect_str_eq(json_string_value(json_object_get(f, "container")),
			 endpoint(CT[v->fam], 80));
	cr_expect_str_eq(json_string_value(json_object_get(f, "shown_as")), self_of(c.c));
	cr_expect_eq(json_integer_value(json_object_get(json_object_get(f, "bytes"), "in")), 4);
	cr_expect(strstr(CTL(w, 0, "flows"), self_of(c.c)));
	world_down(w);
}

/* More than fit into one slice, over several workers: each is shown once. */
EACH_ENGINE(control, many_flows_are_shown_once, 60)
{
	enum { N = 500 };
	struct world *w = start(CT_ADDR, v);
	int l = tcp_listen_backlog(&w->ct, ANY[v->fam], 80, N);
	bool seen[65536] = { false }, more = true;
	char *lines, *save = NULL;
	json_t *f;
	size_t i;
	int n = 0;

	CTL(w, 0, "add", "-t", "8080:80");
	for (int k = 0; k < N; k++)
		conn_open(w, 8080, l);
	lines = strdup(say("{\"command\":\"flows\"}", 19, true));
	for (char *line = strtok_r(lines, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		json_t *slice = json_loads(line, 0, NULL);

		cr_assert(slice, "%s", line);
		json_array_foreach(json_object_get(slice, "flows"), i, f)
		{
			const char *client = json_string_value(json_object_get(f, "client"));
			int port = atoi(strrchr(client, ':') + 1);

			cr_expect(!seen[port], "%s is shown twice", client);
			seen[port] = true;
			n++;
		}
		more = json_is_true(json_object_get(slice, "more"));
		json_decref(slice);
	}
	cr_expect(n == N && !more, "%d flows", n);
	free(lines);
	world_down(w);
}

/*
 * Prometheus' text format: each sample belongs to the metric whose HELP and TYPE stand
 * before it, no series occurs twice, and a counter's name ends in _total.
 */
static void check_exposition(char *text)
{
	char *lines[512], name[64] = "", type[16] = "", *save = NULL;
	unsigned n = 0;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *value;

		if (strncmp(line, "# HELP ", 7) == 0) {
			cr_expect_eq(sscanf(line, "# HELP %63s %*s", name), 1, "%s", line);
			continue;
		}
		if (strncmp(line, "# TYPE ", 7) == 0) {
			char of[64] = "";

			cr_expect_eq(sscanf(line, "# TYPE %63s %15s", of, type), 2, "%s", line);
			cr_expect_str_eq(of, name);
			cr_expect_eq(strcmp(type, "counter") == 0,
				     strlen(name) > 6 && !strcmp(name + strlen(name) - 6, "_total"),
				     "%s", line);
			continue;
		}
		cr_expect(strncmp(line, name, strlen(name)) == 0 &&
				  strchr("{ ", line[strlen(name)]),
			  "%s, after %s", line, name);
		value = strrchr(line, ' ');
		cr_assert(value && value[1] && value[1 + strspn(value + 1, "0123456789")] == '\0',
			  "%s", line);
		*value = '\0';
		for (unsigned i = 0; i < n; i++)
			cr_expect_str_neq(lines[i], line);
		cr_assert_lt(n, ARRAY_SIZE(lines));
		lines[n++] = line;
	}
	cr_expect_gt(n, 10);
}

EACH_ENGINE(control, stats_are_also_prometheus_text, 20)
{
	struct world *w = start(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80);
	struct conn c;
	char text[8192];

	CTL(w, 0, "add", "-t", "8080:80", "-u", "8080:80");
	c = conn_open(w, 8080, l);
	cr_expect(passes(c.c, c.a, "four"));
	cr_expect(stats_say(w, "tcp 8080:80: flows 1 now, 1 ever; bytes 4 in, 0 out"));
	snprintf(text, sizeof(text), "%s", CTL(w, 0, "stats", "--format=prometheus"));
	cr_expect(strstr(text, "fwd_flows{rule=\"1\",proto=\"tcp\"} 1\n"));
	cr_expect(strstr(text, "fwd_bytes_total{rule=\"1\",proto=\"tcp\",direction=\"in\"} 4\n"));
	check_exposition(text);
	/* What deleted rules have done stays in the sum. */
	CTL(w, 0, "delete", "1", "2", "--drop");
	cr_expect(strstr(CTL(w, 0, "stats"), "1 ever; bytes 4 in, 0 out"));
	world_down(w);
}

/* ------------------------------------------------------------ the socket */

/* It is for its user alone, and goes with fwd. */
EACH_ENGINE(control, socket_is_private_and_goes, 10)
{
	struct world *w = start(CT_LO, v);
	struct stat st;

	cr_assert(!stat(path, &st));
	cr_expect_eq(st.st_mode & 07777, 0600);
	world_down(w);
	cr_expect(stat(path, &st) != 0 && errno == ENOENT);
}

/* One that a killed fwd has left is replaced; one that is in use is not, nor another file. */
EACH_ENGINE(control, stale_socket_is_replaced, 20)
{
	struct world *w = start(CT_LO, v);
	char other[96], longer[160];
	struct run r;
	FILE *f;

	r = fwd_fails(w, ARGS("-c", path, "-t", "8081"));
	cr_expect_eq(r.status, 1);
	cr_expect(strstr(r.out, "a running process has it"), "%s", r.out);
	cr_expect_str_eq(CTL(w, 0, "list"), "");

	cr_expect_eq(fwd_stop(w, SIGKILL), WAIT_SIGNAL + SIGKILL);
	cr_expect(!access(path, F_OK));
	cr_expect(strstr(CTL(w, 1, "list"), "nobody listens there"));
	fwd_start(w, ARGS("-c", path));
	CTL(w, 0, "list");

	snprintf(other, sizeof(other), "%s/file", w->dir);
	f = fopen(other, "w");
	cr_assert(f);
	fclose(f);
	r = fwd_fails(w, ARGS("-c", other));
	cr_expect(r.status == 1 && strstr(r.out, "there is another file"), "%s", r.out);
	snprintf(longer, sizeof(longer), "%s/%0110d", w->dir, 0);
	r = fwd_fails(w, ARGS("-c", longer));
	cr_expect(r.status == 1 && strstr(r.out, "longer than"), "%s", r.out);
	world_down(w);
}

/* Whatever comes, the answer says what is wrong with it, and the next client is served. */
EACH_ENGINE(control, bad_requests_are_answered, 20)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{ "hello\n", "request is no JSON" },
		{ "\n", "request is no JSON" },
		{ "[]\n", "request is no JSON object" },
		{ "{}\n", "command" },
		{ "{\"command\": 1}\n", "request: " },
		{ "{\"command\": \"stop\"}\n", "unknown command 'stop'" },
		{ "{\"command\": \"list\", \"tcp\": []}\n", "request: " },
		{ "{\"command\": \"list\", \"command\": \"add\"}\n", "duplicate" },
		{ "{\"command\": \"add\"}\n", "nothing to add" },
		{ "{\"command\": \"add\", \"tcp\": \"80\"}\n", "'tcp' is not a list" },
		{ "{\"command\": \"add\", \"tcp\": [80]}\n", "no string" },
		{ "{\"command\": \"add\", \"tcp\": [\"80:\"]}\n", "80:" },
		{ "{\"command\": \"delete\", \"ids\": [0]}\n", "no id" },
		{ "{\"command\": \"delete\", \"ids\": [7]}\n", "no such rule: 7" },
		{ "{\"command\": \"delete\", \"tcp\": [\"80\"]}\n", "no such rule: tcp 80" },
	};
	struct world *w = start(CT_LO, v);

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		const char *answer = say(bad[i].text, strlen(bad[i].text), false);

		cr_expect(strstr(answer, "\"ok\":false") && strstr(answer, bad[i].why),
			  "%s gives %s", bad[i].text, answer);
	}
	/* The last line may do without a newline, if it is the last. */
	cr_expect(strstr(say("{\"command\":\"list\"}", 18, true), "\"ok\":true"));
	cr_expect_str_eq(CTL(w, 0, "list"), "");
	cr_expect(fwd_idle(w));
	world_down(w);
}

EACH_ENGINE(control, endless_line_is_cut_short, 20)
{
	static char line[200000];
	struct world *w = start(CT_LO, v);

	memset(line, 'x', sizeof(line));
	cr_expect(strstr(say(line, sizeof(line), false), "longer than 65536 bytes"));
	cr_expect_str_eq(CTL(w, 0, "list"), "");
	world_down(w);
}

/* Clients that say nothing, or stop in the middle, are in nobody's way. */
EACH_ENGINE(control, silent_clients_do_not_disturb, 30)
{
	struct world *w = start(CT_ADDR, v);
	int l = tcp_listen(&w->ct, ANY[v->fam], 80), fd[40];
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct conn c;

	CTL(w, 0, "add", "-t", "8080:80");
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	for (unsigned i = 0; i < ARRAY_SIZE(fd); i++) {
		fd[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		cr_assert(!connect(fd[i], (struct sockaddr *)&sa, sizeof(sa)));
		/* Every fourth in the middle of a request. */
		if (i % 4 == 0)
			cr_expect_eq(send(fd[i], "{\"com", 5, MSG_NOSIGNAL), 5);
	}
	c = conn_open(w, 8080, l);
	cr_expect(conn_works(&c));
	cr_expect(strstr(CTL(w, 0, "list"), "8080:80"));
	cr_expect(fwd_idle(w));
	for (unsigned i = 0; i < ARRAY_SIZE(fd); i++)
		close(fd[i]);
	world_down(w);
}
