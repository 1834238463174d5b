/* SPDX-License-Identifier: Apache-2.0 */

/*
 * With net.ipv4.tcp_fwmark_accept the mark of a SYN goes over to the accepted
 * socket, so a rule on the mark with a local default route sends its answers to
 * lo. Then a transparent socket bound to any foreign address talks to an
 * application here, which sees that address. All of it works in the namespace of
 * an unprivileged user, for an application on 127.0.0.1 and for one on the
 * address of another interface. Without the sysctl there is no answer.
 */

#include <netinet/in.h>
#include <poll.h>

#include "probe.h"

#define SYSCTL "/proc/sys/net/ipv4/tcp_fwmark_accept"

static int client_socket(const struct sockaddr_in *from)
{
	int fd = probe_ok(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
	unsigned mark = 0x77;
	int on = 1;

	probe_ok(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), "SO_REUSEADDR");
	probe_ok(setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &on, sizeof(on)), "IP_TRANSPARENT");
	probe_ok(setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)), "SO_MARK");
	probe_ok(bind(fd, (const void *)from, sizeof(*from)), "bind to a foreign address");
	return fd;
}

/* Connect within @ms milliseconds. */
static bool client_connect(int fd, const struct sockaddr_in *to, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	probe_check(connect(fd, (const void *)to, sizeof(*to)) == -1 && errno == EINPROGRESS,
		    "connect: EINPROGRESS");
	return poll(&p, 1, ms) == 1 && !(p.revents & POLLERR);
}

static void wait_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	probe_check(poll(&p, 1, 5000) == 1, "data arrives");
}

static void probe_on(const char *ip)
{
	struct sockaddr_in from = probe_addr("198.18.77.3", 4321);
	struct sockaddr_in to = probe_addr(ip, 4000);
	struct sockaddr_in peer = { 0 };
	socklen_t len = sizeof(peer);
	int lfd = probe_listen(&to);
	char buf[8] = "";
	int app;
	int fd;

	probe_ok(probe_write(SYSCTL, "0"), SYSCTL);
	fd = client_socket(&from);
	probe_check(!client_connect(fd, &to, 200), "without the sysctl there is no answer");
	close(fd);

	probe_ok(probe_write(SYSCTL, "1"), SYSCTL);
	fd = client_socket(&from);
	probe_check(client_connect(fd, &to, 5000), "with the sysctl it connects");
	app = probe_ok(accept4(lfd, (void *)&peer, &len, SOCK_CLOEXEC), "accept");
	probe_check(peer.sin_addr.s_addr == from.sin_addr.s_addr && peer.sin_port == from.sin_port,
		    "the application sees 198.18.77.3:4321");
	probe_check(send(fd, "ping", 4, 0) == 4, "send");
	probe_check(recv(app, buf, sizeof(buf), 0) == 4 && send(app, buf, 4, 0) == 4, "echo");
	wait_readable(fd);
	probe_check(recv(fd, buf, sizeof(buf), 0) == 4 && memcmp(buf, "ping", 4) == 0, "echoed");
	close(fd);
	close(app);
	close(lfd);
}

int main(void)
{
	probe_enter_lo();
	if (access(SYSCTL, W_OK) < 0)
		probe_skip(SYSCTL);
	if (system("ip link add fwd0 type veth peer name fwd1 &&"
		   "ip addr add 198.18.0.1/24 dev fwd0 &&"
		   "ip link set fwd0 up && ip link set fwd1 up &&"
		   "ip rule add fwmark 0x77 lookup 1077 pref 50 &&"
		   "ip route add local default dev lo table 1077") != 0)
		probe_skip("cannot set up routes with iproute2");
	probe_on("127.0.0.1");
	probe_on("198.18.0.1");
	return 0;
}
