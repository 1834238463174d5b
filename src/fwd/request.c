/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request.c - read a request
 *
 * Strict, so that a mistake is answered and not guessed at: a member that a command
 * does not have is an error, as is one that occurs twice.
 */
#include "fwd/request.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "util.h"

static const char *const request_kinds[] = {
	[REQUEST_LIST] = "list",   [REQUEST_ADD] = "add",     [REQUEST_DELETE] = "delete",
	[REQUEST_STATS] = "stats", [REQUEST_FLOWS] = "flows",
};
_Static_assert(ARRAY_SIZE(request_kinds) == REQUEST_KINDS, "a name for each kind");

const char *request_kind_str(enum request_kind kind)
{
	return request_kinds[kind];
}

/* Append the rules of a list of port specifications; @list may be NULL. */
static int request_specs(const json_t *list, const char *name, enum proto proto,
			 const struct portspec_env *env, struct rules *rules, struct err *err)
{
	size_t i;
	json_t *v;

	if (list && !json_is_array(list))
		return err_set(err, EINVAL, "request: '%s' is not a list", name);
	json_array_foreach(list, i, v)
	{
		int ret;

		if (!json_is_string(v))
			return err_set(err, EINVAL, "request: '%s' has something that is no string",
				       name);
		ret = portspec_parse(proto, json_string_value(v), env, rules, err);
		if (ret < 0)
			return ret;
		if (rules->n > REQUEST_RULES)
			return err_set(err, EINVAL, "request: more than %u rules", REQUEST_RULES);
	}
	return 0;
}

static int request_ids(const json_t *list, struct request *r, struct err *err)
{
	size_t i;
	json_t *v;

	if (list && !json_is_array(list))
		return err_set(err, EINVAL, "request: 'ids' is not a list");
	if (json_array_size(list) > REQUEST_IDS)
		return err_set(err, EINVAL, "request: more than %u ids", REQUEST_IDS);
	json_array_foreach(list, i, v)
	{
		json_int_t id = json_integer_value(v);

		if (!json_is_integer(v) || id < 1 || id > UINT32_MAX)
			return err_set(err, EINVAL, "request: 'ids' has something that is no id");
		r->ids[r->n_ids++] = (uint32_t)id;
	}
	return 0;
}

static int request_kind(const char *name, enum request_kind *ret, struct err *err)
{
	for (unsigned i = 0; i < REQUEST_KINDS; i++) {
		if (strcmp(name, request_kinds[i]) == 0) {
			*ret = (enum request_kind)i;
			return 0;
		}
	}
	return err_set(err, EINVAL, "request: unknown command '%s'", name);
}

/* The members that the command may have; the "!" refuses others. */
static int request_members(json_t *root, const struct portspec_env *env, struct request *r,
			   struct err *err)
{
	json_t *tcp = NULL, *udp = NULL, *ids = NULL;
	const char *command;
	int drop = 0, ret;
	json_error_t why;

	if (json_unpack_ex(root, &why, 0, "{s:s}", "command", &command) != 0)
		return err_set(err, EINVAL, "request: %s", why.text);
	ret = request_kind(command, &r->kind, err);
	if (ret < 0)
		return ret;
	if (r->kind == REQUEST_ADD)
		ret = json_unpack_ex(root, &why, 0, "{s:s, s?o, s?o !}", "command", &command, "tcp",
				     &tcp, "udp", &udp);
	else if (r->kind == REQUEST_DELETE)
		ret = json_unpack_ex(root, &why, 0, "{s:s, s?o, s?o, s?o, s?b !}", "command",
				     &command, "tcp", &tcp, "udp", &udp, "ids", &ids, "drop",
				     &drop);
	else
		ret = json_unpack_ex(root, &why, 0, "{s:s !}", "command", &command);
	if (ret != 0)
		return err_set(err, EINVAL, "request: %s", why.text);
	if ((r->kind == REQUEST_ADD || r->kind == REQUEST_DELETE) && !tcp && !udp && !ids)
		return err_set(err, EINVAL, "request: nothing to %s", command);
	r->drop = drop;
	ret = request_specs(tcp, "tcp", PROTO_TCP, env, &r->rules, err);
	if (ret == 0)
		ret = request_specs(udp, "udp", PROTO_UDP, env, &r->rules, err);
	return ret == 0 ? request_ids(ids, r, err) : ret;
}

int request_parse(const char *line, size_t len, const struct portspec_env *env, struct request *ret,
		  struct err *err)
{
	struct request r = { .kind = REQUEST_LIST };
	json_error_t why;
	json_t *root;
	int code;

	root = json_loadb(line, len, JSON_REJECT_DUPLICATES, &why);
	if (!root)
		return err_set(err, EINVAL, "request is no JSON: %s", why.text);
	if (json_is_object(root))
		code = request_members(root, env, &r, err);
	else
		code = err_set(err, EINVAL, "request is no JSON object");
	json_decref(root);
	if (code < 0)
		request_free(&r);
	else
		*ret = r;
	return code;
}

void request_free(struct request *r)
{
	rules_free(&r->rules);
}
