/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Messages with descriptors, over UNIX sockets (SCM_RIGHTS, unix(7)). */

#include <stddef.h>
#include <sys/types.h>

#define FDPASS_MAX 32u /* descriptors of one message */

/* Send @len bytes at @data, and @n descriptors, which stay the caller's. 0 or -errno. */
int fdpass_send(int sock, const void *data, size_t len, const int *fds, unsigned n);

/*
 * Receive @size bytes at most into @buf, and @max descriptors, which are the caller's, and
 * *@ret_n in number; more are closed. @flags are those of recvmsg(2). The number of bytes, 0
 * at the end of file, or -errno.
 */
ssize_t fdpass_receive(int sock, void *buf, size_t size, int *ret_fds, unsigned max,
		       unsigned *ret_n, int flags);
