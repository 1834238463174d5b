/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A netlink socket acts on the network namespace in which it was opened, whoever
 * uses it: the process that gets it by SCM_RIGHTS reads and changes the other
 * namespace, being neither in there nor in its user namespace, only that one's
 * owner. The namespace lives as long as the socket, also without a process.
 */

#include <linux/rtnetlink.h>
#include <sys/wait.h>

#include "probe.h"

struct request {
	struct nlmsghdr h;
	struct ifinfomsg ifi;
};

/* Ask on @fd about interface 1, lo. Its flags. */
static unsigned lo_flags(int fd)
{
	struct request req = {
		.h = { .nlmsg_len = sizeof(req),
		       .nlmsg_type = RTM_GETLINK,
		       .nlmsg_flags = NLM_F_REQUEST },
		.ifi = { .ifi_index = 1 },
	};
	union {
		struct request msg;
		char bytes[16384];
	} answer;

	probe_check(send(fd, &req, sizeof(req), 0) == sizeof(req), "send RTM_GETLINK");
	probe_check(recv(fd, &answer, sizeof(answer), 0) > (ssize_t)sizeof(answer.msg), "answer");
	probe_check(answer.msg.h.nlmsg_type == RTM_NEWLINK, "RTM_NEWLINK");
	return answer.msg.ifi.ifi_flags;
}

/* Take lo down by @fd. 0, or an errno value. */
static int lo_down(int fd)
{
	struct request req = {
		.h = { .nlmsg_len = sizeof(req),
		       .nlmsg_type = RTM_SETLINK,
		       .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
		.ifi = { .ifi_index = 1, .ifi_change = IFF_UP },
	};
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
		char more[1024];
	} answer;

	probe_check(send(fd, &req, sizeof(req), 0) == sizeof(req), "send RTM_SETLINK");
	probe_check(recv(fd, &answer, sizeof(answer), 0) > 0, "ack");
	probe_check(answer.h.nlmsg_type == NLMSG_ERROR, "NLMSG_ERROR");
	return -answer.e.error;
}

static int open_netlink(void)
{
	struct sockaddr_nl a = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	probe_ok(fd, "netlink socket");
	probe_ok(bind(fd, (void *)&a, sizeof(a)), "bind netlink socket");
	return fd;
}

/* Send @fd over @sock, or, with @fd < 0, return the one that comes. */
static int pass_fd(int sock, int fd)
{
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(sizeof(int))];
	} u = { .hdr = { .cmsg_len = CMSG_LEN(sizeof(fd)),
			 .cmsg_level = SOL_SOCKET,
			 .cmsg_type = SCM_RIGHTS } };
	char byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	m.msg_control = u.buf;
	m.msg_controllen = sizeof(u.buf);
	if (fd >= 0) {
		memcpy(CMSG_DATA(&u.hdr), &fd, sizeof(fd));
		return (int)sendmsg(sock, &m, 0);
	}
	if (recvmsg(sock, &m, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&m))
		return -1;
	memcpy(&fd, CMSG_DATA(&u.hdr), sizeof(fd));
	return fd;
}

int main(void)
{
	int status = 0;
	int theirs;
	int own;
	int sv[2];
	pid_t pid;

	probe_enter(); /* lo is down here */
	probe_ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), "socketpair");
	pid = probe_ok(fork(), "fork");
	if (pid == 0) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
			probe_skip("nested namespaces are refused");
		probe_ok(probe_lo(true), "bring lo up");
		probe_ok(pass_fd(sv[1], open_netlink()), "send the socket");
		return 0;
	}
	close(sv[1]);
	theirs = pass_fd(sv[0], -1);
	probe_check(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "wait for the child");
	if (status != 0)
		return WEXITSTATUS(status);
	probe_ok(theirs, "receive the socket");

	/* The child is gone: the socket alone holds the namespace. */
	own = open_netlink();
	probe_check(!(lo_flags(own) & IFF_UP), "lo is down here");
	probe_check(lo_flags(theirs) & IFF_UP, "lo is up there");
	probe_ok(probe_lo(true), "bring lo up here");
	probe_check(lo_down(theirs) == 0, "take lo down there");
	probe_check(!(lo_flags(theirs) & IFF_UP), "lo is down there");
	probe_check(lo_flags(own) & IFF_UP, "lo is still up here");
	return 0;
}
