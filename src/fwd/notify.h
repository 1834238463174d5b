/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Telling the service manager how we are: the protocol of sd_notify(3). */

#include <stdint.h>

struct notify {
	int fd;		      /* connected to it; owned; -1: nobody wants to know */
	uint64_t watchdog_ns; /* it wants to hear from us so often; 0: it does not */
};

/*
 * Connect, as the environment says (NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID), and
 * remove that from the environment, so that no child speaks for us. To be called by
 * the process that was started, before it forks. A socket that cannot be reached is a
 * warning: the service manager, if there is one, will say what it misses.
 */
void notify_open(struct notify *n);
void notify_close(struct notify *n);

/* Send one message, assignments with newlines between them. Never blocks; it may be lost. */
void notify_send(const struct notify *n, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
