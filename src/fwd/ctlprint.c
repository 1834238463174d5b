/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctlprint.c - print what fwd ctl got
 *
 * The other side may be another version: what is missing is printed as 0 or nothing.
 */
#include "fwd/ctlprint.h"

#include <stdio.h>
#include <string.h>

#include "fwd/stats.h"
#include "util.h"

#define CTLPRINT_DAY 86400

static const char *ctlprint_text(const json_t *o, const char *name)
{
	const char *text = json_string_value(json_object_get(o, name));

	return text ? text : "";
}

/* A number, as JSON_INTEGER_FORMAT prints it. */
static json_int_t ctlprint_number(const json_t *o, const char *name)
{
	return json_integer_value(json_object_get(o, name));
}

static json_int_t ctlprint_part(const json_t *o, const char *name, const char *part)
{
	return ctlprint_number(json_object_get(o, name), part);
}

/* ---------------------------------------------------------------- rules */

static void ctlprint_listens(const json_t *l)
{
	const char *address = ctlprint_text(l, "address"), *device = ctlprint_text(l, "device");
	json_int_t first = ctlprint_number(l, "first_port"), last = ctlprint_number(l, "last_port");
	bool v6 = strchr(address, ':');

	printf(" %s%s%s%s%s:%" JSON_INTEGER_FORMAT, v6 ? "[" : "", address, v6 ? "]" : "",
	       device[0] ? "%" : "", device, first);
	if (last != first)
		printf("-%" JSON_INTEGER_FORMAT, last);
}

void ctlprint_rules(const json_t *answer)
{
	size_t i, k;
	json_t *rule, *l;

	json_array_foreach(json_object_get(answer, "rules"), i, rule)
	{
		const json_t *listens = json_object_get(rule, "listens");

		printf("%" JSON_INTEGER_FORMAT "\t%s %s\t", ctlprint_number(rule, "id"),
		       ctlprint_text(rule, "proto"), ctlprint_text(rule, "rule"));
		printf(json_array_size(listens) > 0 ? "on" : "closed");
		json_array_foreach(listens, k, l) ctlprint_listens(l);
		putchar('\n');
	}
}

/* ---------------------------------------------------------------- counters */

static void ctlprint_rule_stats(const json_t *r)
{
	printf("%s %s: flows %" JSON_INTEGER_FORMAT " now, %" JSON_INTEGER_FORMAT
	       " ever; bytes %" JSON_INTEGER_FORMAT " in, %" JSON_INTEGER_FORMAT " out",
	       ctlprint_text(r, "proto"), ctlprint_text(r, "rule"),
	       ctlprint_part(r, "flows", "now"), ctlprint_part(r, "flows", "ever"),
	       ctlprint_part(r, "bytes", "in"), ctlprint_part(r, "bytes", "out"));
	if (strcmp(ctlprint_text(r, "proto"), "tcp") != 0)
		printf("; datagrams %" JSON_INTEGER_FORMAT " in, %" JSON_INTEGER_FORMAT " out",
		       ctlprint_part(r, "datagrams", "in"), ctlprint_part(r, "datagrams", "out"));
	printf("; source %" JSON_INTEGER_FORMAT " kept, %" JSON_INTEGER_FORMAT
	       " port changed, %" JSON_INTEGER_FORMAT " stand-in, %" JSON_INTEGER_FORMAT
	       " lost; refused %" JSON_INTEGER_FORMAT "%s\n",
	       ctlprint_part(r, "source", "kept"), ctlprint_part(r, "source", "port_changed"),
	       ctlprint_part(r, "source", "stand_in"), ctlprint_part(r, "source", "lost"),
	       ctlprint_number(r, "refused"),
	       json_is_true(json_object_get(r, "deleted")) ? "; deleted" : "");
}

void ctlprint_stats(const json_t *answer)
{
	json_t *total = json_pack("{s:s, s:s}", "proto", "all", "rule", "rules, ever");
	size_t i;
	json_t *rule;

	json_array_foreach(json_object_get(answer, "rules"), i, rule) ctlprint_rule_stats(rule);
	json_object_update(total, json_object_get(answer, "total"));
	ctlprint_rule_stats(total);
	json_decref(total);
	for (unsigned e = 0; e < STATS_ERRORS; e++) {
		json_int_t n = ctlprint_part(answer, "errors",
					     stats_error_name((enum stats_error)e));

		if (n > 0)
			printf("%s: %" JSON_INTEGER_FORMAT "\n",
			       stats_error_str((enum stats_error)e), n);
	}
}

/* ---------------------------------------------------------------- Prometheus */

/* A metric of each rule: which member of its counters, and what it is labelled with. */
struct ctlprint_metric {
	const char *name, *type, *help;
	const char *member;
	const char *label; /* NULL: @part is the number; else one of each part */
	const char *part[4];
};

static const struct ctlprint_metric ctlprint_metrics[] = {
	{ "fwd_flows",
	  "gauge",
	  "Connections and UDP sessions at the moment.",
	  "flows",
	  NULL,
	  { "now" } },
	{ "fwd_flows_total",
	  "counter",
	  "Connections and UDP sessions.",
	  "flows",
	  NULL,
	  { "ever" } },
	{ "fwd_bytes_total",
	  "counter",
	  "Bytes passed on, to (in) and from (out) the container.",
	  "bytes",
	  "direction",
	  { "in", "out" } },
	{ "fwd_datagrams_total",
	  "counter",
	  "Datagrams passed on, likewise.",
	  "datagrams",
	  "direction",
	  { "in", "out" } },
	{ "fwd_sources_total",
	  "counter",
	  "What became of the clients' addresses.",
	  "source",
	  "result",
	  { "kept", "port_changed", "stand_in", "lost" } },
	{ "fwd_refused_total",
	  "counter",
	  "Flows that were refused because they could not be made.",
	  "refused",
	  NULL,
	  { NULL } },
};

/* A label's value: '\', '"' and newlines are escaped. */
static void ctlprint_label(const char *name, const char *value, const char *end)
{
	printf("%s=\"", name);
	for (; *value; value++) {
		if (*value == '\n')
			printf("\\n");
		else if (*value == '\\' || *value == '"')
			printf("\\%c", *value);
		else
			putchar(*value);
	}
	printf("\"%s", end);
}

static void ctlprint_help(const char *name, const char *type, const char *help)
{
	printf("# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* NAME{rule="3",proto="tcp" */
static void ctlprint_series(const char *name, const json_t *rule)
{
	printf("%s{rule=\"%" JSON_INTEGER_FORMAT "\",", name, ctlprint_number(rule, "id"));
	ctlprint_label("proto", ctlprint_text(rule, "proto"), "");
}

static void ctlprint_rule_metric(const struct ctlprint_metric *m, const json_t *rule)
{
	const json_t *counters = json_object_get(rule, m->member);

	/* Datagrams are UDP's only. */
	if (strcmp(m->member, "datagrams") == 0 && strcmp(ctlprint_text(rule, "proto"), "udp") != 0)
		return;
	for (unsigned i = 0; i == 0 || (m->label && i < ARRAY_SIZE(m->part) && m->part[i]); i++) {
		ctlprint_series(m->name, rule);
		if (m->label) {
			putchar(',');
			ctlprint_label(m->label, m->part[i], "");
		}
		printf("} %" JSON_INTEGER_FORMAT "\n",
		       m->part[i] ? ctlprint_number(counters, m->part[i])
				  : json_integer_value(counters));
	}
}

static void ctlprint_number_metric(const char *name, const char *type, const char *help,
				   json_int_t value)
{
	ctlprint_help(name, type, help);
	printf("%s %" JSON_INTEGER_FORMAT "\n", name, value);
}

void ctlprint_prometheus(const json_t *answer)
{
	const json_t *rules = json_object_get(answer, "rules");
	size_t i;
	json_t *rule;

	ctlprint_help("fwd_info", "gauge", "What runs.");
	printf("fwd_info{");
	ctlprint_label("version", ctlprint_text(answer, "version"), ",");
	ctlprint_label("engine", ctlprint_text(answer, "engine"), "} 1\n");
	ctlprint_help("fwd_rule_info", "gauge", "The rules, and what they were given as.");
	json_array_foreach(rules, i, rule)
	{
		ctlprint_series("fwd_rule_info", rule);
		putchar(',');
		ctlprint_label("spec", ctlprint_text(rule, "rule"), "} 1\n");
	}
	for (size_t m = 0; m < ARRAY_SIZE(ctlprint_metrics); m++) {
		ctlprint_help(ctlprint_metrics[m].name, ctlprint_metrics[m].type,
			      ctlprint_metrics[m].help);
		json_array_foreach(rules, i, rule) ctlprint_rule_metric(&ctlprint_metrics[m], rule);
	}
	ctlprint_help("fwd_errors_total", "counter", "What went wrong, by kind.");
	for (unsigned e = 0; e < STATS_ERRORS; e++) {
		const char *name = stats_error_name((enum stats_error)e);

		printf("fwd_errors_total{");
		ctlprint_label("kind", name, "} ");
		printf("%" JSON_INTEGER_FORMAT "\n", ctlprint_part(answer, "errors", name));
	}
	ctlprint_number_metric("fwd_accept_pauses_total", "counter",
			       "Times that accepting was paused for want of descriptors or memory.",
			       ctlprint_number(answer, "accept_paused"));
	ctlprint_number_metric("fwd_flows_limit", "gauge", "Flows that there can be at a time.",
			       ctlprint_number(answer, "max_flows"));
	ctlprint_number_metric("fwd_workers", "gauge", "Worker threads.",
			       ctlprint_number(answer, "workers"));
}

/* ---------------------------------------------------------------- flows */

static const char ctlprint_row[] = "%-5s %-12s %-28s %-28s %-28s %-13s %10s %10s %9s %-19s %s\n";

void ctlprint_flows_head(void)
{
	printf(ctlprint_row, "PROTO", "STATE", "CLIENT", "LOCAL", "CONTAINER", "SOURCE", "IN",
	       "OUT", "AGE", "MODE", "RULE");
}

/* "5.3s", "12m07s", "3h59m" or "2d04h" */
static void ctlprint_age(double seconds, char *buf, size_t size)
{
	long long s = (long long)seconds;

	if (s < 60)
		snprintf(buf, size, "%.1fs", seconds);
	else if (s < 3600)
		snprintf(buf, size, "%lldm%02llds", s / 60, s % 60);
	else if (s < CTLPRINT_DAY)
		snprintf(buf, size, "%lldh%02lldm", s / 3600, s / 60 % 60);
	else
		snprintf(buf, size, "%lldd%02lldh", s / CTLPRINT_DAY, s / 3600 % 24);
}

/* One word if both directions do the same, else in/out. */
static void ctlprint_mode(const json_t *flow, char *buf, size_t size)
{
	const json_t *mode = json_object_get(flow, "mode");
	const char *in = ctlprint_text(mode, "in"), *out = ctlprint_text(mode, "out");

	if (strcmp(in, out) == 0)
		snprintf(buf, size, "%s", in[0] ? in : "-");
	else
		snprintf(buf, size, "%s/%s", in, out);
}

static const char *ctlprint_or_dash(const char *text)
{
	return text[0] ? text : "-";
}

void ctlprint_flows(const json_t *answer)
{
	size_t i;
	json_t *f;

	json_array_foreach(json_object_get(answer, "flows"), i, f)
	{
		char in[24], out[24], age[32], mode[64], rule[24];

		snprintf(in, sizeof(in), "%" JSON_INTEGER_FORMAT, ctlprint_part(f, "bytes", "in"));
		snprintf(out, sizeof(out), "%" JSON_INTEGER_FORMAT,
			 ctlprint_part(f, "bytes", "out"));
		snprintf(rule, sizeof(rule), "%" JSON_INTEGER_FORMAT, ctlprint_number(f, "rule"));
		ctlprint_age(json_number_value(json_object_get(f, "age")), age, sizeof(age));
		ctlprint_mode(f, mode, sizeof(mode));
		printf(ctlprint_row, ctlprint_text(f, "proto"), ctlprint_text(f, "state"),
		       ctlprint_text(f, "client"), ctlprint_text(f, "local"),
		       ctlprint_or_dash(ctlprint_text(f, "container")),
		       ctlprint_or_dash(ctlprint_text(f, "source")), in, out, age, mode, rule);
	}
}
