/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * "fwd install-podman": put fwd in place of Podman's rootlessport, or among its hooks, for
 * one user.
 */

#include "err.h"

/*
 * @argv[0] is the command's name. Prints each step on standard output. 0, or -errno with
 * @err; what was done before stays, and can be undone.
 */
int install_podman(int argc, char **argv, struct err *err);
