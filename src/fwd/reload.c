/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reload.c - the socket by which Podman says that a container's address has changed
 *
 * A client connects, sends one message, reads the answer until the end of file. It
 * waits in the backlog while another is served; one that says nothing holds up nobody
 * but others like it, and its end is seen.
 */
#include "fwd/reload.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "util.h"

#define RELOAD_MESSAGE 256

/* Open the directory of @path, made if need be; and point @r->name behind it. */
static int reload_open_dir(struct reload *r, const char *path)
{
	const char *slash = strrchr(path, '/');
	char dir[4096];

	if (!slash || !slash[1] || (size_t)(slash - path) >= sizeof(dir))
		return -EINVAL;
	r->name = slash + 1;
	snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
	if (mkdir(dir, 0700) != 0 && errno != EEXIST)
		return -errno;
	r->dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return r->dir < 0 ? -errno : 0;
}

static int reload_listen(struct reload *r)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct stat st;
	int n;

	/* Podman's paths are longer than sun_path: so by the directory's descriptor. */
	n = snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/%s", r->dir, r->name);
	if (n >= (int)sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	if (unlinkat(r->dir, r->name, 0) != 0 && errno != ENOENT)
		return -errno;
	r->listen = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (r->listen < 0 || bind(r->listen, (struct sockaddr *)&sa, sizeof(sa)) != 0 ||
	    fstatat(r->dir, r->name, &st, AT_SYMLINK_NOFOLLOW) != 0 || listen(r->listen, 8) != 0)
		return -errno;
	r->ino = st.st_ino;
	return 0;
}

int reload_open(struct reload *r, const char *path, struct err *err)
{
	int ret;

	*r = (struct reload){ .dir = -1, .listen = -1, .conn = -1 };
	ret = reload_open_dir(r, path);
	if (ret == 0)
		ret = reload_listen(r);
	if (ret < 0) {
		reload_close(r);
		return err_sys(err, -ret, "reload socket '%s'", path);
	}
	return 0;
}

void reload_close(struct reload *r)
{
	struct stat st;

	/* It may be that of the next instance already. */
	if (r->dir >= 0 && r->ino && fstatat(r->dir, r->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_ino == r->ino)
		unlinkat(r->dir, r->name, 0);
	close_fd(&r->dir);
	close_fd(&r->listen);
	close_fd(&r->conn);
}

int reload_fd(const struct reload *r)
{
	return r->conn >= 0 ? r->conn : r->listen;
}

static void reload_answer(struct reload *r, const char *text)
{
	send(r->conn, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
	close_fd(&r->conn);
}

/* False, and the reason in @ret_why, if @message is no address as a JSON string. */
static bool reload_parse(const char *message, size_t len, struct addr *ret, const char **ret_why)
{
	json_t *json = json_loadb(message, len, JSON_DECODE_ANY, NULL);
	const char *text = json_string_value(json);
	bool good = false;

	if (!text)
		*ret_why = "not a JSON string";
	else if (!*text)
		good = (*ret = addr_any4, true);
	else if (addr_parse(text, strlen(text), ret))
		good = true;
	else
		*ret_why = "not an address";
	json_decref(json);
	return good;
}

bool reload_read(struct reload *r, struct addr *ret)
{
	char message[RELOAD_MESSAGE];
	const char *why = "too long";
	ssize_t n;

	if (r->conn < 0) {
		r->conn = accept4(r->listen, NULL, NULL, SOCK_CLOEXEC);
		return false;
	}
	n = recv(r->conn, message, sizeof(message), MSG_DONTWAIT | MSG_TRUNC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0)
		close_fd(&r->conn);
	else if (n <= (ssize_t)sizeof(message) && reload_parse(message, (size_t)n, ret, &why))
		return true;
	else
		reload_answer(r, why);
	return false;
}

void reload_done(struct reload *r)
{
	reload_answer(r, "OK");
}
