# SPDX-License-Identifier: Apache-2.0
"""The namespaces of one measurement.

    client netns --veth-- host netns      [user namespace U0: "the machine"]
                            |  forwarder  [U1, a child of U0: "the container engine"]
                          container netns [owned by U1]
                            | veth        (only if the container is of the kind "veth")
                          side netns      [owned by U1]

U0 is ours from nsapi.enter_sandbox(); its root is the unprivileged user outside. U1 and
its mount namespace live as long as the run, as a container engine's do. The network
namespaces are new for each measurement. A forwarder starts where Podman starts one: root
of U1, in U1's mount namespace, in the *host's* netns, over which it has no privilege.
"""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Sequence

from . import nsapi

HOST_PORT = 8080
CONTAINER_PORT = 8081
HOST4, CLIENT4, GATEWAY4 = "198.18.0.1", "198.18.0.2", "198.18.0.254"
HOST6, CLIENT6, GATEWAY6 = "fd00:0:0:1::1", "fd00:0:0:1::2", "fd00:0:0:1::fe"
CONTAINER4, SIDE4 = "198.18.1.2", "198.18.1.1"
CONTAINER6, SIDE6 = "fd00:0:0:2::2", "fd00:0:0:2::1"

# The first of a client's 65536 further addresses, for scenarios with many clients.
CROWD4, CROWD6 = "198.19.0.0", "fd00:0:0:9::"

# Where the client is, and which address of the host it asks.
TOPOLOGIES = {
    "remote4": ("client", HOST4),
    "remote6": ("client", HOST6),
    "local4": ("host", "127.0.0.1"),
    "local6": ("host", "::1"),
    "localaddr4": ("host", HOST4),
    "localaddr6": ("host", HOST6),
}

# What a container's netns has before the forwarder comes: nothing but lo; an address of
# its own on a veth; or nothing, because the helper under test makes it.
CONTAINERS = ("lo", "veth", "own")


@dataclass
class Engine:
    """U1 and its mount namespace: the container engine that starts forwarders."""
    pid: int
    user: int
    mnt: int

    @staticmethod
    def new() -> "Engine":
        def enter() -> None:
            nsapi.unshare(nsapi.CLONE_NEWUSER)
            nsapi.write_id_maps("self", 0, 0)
            nsapi.unshare(nsapi.CLONE_NEWNS)
            nsapi.mount("none", "/", "", nsapi.MS_REC | nsapi.MS_PRIVATE)
            nsapi.mount("tmpfs", "/run", "tmpfs", 0, "mode=755")
            os.makedirs("/run/netns")
            os.makedirs("/run/bench", mode=0o700)

        pid = nsapi.fork_holder(enter)
        return Engine(pid, nsapi.ns_fd(pid, "user"), nsapi.ns_fd(pid, "mnt"))


def _new_netns() -> int:
    """A network namespace owned by the user namespace that we are in."""
    before = nsapi.ns_fd("self", "net")
    try:
        nsapi.unshare(nsapi.CLONE_NEWNET)
        return nsapi.ns_fd("self", "net")
    finally:
        nsapi.setns(before)
        os.close(before)


def _ip(ns: Sequence[int], batch: str) -> None:
    """Run `ip -batch` inside @ns."""
    p = nsapi.spawn(["ip", "-batch", "-"], ns, stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                    text=True)
    err = p.communicate(batch, timeout=20)[1]
    if p.returncode != 0:
        raise OSError(f"ip: {err.strip()}")


class World:
    """One measurement's network. Close it when done."""

    def __init__(self, engine: Engine, container: str, cc: str, netem: str = "") -> None:
        self.engine = engine
        self.container = container
        self.container_pid = 0
        self.netns_path = "/run/netns/c"
        self._fds: list[int] = []
        try:
            self.host = self._keep(_new_netns())
            self.client = self._keep(_new_netns())
            self._make_container()
            for ns in (self.host_ns, self.client_ns, self.container_ns):
                self._sysctl(ns, cc)
            self._connect(netem)
        except BaseException:
            self.close()
            raise

    # ---- what to enter, in order
    @property
    def host_ns(self) -> list[int]:
        """As root of U0, the machine: privileged over all of it."""
        return [self.host]

    @property
    def client_ns(self) -> list[int]:
        return [self.client]

    @property
    def engine_ns(self) -> list[int]:
        """Where a container engine starts its forwarder."""
        return [self.host, self.engine.user, self.engine.mnt]

    @property
    def container_ns(self) -> list[int]:
        return [self.engine.user, self.engine.mnt, self.net]

    # ---- making it
    def _keep(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def _make_container(self) -> None:
        path = self.netns_path

        def enter() -> None:
            nsapi.setns(self.engine.user)
            nsapi.setns(self.engine.mnt)
            nsapi.unshare(nsapi.CLONE_NEWNET)
            with open(path, "w", encoding="ascii"):
                pass
            nsapi.mount("/proc/self/ns/net", path, "", nsapi.MS_BIND)

        self.container_pid = nsapi.fork_holder(enter)
        self.net = self._keep(nsapi.ns_fd(self.container_pid, "net"))
        # Its name as `ip netns` makes it, for a relay that runs as the machine's root.
        with open("/run/netns/c", "w", encoding="ascii"):
            pass
        nsapi.mount(f"/proc/{self.container_pid}/ns/net", "/run/netns/c", "", nsapi.MS_BIND)

    def _connect(self, netem: str) -> None:
        # iproute2 names a netns by pid or by path; our own descriptors have a path.
        us = os.getpid()
        _ip(self.host_ns, f"""link set lo up
link add eth0 type veth peer name eth0 netns /proc/{us}/fd/{self.client}
addr add {HOST4}/24 dev eth0
addr add {HOST6}/64 dev eth0 nodad
link set eth0 up
""")
        _ip(self.client_ns, f"""link set lo up
addr add {CLIENT4}/24 dev eth0
addr add {CLIENT6}/64 dev eth0 nodad
addr add {GATEWAY4}/24 dev eth0
addr add {GATEWAY6}/64 dev eth0 nodad
link set eth0 up
route add local {CROWD4}/16 dev lo
route add local {CROWD6}/112 dev lo
""")
        _ip(self.host_ns, f"""route add default via {GATEWAY4} dev eth0
route add ::/0 via {GATEWAY6} dev eth0
""")
        if netem:
            for ns in (self.host_ns, self.client_ns):
                argv = ["tc", "qdisc", "add", "dev", "eth0", "root", "netem", *netem.split()]
                if nsapi.spawn(argv, ns).wait(10) != 0:
                    raise OSError("this kernel has no netem")
        if self.container != "own":
            _ip(self.container_ns, "link set lo up\n")
        if self.container == "veth":
            self._connect_container()

    def _connect_container(self) -> None:
        """An address on a veth and a default route, as on an engine's bridge."""

        def enter() -> None:
            nsapi.setns(self.engine.user)
            nsapi.unshare(nsapi.CLONE_NEWNET)

        pid = nsapi.fork_holder(enter)
        try:
            side = self._keep(nsapi.ns_fd(pid, "net"))
            _ip(self.container_ns, f"""link add eth0 type veth peer name eth0 netns {pid}
addr add {CONTAINER4}/24 dev eth0
addr add {CONTAINER6}/64 dev eth0 nodad
link set eth0 up
""")
            _ip([self.engine.user, side], f"""link set lo up
addr add {SIDE4}/24 dev eth0
addr add {SIDE6}/64 dev eth0 nodad
link set eth0 up
""")
            _ip(self.container_ns, f"""route add default via {SIDE4} dev eth0
route add ::/0 via {SIDE6} dev eth0
""")
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _sysctl(self, ns: Sequence[int], cc: str) -> None:
        """Congestion control; addresses at once; ports enough for a client of thousands."""
        values = {"ipv4/tcp_congestion_control": cc, "ipv6/conf/default/accept_dad": "0"}
        if ns == self.client_ns:
            values["ipv4/ip_local_port_range"] = "10000 65000"

        def write() -> None:
            for name, value in values.items():
                with open(f"/proc/sys/net/{name}", "w", encoding="ascii") as f:
                    f.write(value)

        nsapi.call_inside(ns, write)

    # ---- its life
    def listening(self, port: int, udp: bool) -> bool:
        """Is @port taken in the host's netns, in either family?"""
        names = ("udp", "udp6") if udp else ("tcp", "tcp6")
        state = "07" if udp else "0A"
        before = nsapi.ns_fd("self", "net")
        try:
            nsapi.setns(self.host)
            for name in names:
                with open(f"/proc/thread-self/net/{name}", encoding="ascii") as f:
                    for line in f.readlines()[1:]:
                        field = line.split()
                        if field[3] == state and int(field[1].rsplit(":", 1)[1], 16) == port:
                            return True
            return False
        finally:
            nsapi.setns(before)
            os.close(before)

    def wait_listening(self, port: int, udp: bool, seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while not self.listening(port, udp):
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody listens on port {port} after {seconds:g} s")
            time.sleep(0.005)

    def end_container(self) -> None:
        """What an engine does when a container ends: its last process goes, then its netns."""
        if not self.container_pid:
            return
        os.kill(self.container_pid, signal.SIGKILL)
        os.waitpid(self.container_pid, 0)
        self.container_pid = 0
        nsapi.umount("/run/netns/c")
        os.unlink("/run/netns/c")

        def unlink() -> None:
            nsapi.umount(self.netns_path)
            os.unlink(self.netns_path)

        nsapi.call_inside([self.engine.user, self.engine.mnt], unlink)

    def close(self) -> None:
        self.end_container()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
