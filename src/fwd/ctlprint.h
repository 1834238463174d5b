/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Answers of the control socket as people, or Prometheus, read them; on stdout. */

#include <jansson.h>

/* The rules of an answer to list, add or delete, a line each. */
void ctlprint_rules(const json_t *answer);

/* Counters, in the words of the log. */
void ctlprint_stats(const json_t *answer);

/* Counters in the text exposition format of Prometheus. */
void ctlprint_prometheus(const json_t *answer);

/* The heading of a list of flows; and a slice of it. */
void ctlprint_flows_head(void);
void ctlprint_flows(const json_t *answer);
