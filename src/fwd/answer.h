/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Answers on the control socket, as JSON. Each has "ok"; if that is false, "error" says
 * why. Functions return new objects, or NULL without memory.
 */

#include <jansson.h>
#include <stdbool.h>

#include "fwd/ports.h"
#include "fwd/ruleset.h"
#include "fwd/snapshot.h"
#include "fwd/stats.h"

/* { "ok": false, "error": why } */
json_t *answer_error(const char *why);

/* One line with its newline, the caller's to free(). Takes @answer, also if that is NULL. */
char *answer_line(json_t *answer);

/* { "ok": true, "flows": [...], "more": more } */
json_t *answer_flows(const struct snapshot *s, bool more);

/* One rule: id, protocol, specification, and where it listens at the moment. */
json_t *answer_rule(const struct ruleset_slot *s, uint32_t slot, const struct ports *ports);

/* One rule and its counters. */
json_t *answer_rule_stats(const struct ruleset_slot *s, const struct rule_totals *t);

/* Counters alone. */
json_t *answer_totals(const struct rule_totals *t);

/* A string that is UTF-8 in any case. */
json_t *answer_text(const char *s);
