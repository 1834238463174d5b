/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * "fwd hook": as a hook of an OCI runtime (config.md of the runtime specification), which
 * publishes the ports that the annotations of a container name (publish.h).
 */

#include <stdio.h>

#include "err.h"
#include "fwd/publish.h"

enum hook_result { HOOK_DONE, HOOK_FORWARD };

/*
 * Read the container's state from @in, and do what its stage asks for. @argv[0] is "hook",
 * @argv[1] may name the stage; without, the state tells. HOOK_DONE; or HOOK_FORWARD, in a
 * new process whose directory is the container's bundle, and which is to run fwd with the
 * command line @ret. The process that has called waits until that is ready, or has failed
 * and said why, and never returns. -errno with @err.
 */
int hook_run(int argc, char **argv, FILE *in, struct publish *ret, struct err *err);
