/* SPDX-License-Identifier: Apache-2.0 */

/*
 * splice(2) from a socket into a pipe says EAGAIN both when the socket has
 * nothing and when the pipe is full: who wants to know which must count what is
 * in the pipe.
 *
 * SPLICE_F_NONBLOCK is only about the pipe: on a socket without O_NONBLOCK the
 * same call waits for data.
 */

#include "probe.h"

static int pump(int sock, int pipe_in)
{
	errno = 0;
	return (int)splice(sock, NULL, pipe_in, NULL, 65536, SPLICE_F_NONBLOCK);
}

int main(void)
{
	char buf[65536] = { 0 };
	int sv[2];
	int p[2];

	probe_enter_lo();
	probe_pair(sv);
	probe_ok(fcntl(sv[1], F_SETFL, O_NONBLOCK), "O_NONBLOCK");
	probe_ok(pipe2(p, O_CLOEXEC | O_NONBLOCK), "pipe2");
	probe_ok(fcntl(p[1], F_SETPIPE_SZ, 4096), "F_SETPIPE_SZ");

	probe_check(pump(sv[1], p[1]) == -1 && errno == EAGAIN, "empty socket, empty pipe: EAGAIN");

	probe_check(send(sv[0], "x", 1, 0) == 1, "send");
	while (write(p[1], buf, sizeof(buf)) > 0)
		; /* until it is full */
	probe_check(pump(sv[1], p[1]) == -1 && errno == EAGAIN, "data, full pipe: EAGAIN");

	while (read(p[0], buf, sizeof(buf)) > 0)
		; /* until it is empty */
	probe_check(pump(sv[1], p[1]) == 1, "data, empty pipe: moved");
	probe_check(pump(sv[1], p[1]) == -1 && errno == EAGAIN, "empty socket, used pipe: EAGAIN");

	/* And the end of the stream is 0 only while the pipe has room. */
	while (write(p[1], buf, sizeof(buf)) > 0)
		;
	close(sv[0]);
	probe_check(pump(sv[1], p[1]) == -1 && errno == EAGAIN, "end of stream, full pipe: EAGAIN");
	while (read(p[0], buf, sizeof(buf)) > 0)
		;
	probe_check(pump(sv[1], p[1]) == 0, "end of stream, empty pipe: 0");
	return 0;
}
