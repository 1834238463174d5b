/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seccomp.c - the system calls that are left after the start
 *
 * The table below is all there is: a row allows a system call to main and its
 * workers (M), to the agent (A) or to both, maybe for some arguments only, and says
 * why. Several rows of one call stand together; any of them is enough. What no row
 * allows ends the process: there is no error path that would make such a call, so
 * whoever does is not us. The few exceptions are calls that a C library makes of its
 * own accord, and gets over; those fail with EACCES.
 *
 * What both C libraries need for the same thing is listed side by side: epoll_wait
 * (glibc) and epoll_pwait (musl), write and writev, tgkill and tkill. A row for a call
 * that an architecture does not have is left out there.
 *
 * The filter checks the calls of the data path first. That hardly matters since
 * Linux 5.11, which finds out once which calls a filter allows whatever their
 * arguments, and does not run it for those (seccomp_cache_prepare()).
 *
 * io_uring performs operations that no filter sees: a ring is restricted to its
 * own list, in loop_uring.c.
 */
#include "ns/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util.h"

#if defined(__x86_64__)
#	define SECCOMP_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && defined(__LITTLE_ENDIAN__)
#	define SECCOMP_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#	define SECCOMP_ARCH AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#	define SECCOMP_ARCH AUDIT_ARCH_PPC64LE
#else
#	define SECCOMP_ARCH 0
#endif

#define SECCOMP_X32 0x40000000u /* set in the numbers of x32's calls, which have x86_64's arch */

#ifndef UDP_GRO
#	define UDP_GRO 104
#endif
#ifndef SECCOMP_FILTER_FLAG_SPEC_ALLOW
#	define SECCOMP_FILTER_FLAG_SPEC_ALLOW (1UL << 2)
#endif

/* ---------------------------------------------------------------- the table */

enum { M = SECCOMP_MAIN, A = SECCOMP_AGENT, MA = M | A };

/* Values that are known only when the filter is made. */
enum { PID_SELF = -2, PID_AGENT = -3, PID_COMMAND = -4 };

#define SECCOMP_VALUES 8

/* Argument number @arg, with the bits of @mask alone, is one of @v. An int: its lower half. */
struct seccomp_check {
	uint8_t arg;
	uint32_t mask;
	uint8_t n; /* values; 0: no check */
	int32_t v[SECCOMP_VALUES];
};

struct seccomp_row {
	long nr;
	uint8_t who;
	uint16_t code; /* errno to fail with; 0: allowed */
	struct seccomp_check check[2];
};

/* What not every architecture has. */
#define SECCOMP_ABSENT (-1)
#ifndef SYS_open
#	define SYS_open SECCOMP_ABSENT
#endif
#ifndef SYS_poll
#	define SYS_poll SECCOMP_ABSENT
#endif
#ifndef SYS_epoll_wait
#	define SYS_epoll_wait SECCOMP_ABSENT
#endif
#ifndef SYS_dup2
#	define SYS_dup2 SECCOMP_ABSENT
#endif
#ifndef SYS_time
#	define SYS_time SECCOMP_ABSENT
#endif

/* clang-format off */
#define COUNT(...)             (sizeof((int[]){ __VA_ARGS__ }) / sizeof(int))
#define ARG(number, mask, ...) { number, mask, COUNT(__VA_ARGS__), { __VA_ARGS__ } }
#define IS(number, ...)        ARG(number, ~0u, __VA_ARGS__)
#define HASNT(number, bits)    ARG(number, bits, 0)
#define TYPE(...)              ARG(1, 0xf, __VA_ARGS__) /* of a socket, without flags */
#define OPTION(level, ...)     IS(1, level), IS(2, __VA_ARGS__)

#define ALLOW(who, call, ...)        { SYS_##call, who, 0, { __VA_ARGS__ } }
#define REFUSE(who, code, call, ...) { SYS_##call, who, code, { __VA_ARGS__ } }

static const struct seccomp_row seccomp_table[] = {
	/* The data path: what waits, and what moves bytes. */
	ALLOW(M,  io_uring_enter),
	ALLOW(M,  splice),
	ALLOW(M,  epoll_wait),
	ALLOW(M,  epoll_pwait),     /* epoll_wait(3) of musl, and of aarch64 */
	ALLOW(M,  epoll_ctl),
	ALLOW(MA, recvfrom),        /* recv(3) */
	ALLOW(MA, sendto),          /* send(3); syslog(3), and other messages to sockets held */
	ALLOW(MA, sendmsg),
	ALLOW(MA, recvmsg),
	ALLOW(M,  recvmmsg),
	ALLOW(MA, read),            /* signals, events of threads, inotify */
	ALLOW(MA, write),           /* the log, events of threads */
	ALLOW(MA, writev),          /* the same by musl's stdio */
	ALLOW(MA, poll),
	ALLOW(MA, ppoll),           /* poll(3) of aarch64 */
	ALLOW(MA, futex),
	ALLOW(MA, clock_gettime),   /* where the vDSO cannot */
	ALLOW(M,  gettimeofday),
	ALLOW(M,  time),
	ALLOW(MA, close),

	/* Connections. */
	ALLOW(M,  accept4),
	ALLOW(M,  accept),          /* accept4(3) of musl, after EINVAL: a socket that was shut down */
	ALLOW(M,  connect),
	ALLOW(MA, bind),            /* the agent: to low ports (errand.h) */
	ALLOW(M,  shutdown),
	ALLOW(M,  getsockname),
	ALLOW(M,  getpeername),
	ALLOW(M,  getsockopt),      /* reads only: SO_ERROR, SO_PEERCRED */
	ALLOW(M,  pipe2),           /* for splice */

	/* Sockets. The agent makes those of the container, main ports that come later. */
	ALLOW(MA, socket, IS(0, AF_INET, AF_INET6), TYPE(SOCK_STREAM, SOCK_DGRAM)),
	ALLOW(A,  socket, IS(0, AF_NETLINK), IS(2, NETLINK_SOCK_DIAG)),
	REFUSE(MA, EACCES, socket, IS(0, AF_UNIX)), /* syslog(3) connects again */
	ALLOW(M,  listen),
	ALLOW(M,  ioctl, IS(1, SIOCGIFINDEX)), /* the scope of a link-local address */
	ALLOW(M,  setsockopt, OPTION(SOL_SOCKET, SO_LINGER, SO_REUSEADDR, SO_REUSEPORT,
				     SO_KEEPALIVE, SO_RCVBUF, SO_SNDBUF, SO_BINDTODEVICE)),
	ALLOW(M,  setsockopt, OPTION(IPPROTO_TCP, TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL,
				     TCP_KEEPCNT)),
	ALLOW(M,  setsockopt, OPTION(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, IP_PKTINFO,
				     IP_FREEBIND)),
	ALLOW(M,  setsockopt, OPTION(IPPROTO_IPV6, IPV6_V6ONLY, IPV6_RECVPKTINFO)),
	ALLOW(MA, setsockopt, OPTION(IPPROTO_UDP, UDP_GRO)),
	ALLOW(A,  setsockopt, OPTION(SOL_SOCKET, SO_MARK, SO_REUSEADDR, SO_RCVBUF, SO_SNDBUF)),
	ALLOW(A,  setsockopt, OPTION(IPPROTO_TCP, TCP_NODELAY, TCP_CONGESTION)),
	ALLOW(A,  setsockopt, OPTION(IPPROTO_IP, IP_TRANSPARENT)),
	ALLOW(A,  setsockopt, OPTION(IPPROTO_IPV6, IPV6_TRANSPARENT)),

	/* Files, by descriptors that are open. */
	ALLOW(M,  fcntl, IS(1, F_GETFL, F_SETFL, F_SETPIPE_SZ)), /* log rotation; pipes */
	ALLOW(M,  pread64),         /* log rotation */
	ALLOW(MA, pwrite64),        /* the same; the agent: sysctls, at its end */
	ALLOW(M,  ftruncate),       /* log rotation, the pid file */
	ALLOW(M,  unlinkat, IS(2, 0)), /* the pid file, at the end */
	ALLOW(M,  newfstatat),      /* is the namespace still there (ns/watch.c) */
	ALLOW(M,  statx),           /* the same by musl */
	ALLOW(MA, fstat),           /* stdio: dprintf(3) */
	ALLOW(M,  lseek),           /* the same */
	ALLOW(M,  setsid),          /* going to the background */
	ALLOW(M,  dup2),            /* the same */
	ALLOW(M,  dup3),            /* the same on aarch64 */
	ALLOW(M,  timerfd_create),  /* timers of whoever waits by poll(2) */
	ALLOW(M,  timerfd_settime),

	/* Memory, never to be executed. */
	ALLOW(MA, brk),
	ALLOW(MA, mmap, HASNT(2, PROT_EXEC)),
	ALLOW(MA, mprotect, HASNT(2, PROT_EXEC)), /* heaps of glibc's threads, our buffers */
	ALLOW(MA, munmap),
	ALLOW(MA, mremap),
	ALLOW(MA, madvise),

	/* Signals, and the end: of a thread, of a child, of ourselves. */
	ALLOW(M,  kill, IS(0, PID_SELF, PID_AGENT, PID_COMMAND)),
	ALLOW(MA, tgkill, IS(0, PID_SELF)), /* abort(3) */
	ALLOW(MA, tkill, IS(1, SIGABRT)), /* the same by musl */
	ALLOW(MA, rt_sigaction),    /* the same */
	ALLOW(MA, rt_sigprocmask),  /* the same */
	ALLOW(MA, rt_sigreturn),
	ALLOW(MA, restart_syscall), /* poll(2), after SIGCONT */
	ALLOW(MA, getpid),
	ALLOW(MA, gettid),
	ALLOW(M,  wait4),
	ALLOW(MA, exit),
	ALLOW(M,  rseq),            /* some versions of glibc, as a thread ends */
	ALLOW(MA, exit_group),

	/* The C library. */
	ALLOW(MA, sched_getaffinity), /* malloc(3): how many heaps? */
	ALLOW(MA, sched_yield),
	ALLOW(M,  sysinfo),         /* qsort(3) of much: how much memory is there? */
	ALLOW(MA, getrandom),
	REFUSE(MA, EACCES, open),
	REFUSE(MA, EACCES, openat), /* malloc(3): overcommit_memory; syslog(3): /dev/console */
};
/* clang-format on */

/* ---------------------------------------------------------------- to BPF */

#define SECCOMP_MAX 1024

struct seccomp_program {
	struct sock_filter v[SECCOMP_MAX];
	unsigned n;
};

static unsigned seccomp_put(struct seccomp_program *p, struct sock_filter insn)
{
	fwd_assert(p->n < SECCOMP_MAX);
	p->v[p->n] = insn;
	return p->n++;
}

static void seccomp_load(struct seccomp_program *p, size_t offset)
{
	seccomp_put(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static unsigned seccomp_jump_if(struct seccomp_program *p, unsigned op, uint32_t k, uint8_t yes,
				uint8_t no)
{
	return seccomp_put(
		p, (struct sock_filter)BPF_JUMP((uint16_t)(BPF_JMP | op | BPF_K), k, yes, no));
}

static void seccomp_return(struct seccomp_program *p, uint32_t action)
{
	seccomp_put(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

/* Let the conditional jump @from lead here when its condition does not hold. */
static void seccomp_else_here(struct seccomp_program *p, unsigned from)
{
	fwd_assert(p->n - from - 1 <= UINT8_MAX);
	p->v[from].jf = (uint8_t)(p->n - from - 1);
}

static uint32_t seccomp_value(int32_t v, const struct seccomp_pids *pids)
{
	pid_t pid = v == PID_SELF ? getpid() : v == PID_AGENT ? pids->agent : pids->command;

	if (v != PID_SELF && v != PID_AGENT && v != PID_COMMAND)
		return (uint32_t)v;
	/* kill(2) takes 0 for the whole group: never let that be a value. */
	return pid > 0 ? (uint32_t)pid : (uint32_t)getpid();
}

/* Go on behind what is put here if @c holds; the place of the jump that is taken if not. */
static unsigned seccomp_check(struct seccomp_program *p, const struct seccomp_check *c,
			      const struct seccomp_pids *pids)
{
	unsigned last = 0;

	seccomp_load(p, offsetof(struct seccomp_data, args) + c->arg * sizeof(uint64_t));
	if (c->mask != ~0u)
		seccomp_put(p, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, c->mask));
	for (unsigned i = 0; i < c->n; i++)
		last = seccomp_jump_if(p, BPF_JEQ, seccomp_value(c->v[i], pids),
				       (uint8_t)(c->n - 1 - i), 0);
	return last;
}

/* Behind this, the number is known to be that of @row: decide if its checks hold. */
static void seccomp_row(struct seccomp_program *p, const struct seccomp_row *row,
			const struct seccomp_pids *pids)
{
	unsigned jumps[ARRAY_SIZE(row->check)], n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(row->check); i++)
		if (row->check[i].n > 0)
			jumps[n++] = seccomp_check(p, &row->check[i], pids);
	seccomp_return(p, row->code ? SECCOMP_RET_ERRNO | row->code : SECCOMP_RET_ALLOW);
	while (n-- > 0)
		seccomp_else_here(p, jumps[n]);
}

static void seccomp_generate(struct seccomp_program *p, enum seccomp_who who,
			     const struct seccomp_pids *pids)
{
	seccomp_load(p, offsetof(struct seccomp_data, arch));
	seccomp_jump_if(p, BPF_JEQ, SECCOMP_ARCH, 1, 0);
	seccomp_return(p, SECCOMP_RET_KILL_PROCESS);
	seccomp_load(p, offsetof(struct seccomp_data, nr));
	seccomp_jump_if(p, BPF_JGE, SECCOMP_X32, 0, 1);
	seccomp_return(p, SECCOMP_RET_KILL_PROCESS);
	for (size_t i = 0; i < ARRAY_SIZE(seccomp_table);) {
		long nr = seccomp_table[i].nr;
		unsigned other = seccomp_jump_if(p, BPF_JEQ, (uint32_t)nr, 0, 0);

		for (; i < ARRAY_SIZE(seccomp_table) && seccomp_table[i].nr == nr; i++)
			if (nr != SECCOMP_ABSENT && (seccomp_table[i].who & who))
				seccomp_row(p, &seccomp_table[i], pids);
		if (p->n == other + 1) {
			p->n = other; /* not for this one */
			continue;
		}
		seccomp_return(p, SECCOMP_RET_KILL_PROCESS); /* no row's checks hold */
		seccomp_else_here(p, other);
	}
	seccomp_return(p, SECCOMP_RET_KILL_PROCESS);
}

/* ---------------------------------------------------------------- for the caller */

int seccomp_confine(enum seccomp_who who, const struct seccomp_pids *pids)
{
	struct seccomp_program p = { .n = 0 };
	struct sock_fprog prog = { .filter = p.v };
	/* No code but ours runs here: the mitigations for speculation between sandboxes would
	 * only cost time (before Linux 5.16, a filter implied them). */
	unsigned long flags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
	long ret;

	if (SECCOMP_ARCH == 0)
		return -EOPNOTSUPP;
	seccomp_generate(&p, who, pids);
	prog.len = (unsigned short)p.n;
	ret = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
	/* Above 0: a thread that has another filter. */
	return ret > 0 ? -EBUSY : ret < 0 ? -errno : 0;
}
