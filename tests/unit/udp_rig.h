/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * UDP sessions over a loop that does nothing by itself: the test brings the
 * datagrams and completes what ends. Sockets are real ones on the loopback device,
 * so that what leaves in one sendmsg(2) arrives at the app, which has UDP_GRO, in
 * one read.
 */

#include "fwd/udp.h"

#define RIG_SLOTS 256u

struct urig_op {
	struct loop_ref ref;
	bool in_flight, canceled;
};

struct udp_rig {
	struct udp u;
	struct loop loop;
	struct conf conf;
	struct stats stats;
	struct sockpool sockets;
	struct tcp tcp;
	struct ruleset rules;
	struct udppairs pairs;
	_Atomic uint32_t n_flows;
	struct udp_listener listener;
	struct urig_op op[RIG_SLOTS];
	int app;
	int channel; /* to an agent that is gone: nothing is ever asked of it */
};

extern struct udp_rig urig;

/* With room for @max_flows sessions. */
void urig_up(uint32_t max_flows);

/* Ends all sessions; no buffer may have leaked and nothing be in flight. */
void urig_down(void);

/* @len bytes of @fill come from 127.0.0.1:@port, in segments of @segment if that is not 0. */
void urig_from_client(uint16_t port, size_t len, unsigned segment, uint8_t fill);

/* The same from the app, to session @slot. */
void urig_from_app(uint32_t slot, size_t len, unsigned segment, uint8_t fill);

/* The end of what is in flight for @slot. */
void urig_complete(uint32_t slot, int code);

/* Complete all that was canceled. */
void urig_settle(void);

/* The next read of @fd has @len bytes, in segments of @segment (0: one datagram). */
void urig_expect_read(int fd, size_t len, unsigned segment);
void urig_expect_silence(int fd);

/* The session of 127.0.0.1:@port, which is open; NULL if there is none. */
struct udp_session *urig_session(uint16_t port);
uint32_t urig_slot(uint16_t port);

/* A socket of a client, with UDP_GRO, and its port. */
int urig_client(uint16_t *ret_port);

uint64_t urig_error(enum stats_error error);
