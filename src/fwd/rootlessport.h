/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * As Podman's port forwarder for rootless containers. Podman starts a program of the
 * name rootlessport for a container with published ports, and tells it on standard
 * input, in JSON, what to forward where (struct Config in Podman's pkg/rootlessport).
 */

#include <stdbool.h>
#include <stdio.h>

#include "err.h"
#include "fwd/conf.h"

typedef struct json_t json_t;

struct rootlessport {
	json_t *config;	   /* what was read; owned; strings of the configuration point into it */
	char *socket_path; /* of the reload socket; owned; or NULL */
};

/* Whether @argv0 is that name. */
bool rootlessport_is_called(const char *argv0);

/*
 * Read and check what Podman says. 0 with a configuration for the forwarder, which is
 * the caller's to free, before @rp; or -errno with @err.
 */
int rootlessport_parse(int argc, FILE *in, struct rootlessport *rp, struct conf *ret,
		       struct err *err);

void rootlessport_free(struct rootlessport *rp);
