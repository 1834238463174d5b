/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * fwd ctl: speak to a running fwd by its control socket. @argv begins with "ctl". The
 * exit status: 0, or 1 after one line on stderr.
 */
int ctl_main(int argc, char **argv);
