/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fdpass.c - messages with descriptors
 */
#include "ns/fdpass.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util.h"

#define FDPASS_SPACE CMSG_SPACE(sizeof(int) * FDPASS_MAX)

int fdpass_send(int sock, const void *data, size_t len, const int *fds, unsigned n)
{
	char control[FDPASS_SPACE] __attribute__((aligned(8))) = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c = (struct cmsghdr *)control;
	ssize_t ret;

	fwd_assert(n <= FDPASS_MAX);
	if (n > 0) {
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n);
	}
	do
		ret = sendmsg(sock, &msg, MSG_NOSIGNAL);
	while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : 0;
}

/* Take the descriptors of @c: as many as may be, and close the others. */
static unsigned fdpass_take(const struct cmsghdr *c, int *ret_fds, unsigned max)
{
	unsigned n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));

	for (unsigned i = 0; i < n; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
		if (i < max)
			ret_fds[i] = fd;
		else
			close(fd);
	}
	return n < max ? n : max;
}

ssize_t fdpass_receive(int sock, void *buf, size_t size, int *ret_fds, unsigned max,
		       unsigned *ret_n, int flags)
{
	char control[FDPASS_SPACE] __attribute__((aligned(8)));
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = sizeof(control) };
	const struct cmsghdr *c;
	ssize_t ret;

	*ret_n = 0;
	do
		ret = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | flags);
	while (ret < 0 && errno == EINTR);
	if (ret < 0)
		return -errno;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		*ret_n = fdpass_take(c, ret_fds, max);
	return ret;
}
