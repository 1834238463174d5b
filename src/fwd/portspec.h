/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The port specification of -t and -u: pasta's grammar.
 *
 *	spec    = "none" | [ where "/" ] ports | "%" interface
 *	where   = address [ "%" interface ] | "%" interface
 *	ports   = entry *( "," entry )
 *	entry   = range [ ":" target ]		include
 *		| "~" range			exclude; wins over every include
 *		| "all" [ ":" address ]		all non-ephemeral ports
 *		| "auto" [ ":" address ]	only while something listens there
 *	range   = port [ "-" port ]
 *	target  = range | address | address "/" range
 *	address = IPv4 | IPv6 | "[" IPv6 "]"
 *
 * Only exclusions imply "all"; "auto" beside ranges makes those ranges
 * automatic, alone it implies "all" as well. No range at all ("%eth0", "1.2.3.4/")
 * means "all". Ports are 1 to 65535. A target range must be as long as the
 * host's; a target port without a range is its start. The address of "auto" is
 * for ranges that have none of their own.
 *
 * What stands before the first "/" is @where if it is an address, even if it
 * could be port and target, too: "80:fd00::1/443" listens on 80:fd00::1. With
 * brackets, "80:[fd00::1]/443", it is a target.
 */

#include <stddef.h>

#include "err.h"
#include "fwd/rule.h"

struct portspec_env {
	uint16_t ephemeral_first; /* net.ipv4.ip_local_port_range, for "all" */
	uint16_t ephemeral_last;
	bool v4, v6; /* families allowed: both, or one by -4 or -6 */
};

/*
 * Parse @spec and append its rules to @ret, in order of ports. On failure
 * -EINVAL (or -ENOMEM) with one line in @err that names the offending part and
 * the whole specification, and *@ret as it was.
 *
 * An address of a family that @env does not allow is an error, as are a port
 * given twice in one specification, and a zone in place of "%interface/". So
 * are multicast and broadcast addresses, a target that is no host (0.0.0.0, ::),
 * and a link-local address to listen on without its interface.
 */
int portspec_parse(enum proto proto, const char *spec, const struct portspec_env *env,
		   struct rules *ret, struct err *err);

/*
 * How many of the @len bytes at @spec say where to listen, with the '/' behind them; 0 if
 * none do. For those who put specifications together.
 */
size_t portspec_head(const char *spec, size_t len);
