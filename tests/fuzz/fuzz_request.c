/* SPDX-License-Identifier: Apache-2.0 */
/* Any line on the control socket is a request or an error of one line, and leaks nothing. */
#include <stdint.h>

#include "../../src/fwd/addr.c"
#include "../../src/fwd/err.c"
#include "../../src/fwd/portspec.c"
#include "../../src/fwd/request.c"
#include "../../src/fwd/rule.c"
#include "../../src/fwd/util.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct portspec_env env = {
		.ephemeral_first = 32768, .ephemeral_last = 60999, .v4 = true, .v6 = true
	};
	struct request req;
	struct err err = { 0 };
	int ret;

	if (size > REQUEST_MAX)
		return 0;
	ret = request_parse((const char *)data, size, &env, &req, &err);
	if (ret == 0) {
		fwd_assert(req.kind < REQUEST_KINDS && req.n_ids <= REQUEST_IDS);
		for (unsigned i = 0; i < req.rules.n; i++)
			fwd_assert(req.rules.v[i].first <= req.rules.v[i].last);
		request_free(&req);
	} else {
		fwd_assert(err.text[0] && !strchr(err.text, '\n'));
	}
	return 0;
}
