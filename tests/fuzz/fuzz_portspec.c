/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_portspec.c - throw any text at the parser of port specifications
 *
 * An input is one byte that chooses protocol, families and ephemeral range,
 * and the specification. The parser never sees a NUL: its text comes from argv.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/fwd/addr.c"
#include "../../src/fwd/err.c"
#include "../../src/fwd/portspec.c"
#include "../../src/fwd/rule.c"
#include "../../src/fwd/util.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct portspec_env fuzz_envs[] = {
	{ 32768, 60999, true, true },
	{ 32768, 60999, true, false },
	{ 1, 65535, false, true },
	{ 0, 0, true, true },
};

/* What rule_str() prints is a specification of the same rule, but for being weak. */
static void fuzz_check_printed(const struct rule *r, const struct portspec_env *env)
{
	char text[RULE_STRLEN], again[RULE_STRLEN];
	struct rules rules = { 0 };
	struct err err;

	rule_str(r, text);
	fwd_assert(strlen(text) < sizeof(text) - 1);
	fwd_assert(!portspec_parse(r->proto, strchr(text, ' ') + 1, env, &rules, &err));
	fwd_assert(rules.n == 1);
	fwd_assert(strcmp(rule_str(&rules.v[0], again), text) == 0);
	rules_free(&rules);
}

/* Rules have ports, lie in order, do not overlap, and are all of one mind where to listen. */
static void fuzz_check_rules(const struct rules *rules, const struct portspec_env *env)
{
	for (unsigned i = 1; i < rules->n; i++) {
		const struct rule *r = &rules->v[i];
		struct addr bind = r->any ? addr_any4 : r->bind;

		fwd_assert(r->first > 0 && r->first <= r->last);
		fwd_assert(r->to_first > 0 && r->to_first + (r->last - r->first) <= PORT_MAX);
		fwd_assert(i == 1 || r->first > r[-1].last);
		fwd_assert(i == 1 || r->automatic == r[-1].automatic);
		fwd_assert(memchr(r->ifname, '\0', sizeof(r->ifname)));
		fwd_assert(strcmp(r->ifname, rules->v[1].ifname) == 0);
		fwd_assert(r->any == rules->v[1].any);
		fwd_assert(r->any || (addr_family(&bind) == ADDR_V4 ? env->v4 : env->v6));
		fwd_assert(!r->weak || r->last < env->ephemeral_first ||
			   r->first > env->ephemeral_last);
		fuzz_check_printed(r, env);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct rule earlier = { .any = true, .first = 7, .last = 7, .to_first = 7 };
	struct rules rules = { 0 };
	struct err err = { "" };
	char *spec;
	int ret;

	if (size < 1 || memchr(data + 1, '\0', size - 1))
		return 0;
	spec = strndup((const char *)data + 1, size - 1);
	fwd_assert(spec && rules_add(&rules, &earlier) == 0);

	const struct portspec_env *env = &fuzz_envs[data[0] / 2 % ARRAY_SIZE(fuzz_envs)];

	ret = portspec_parse(data[0] % 2 ? PROTO_UDP : PROTO_TCP, spec, env, &rules, &err);
	fwd_assert(memcmp(&rules.v[0], &earlier, sizeof(earlier)) == 0);
	if (ret == 0) {
		fwd_assert(!err.text[0]);
		fwd_assert(rules.n > 1 || strcmp(spec, "none") == 0);
		fuzz_check_rules(&rules, env);
	} else {
		fwd_assert(ret == -EINVAL);
		fwd_assert(rules.n == 1);
		fwd_assert(memchr(err.text, '\0', sizeof(err.text)));
		fwd_assert(err.text[0] && !strpbrk(err.text, "\r\n"));
	}
	rules_free(&rules);
	free(spec);
	return 0;
}
