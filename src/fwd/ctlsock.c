/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctlsock.c - where the control socket is
 */
#include "fwd/ctlsock.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "util.h"

int ctlsock_addr(const char *path, struct sockaddr_un *ret, struct err *err)
{
	size_t len = strlen(path);

	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (len == 0)
		return err_set(err, EINVAL, "control socket: the path is empty");
	if (len >= sizeof(ret->sun_path))
		return err_set(err, ENAMETOOLONG,
			       "control socket '%s': the path is longer than %zu bytes (unix(7))",
			       path, sizeof(ret->sun_path) - 1);
	memcpy(ret->sun_path, path, len);
	return 0;
}

int ctlsock_connect(const char *path, struct err *err)
{
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un sa;
	int ret = fd < 0 ? err_sys(err, errno, "socket") : ctlsock_addr(path, &sa, err);

	if (ret < 0)
		return ret;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
		return steal_fd(&fd);
	if (errno == ECONNREFUSED)
		return err_set(err, ECONNREFUSED,
			       "control socket '%s': nobody listens there: has fwd ended?", path);
	return err_sys(err, errno, "control socket '%s'", path);
}
