/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_pipes.c - pipes for splice: lent, kept, and refused when they would be too small
 *
 * The kernel counts a user's pipes over all processes. So that tests which go
 * over the limit do not disturb others they run as a user of their own, where they
 * may; the limit does not hold for root anyway.
 */

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fwd/pipes.h"
#include "util.h"

enum {
	TIMEOUT = 10,
	IDLE = 4,	       /* pipes kept open between uses */
	ENOUGH = 256 * 1024,   /* the least that a pipe must hold */
	MANY = 512,	       /* more than 64 MiB, the usual limit, in pipes of 256 KiB */
	REQUESTS = 1000,       /* by then a user who has been over the limit is tried again */
	FIRST_UID = 0x40000000 /* nobody has these */
};

static struct pipes pipes;

static void set_up(void)
{
	cr_assert_eq(pipes_init(&pipes, IDLE), 0);
}

static void tear_down(void)
{
	pipes_fini(&pipes);
}

TestSuite(pipes, .init = set_up, .fini = tear_down);

static struct pipe take(void)
{
	struct pipe ret = PIPE_NONE;

	if (!pipes_get(&pipes, &ret))
		cr_skip_test("this user's pipes are over fs.pipe-user-pages-soft");
	return ret;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* ---------------------------------------------------------------- lending */

/* A pipe that is lent holds enough, never blocks, and does not outlive an exec. */
Test(pipes, are_large_and_do_not_block, .timeout = TIMEOUT)
{
	struct pipe p = take();

	cr_assert_geq(fcntl(p.wr, F_GETPIPE_SZ), ENOUGH);
	cr_assert(fcntl(p.rd, F_GETFL) & O_NONBLOCK);
	cr_assert(fcntl(p.wr, F_GETFL) & O_NONBLOCK);
	cr_assert(fcntl(p.rd, F_GETFD) & FD_CLOEXEC);
	cr_assert(fcntl(p.wr, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(write(p.wr, "x", 1), 1);
	cr_assert_eq(read(p.rd, &(char){ 0 }, 1), 1);
	pipes_put(&pipes, &p, true);
}

/* An empty pipe is kept, and lent to the next. */
Test(pipes, are_used_again_when_clean, .timeout = TIMEOUT)
{
	struct pipe p = take(), q;
	int rd = p.rd, wr = p.wr;

	pipes_put(&pipes, &p, true);
	cr_assert(pipe_is_none(&p));
	cr_assert_eq(p.wr, -1);
	q = take();
	cr_assert(q.rd == rd && q.wr == wr);
	cr_assert_eq(pipes.n_open, 1);
	pipes_put(&pipes, &q, true);
}

/* One with bytes left in it is closed. */
Test(pipes, are_closed_when_not_clean, .timeout = TIMEOUT)
{
	struct pipe p = take();
	int rd = p.rd, wr = p.wr;

	pipes_put(&pipes, &p, false);
	cr_assert(pipe_is_none(&p));
	cr_assert_not(is_open(rd) || is_open(wr));
	cr_assert_eq(pipes.n_open, 0);
}

/* No more are kept than was said. */
Test(pipes, are_closed_when_enough_are_idle, .timeout = TIMEOUT)
{
	struct pipe p[3 * IDLE];

	for (unsigned i = 0; i < ARRAY_SIZE(p); i++)
		p[i] = take();
	cr_assert_eq(pipes.n_open, ARRAY_SIZE(p));
	for (unsigned i = 0; i < ARRAY_SIZE(p); i++)
		pipes_put(&pipes, &p[i], true);
	cr_assert_eq(pipes.n_idle, IDLE);
	cr_assert_eq(pipes.n_open, IDLE);
}

/* Putting back none does nothing. */
Test(pipes, can_be_none, .timeout = TIMEOUT)
{
	struct pipe p = PIPE_NONE;

	pipes_put(&pipes, &p, true);
	pipes_put(&pipes, &p, false);
	cr_assert(pipe_is_none(&p));
	cr_assert_eq(pipes.n_idle + pipes.n_open, 0);
}

/* At the end those that are idle are closed. */
Test(pipes, are_closed_at_the_end, .timeout = TIMEOUT)
{
	struct pipe p = take(), q = p;

	pipes_put(&pipes, &p, true);
	pipes_fini(&pipes);
	cr_assert_not(is_open(q.rd) || is_open(q.wr));
}

/* ---------------------------------------------------------------- running out */

static void limit_descriptors(rlim_t n)
{
	struct rlimit limit;

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = n;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* Without descriptors there is no pipe, but there is one as soon as there are some. */
Test(pipes, are_none_without_descriptors, .timeout = TIMEOUT)
{
	struct rlimit was;
	struct pipe p = take();

	pipes_put(&pipes, &p, false);
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &was), 0);
	limit_descriptors(1);
	for (int i = 0; i < 10; i++)
		cr_assert_not(pipes_get(&pipes, &p));
	limit_descriptors(was.rlim_cur);
	cr_assert(pipes_get(&pipes, &p));
	pipes_put(&pipes, &p, true);
}

/* A user of our own, whom the limit holds for; or skip. */
static void become_limited(void)
{
	char limit[32];

	if (read_file("/proc/sys/fs/pipe-user-pages-soft", limit, sizeof(limit)) <= 0 ||
	    strtoul(limit, NULL, 10) == 0)
		cr_skip_test("fs.pipe-user-pages-soft sets no limit");
	if (strtoul(limit, NULL, 10) > MANY * (ENOUGH / 4096))
		cr_skip_test("fs.pipe-user-pages-soft is too large to get over");
	if (getuid() != 0)
		return;
	if (setuid(FIRST_UID + (uid_t)getpid()) != 0 && setuid(65534) != 0)
		cr_skip_test("cannot become an unprivileged user");
}

static struct pipe borrowed[MANY];
static unsigned n_borrowed;

/* Borrow until the user is over the limit. */
static void borrow_all(void)
{
	while (n_borrowed < MANY && pipes_get(&pipes, &borrowed[n_borrowed]))
		cr_assert_geq(fcntl(borrowed[n_borrowed++].wr, F_GETPIPE_SZ), ENOUGH);
	if (n_borrowed == MANY)
		cr_skip_test("the limit does not hold for this user");
	if (n_borrowed == 0)
		cr_skip_test("this user was over the limit already");
}

static void close_borrowed(void)
{
	while (n_borrowed > 0)
		pipes_put(&pipes, &borrowed[--n_borrowed], false);
}

/* Requests until there is a pipe again; more than REQUESTS: never. */
static unsigned requests_until_one(void)
{
	struct pipe p;
	unsigned n = 1;

	while (n <= REQUESTS && !pipes_get(&pipes, &p))
		n++;
	if (n <= REQUESTS)
		pipes_put(&pipes, &p, true);
	return n;
}

/* Over the limit the kernel gives pipes of two pages: none of these is ever lent. */
Test(pipes, are_refused_over_the_limit, .timeout = TIMEOUT)
{
	unsigned n;

	become_limited();
	borrow_all();
	cr_assert_eq(pipes.n_open, n_borrowed);
	n = n_borrowed;
	for (int i = 0; i < 2 * REQUESTS; i++)
		cr_assert_not(pipes_get(&pipes, &borrowed[n]));
	cr_assert_eq(pipes.n_open, n_borrowed);
	close_borrowed();
}

/* A user who is over the limit is not asked about each time, but is asked about again. */
Test(pipes, are_asked_for_again_after_a_while, .timeout = TIMEOUT)
{
	unsigned n;

	become_limited();
	borrow_all();
	close_borrowed();
	n = requests_until_one();
	cr_assert(n > 1 && n <= REQUESTS, "after %u requests", n);
	cr_assert_eq(requests_until_one(), 1);
}

/* Idle ones are lent, limit or not. */
Test(pipes, are_lent_over_the_limit_if_idle, .timeout = TIMEOUT)
{
	become_limited();
	borrow_all();
	pipes_put(&pipes, &borrowed[--n_borrowed], true);
	cr_assert_eq(requests_until_one(), 1);
	close_borrowed();
}

/* A lack of descriptors just when the limit is asked about again does not last. */
Test(pipes, come_back_after_limit_and_descriptors_were_reached, .timeout = TIMEOUT)
{
	struct rlimit was;
	struct pipe p;

	become_limited();
	borrow_all();
	close_borrowed();
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &was), 0);
	limit_descriptors(1);
	for (int i = 0; i < REQUESTS; i++)
		cr_assert_not(pipes_get(&pipes, &p));
	limit_descriptors(was.rlim_cur);
	cr_assert_leq(requests_until_one(), REQUESTS);
}
