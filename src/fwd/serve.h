/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the control socket asks of a running forwarder. */

#include <jansson.h>

#include "fwd/request.h"

/* A control_serve; @forwarder is the struct forwarder. */
json_t *serve_request(void *forwarder, const struct request *req);
