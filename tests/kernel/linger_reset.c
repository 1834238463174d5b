/* SPDX-License-Identifier: Apache-2.0 */

/*
 * close(2) with SO_LINGER on and 0 seconds sends RST, and the peer still reads
 * what was sent before: first the data, then ECONNRESET, then the end. The same
 * by recv(2) and by splice(2).
 */

#include <poll.h>

#include "probe.h"

static void send_and_reset(int fd)
{
	struct linger l = { .l_onoff = 1, .l_linger = 0 };

	probe_check(send(fd, "hello", 5, 0) == 5, "send");
	probe_ok(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)), "SO_LINGER");
	close(fd);
}

static void wait_for_reset(int fd)
{
	struct pollfd p = { .fd = fd };

	probe_check(poll(&p, 1, 5000) == 1, "the reset arrives");
	probe_check((p.revents & (POLLERR | POLLHUP)) == (POLLERR | POLLHUP),
		    "POLLERR and POLLHUP");
}

int main(void)
{
	char buf[64];
	int sv[2];
	int p[2];

	probe_enter_lo();

	probe_pair(sv);
	send_and_reset(sv[0]);
	wait_for_reset(sv[1]);
	probe_check(recv(sv[1], buf, sizeof(buf), 0) == 5, "recv: data first");
	probe_check(recv(sv[1], buf, sizeof(buf), 0) == -1 && errno == ECONNRESET,
		    "recv: then ECONNRESET");
	probe_check(recv(sv[1], buf, sizeof(buf), 0) == 0, "recv: then the end");
	close(sv[1]);

	probe_pair(sv);
	probe_ok(pipe2(p, O_CLOEXEC | O_NONBLOCK), "pipe2");
	send_and_reset(sv[0]);
	wait_for_reset(sv[1]);
	probe_check(splice(sv[1], NULL, p[1], NULL, 4096, SPLICE_F_NONBLOCK) == 5,
		    "splice: data first");
	probe_check(splice(sv[1], NULL, p[1], NULL, 4096, SPLICE_F_NONBLOCK) == -1 &&
			    errno == ECONNRESET,
		    "splice: then ECONNRESET");
	return 0;
}
