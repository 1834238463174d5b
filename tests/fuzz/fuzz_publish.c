/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any annotation is options or an error. Up to the first blank line it is the one with the
 * ports, behind that the one with options; which are none but those that are allowed.
 */
#include <stdint.h>

#include "../../src/fwd/addr.c"
#include "../../src/fwd/err.c"
#include "../../src/fwd/portspec.c"
#include "../../src/fwd/publish.c"
#include "../../src/fwd/rule.c"
#include "../../src/fwd/util.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Each specification is without blanks; the parser takes it, or says why not. */
static void fuzz_specs(const char *text)
{
	static const struct portspec_env env = {
		.ephemeral_first = 32768, .ephemeral_last = 60999, .v4 = true, .v6 = true
	};
	struct publish p = { .n = 0 };
	struct err err = { 0 };

	if (publish_specs(text, &p, &err) < 0)
		fwd_assert(err.text[0] && !strchr(err.text, '\n'));
	else
		fwd_assert(p.n % 2 == 0);
	for (unsigned i = 0; i + 1 < p.n; i += 2) {
		bool udp = strcmp(p.v[i], "-u") == 0;
		struct rules rules = { 0 };

		fwd_assert(udp || strcmp(p.v[i], "-t") == 0);
		fwd_assert(!strpbrk(p.v[i + 1], PUBLISH_SPACE));
		portspec_parse(udp ? PROTO_UDP : PROTO_TCP, p.v[i + 1], &env, &rules, &err);
		rules_free(&rules);
	}
	publish_free(&p);
}

static void fuzz_options(const char *text)
{
	struct publish p = { .n = 0 };
	struct err err = { 0 };

	if (publish_options(text, &p, &err) < 0)
		fwd_assert(err.text[0] && !strchr(err.text, '\n'));
	for (unsigned i = 0; i < p.n; i++)
		fwd_assert(publish_check_option(p.v[i], strlen(p.v[i]), &err) == 0);
	publish_free(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size), *options;

	if (!text)
		return 0;
	options = strstr(text, "\n\n");
	if (options) {
		*options = '\0';
		fuzz_options(options + 2);
	}
	fuzz_specs(text);
	free(text);
	return 0;
}
