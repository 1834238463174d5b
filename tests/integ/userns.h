/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Unprivileged user and network namespaces for Criterion tests. */

/*
 * To be called by a constructor of a test program whose tests want namespaces,
 * so before main(): as root become nobody first, then enter a user namespace as
 * its root. Where that is refused the program stays where it is, and
 * userns_fresh_net() skips each test.
 */
void userns_begin(void);

/* Give the calling test a network namespace of its own, or skip it with a reason. */
void userns_fresh_net(void);

/*
 * Enter a new user namespace as its root, and what else unshare(2) is told by
 * @flags. The caller must have one thread only. 0, or -1 with errno.
 */
int userns_enter(int flags);
