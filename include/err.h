/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Errors of the cold path: one line that says what failed, on which object,
 * and what to do about it.
 *
 * Functions that set something up take `struct err *err` as last parameter,
 * return 0 or -errno, and fill @err only on failure. Only main() prints it.
 * The data path never touches this: there an error is a number.
 */

struct err {
	char text[512]; /* one line, no newline at the end */
};

/*
 * Fill @err and return -@code (a positive errno value), so that a caller can
 * write `return err_set(err, errno, "...")`. The text stands as given: add
 * strerror() where it helps.
 */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As err_set(), with ": " and the text of strerror(@code) at the end. */
int err_sys(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Put "@fmt: " before what @err already says; returns @ret as it is. */
int err_prefix(struct err *err, int ret, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
