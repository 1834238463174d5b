# SPDX-License-Identifier: Apache-2.0
"""More competitors: slirp4netns, RootlessKit, and plain relays. See peers.py."""

import json
import os
import socket
import stat
import subprocess
import time

from . import nsapi
from .peers import (START_SECONDS, Ask, Failed, Peer, Running, _exec, find, first_line, log_tail)
from .world import CONTAINER4, CONTAINER6, CONTAINER_PORT, HOST_PORT, World


def _wait_path(path: str, p: subprocess.Popen, folder: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not os.path.exists(path):
        if p.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"did not start: {log_tail(folder)}")
        time.sleep(0.001)


class Slirp4netns(Peer):
    """As Podman starts it, with its own port handler (port_handler=slirp4netns)."""
    name = "slirp4netns"
    containers = ("own",)
    container = "own"

    def __init__(self) -> None:
        self.program = find("slirp4netns")

    def unable(self, ask: Ask, container: str) -> str:
        if ask.v6:
            return "its port handler has no IPv6"
        return super().unable(ask, container)

    def start(self, world: World, ask: Ask, folder: str) -> Running:
        api = os.path.join(folder, "api")
        ready_r, ready_w = os.pipe()
        exit_r, exit_w = os.pipe()
        argv = [self.program, "--disable-host-loopback", "--mtu=65520", "--enable-sandbox",
                "--enable-seccomp", "--enable-ipv6", "-c", "-r", str(ready_w), "-e", str(exit_r),
                "--api-socket", api, "--netns-type=path", world.netns_path, "tap0"]
        p, began = _exec(argv, world.engine_ns, folder, pass_fds=(ready_w, exit_r))
        os.close(ready_w)
        os.close(exit_r)
        running = Running([p.pid], argv, world.container_ns, [p], exec_ns=began, end_fd=exit_w)
        try:
            with os.fdopen(ready_r, "rb") as f:
                if f.read(1) != b"1":
                    raise Failed(f"did not start: {log_tail(folder)}")
            _wait_path(api, p, folder)
            for i in range(ask.ports):
                self._add(api, "udp" if ask.udp else "tcp", i)
        except (OSError, ValueError) as e:
            running.close()
            raise Failed(str(e)) from e
        except Failed:
            running.close()
            raise
        running.ready_ns = time.monotonic_ns()
        running.argv = [*argv, "# and add_hostfwd by", api]
        return running

    @staticmethod
    def _add(api: str, proto: str, offset: int) -> None:
        request = {"execute": "add_hostfwd", "arguments": {
            "proto": proto, "host_addr": "0.0.0.0", "host_port": HOST_PORT + offset,
            "guest_addr": "10.0.2.100", "guest_port": CONTAINER_PORT + offset}}
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(START_SECONDS)
            s.connect(api)
            s.sendall(json.dumps(request).encode())
            s.shutdown(socket.SHUT_WR)
            answer = json.loads(s.recv(4096))
        if "return" not in answer:
            raise Failed(f"add_hostfwd: {answer}")


# newuidmap and newgidmap for RootlessKit: it asks them for the ids of /etc/subuid, which the
# user that we are has none of. The container's root is all that a measurement needs.
_IDMAP = """#!/bin/sh
case "$0" in
*newgidmap) echo deny >/proc/$1/setgroups; map=gid_map ;;
*) map=uid_map ;;
esac
echo "$2 $3 1" >/proc/$1/$map
"""
_GETSUBIDS = """#!/bin/sh
echo "0: root 100000 65536"
"""


class RootlessKit(Peer):
    """As Docker starts it, with its builtin port driver."""
    containers = ("own",)
    container = "own"
    makes_netns = True

    def __init__(self, name: str, program: str) -> None:
        self.name = name
        self.program = program

    def start(self, world: World, ask: Ask, folder: str) -> Running:
        shims = os.path.join(folder, "bin")
        os.makedirs(shims)
        for tool, text in (("newuidmap", _IDMAP), ("newgidmap", _IDMAP),
                           ("getsubids", _GETSUBIDS)):
            path = os.path.join(shims, tool)
            with open(path, "w", encoding="ascii") as f:
                f.write(text)
            os.chmod(path, stat.S_IRWXU)
        env = {**os.environ, "PATH": f"{shims}:{os.environ['PATH']}", "HOME": folder,
               "XDG_RUNTIME_DIR": folder, "USER": "root"}
        up = os.path.join(folder, "up")
        address = "[::]" if ask.v6 else "0.0.0.0"
        proto = "udp" if ask.udp else "tcp"
        publish = []
        for i in range(ask.ports):
            publish += ["-p", f"{address}:{HOST_PORT + i}:{CONTAINER_PORT + i}/{proto}"]
        argv = [self.program, f"--state-dir={folder}/state", "--net=slirp4netns", "--mtu=65520",
                "--slirp4netns-sandbox=auto", "--slirp4netns-seccomp=auto",
                "--disable-host-loopback", "--port-driver=builtin", *publish,
                "sh", "-c", f"echo $$ >{up}.new; mv {up}.new {up}; exec sleep 600"]
        p, began = _exec(argv, world.host_ns, folder, env=env)
        running = Running([p.pid], argv, [], [p], exec_ns=began, helper="slirp4netns")
        try:
            _wait_path(up, p, folder)
            running.ready_ns = time.monotonic_ns()
            with open(up, encoding="ascii") as f:
                pid = int(f.read())
            running.end_pid = pid
            user, net = nsapi.ns_fd(pid, "user"), nsapi.ns_fd(pid, "net")
            running.fds += [user, net]
            running.container_ns = [user, net]
        except (OSError, ValueError, Failed):
            running.close()
            raise
        return running


class HAProxy(Peer):
    """A plain relay with splice. It enters the netns as root of the machine: more than a
    rootless user has, but the same relaying."""
    name = "haproxy"
    everywhere = False

    def __init__(self) -> None:
        self.program = find("haproxy")

    def version(self) -> str:
        return first_line([self.program, "-v"])

    def unable(self, ask: Ask, container: str) -> str:
        return "no UDP" if ask.udp else super().unable(ask, container)

    def start(self, world: World, ask: Ask, folder: str) -> Running:
        config = os.path.join(folder, "cfg")
        address = "127.0.0.1"
        if world.container == "veth":
            address = CONTAINER6 if ask.v6 else CONTAINER4
        elif ask.v6:
            address = "::1"
        with open(config, "w", encoding="ascii") as f:
            f.write("defaults\n  mode tcp\n  option splice-auto\n  timeout connect 5s\n"
                    "  timeout client 1m\n  timeout server 1m\n")
            for i in range(ask.ports):
                f.write(f"listen l{i}\n  bind :::{HOST_PORT + i} v4v6\n"
                        f"  server s {address}:{CONTAINER_PORT + i} namespace c\n")
        argv = [self.program, "-db", "-f", config]
        p, began = _exec(argv, world.host_ns, folder)
        running = Running([p.pid], argv, world.container_ns, [p], exec_ns=began,
                          ends_with_container=False)
        try:
            world.wait_listening(HOST_PORT + ask.ports - 1, False)
        except TimeoutError as e:
            running.close()
            raise Failed(f"{e}: {log_tail(folder)}") from e
        running.ready_ns = time.monotonic_ns()
        return running


class SocketProxyd(Peer):
    """systemd-socket-proxyd in the container's netns, with a listener of the host's: what
    socket activation makes of a relay."""
    name = "socket-proxyd"
    everywhere = False

    def __init__(self) -> None:
        path = "/lib/systemd/systemd-socket-proxyd"
        self.program = path if os.access(path, os.X_OK) else ""

    def unable(self, ask: Ask, container: str) -> str:
        if ask.udp:
            return "no UDP"
        if ask.ports > 1:
            return "one process for each port"
        return super().unable(ask, container)

    def start(self, world: World, ask: Ask, folder: str) -> Running:
        target = f"127.0.0.1:{CONTAINER_PORT}"  # it takes no IPv6 literal; servers have both
        listener = self._listen(world)
        # The shell hands it the listener as descriptor 3, and says so, as systemd does.
        argv = ["bash", "-c", f'LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@" 3<&{listener}',
                self.program, "--connections-max=20000", target]
        try:
            p, began = _exec(argv, world.container_ns, folder, pass_fds=(listener,))
        finally:
            os.close(listener)
        return Running([p.pid], argv, world.container_ns, [p], exec_ns=began,
                       ready_ns=time.monotonic_ns(), ends_with_container=False)

    @staticmethod
    def _listen(world: World) -> int:
        before = nsapi.ns_fd("self", "net")
        try:
            nsapi.setns(world.host)
            s = socket.create_server(("::", HOST_PORT), family=socket.AF_INET6, backlog=4096,
                                     dualstack_ipv6=True)
            s.setblocking(False)
            return s.detach()
        finally:
            nsapi.setns(before)
            os.close(before)

