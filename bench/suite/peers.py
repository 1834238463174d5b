# SPDX-License-Identifier: Apache-2.0
"""The competitors: how each is found, started as its users start it, and what it cannot do.

A peer forwards world.HOST_PORT of the host to world.CONTAINER_PORT of the container. All
start() functions return once the port is bound; all processes that they leave behind are
found from Running.roots.
"""

import functools
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import Sequence

from . import account, nsapi
from .world import CONTAINER_PORT, HOST_PORT, World

START_SECONDS = 10


@dataclass
class Ask:
    """What a measurement wants forwarded."""
    udp: bool = False
    v6: bool = False
    ports: int = 1  # consecutive, from HOST_PORT to CONTAINER_PORT on


@dataclass
class Running:
    """A forwarder at work."""
    roots: list[int]
    argv: list[str]
    container_ns: list[int]  # where the container's processes live
    procs: list[subprocess.Popen] = field(default_factory=list)
    exec_ns: int = 0  # when it was executed (CLOCK_MONOTONIC)
    ready_ns: int = 0  # when it said that it was ready
    helper: str = ""  # a process of this name is no part of the forwarding
    fds: list[int] = field(default_factory=list)
    ends_with_container: bool = True
    end_pid: int = 0  # the container's process, if it is not World's
    end_fd: int = -1  # closed by the engine when the container ends

    def end_container(self, world: World) -> None:
        """As the engine that uses this forwarder ends a container."""
        if self.end_pid:
            os.kill(self.end_pid, signal.SIGKILL)
            return
        if self.end_fd >= 0:
            os.close(self.end_fd)
            self.end_fd = -1
        world.end_container()

    def pids(self) -> list[int]:
        return [p for p in account.tree(self.roots) if not self._is_helper(p)]

    def _is_helper(self, pid: int) -> bool:
        try:
            return bool(self.helper) and account.comm(pid) == self.helper
        except OSError:
            return True

    def alive(self) -> bool:
        return bool(account.tree(self.roots))

    def close(self) -> None:
        for pid in account.tree(self.roots):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for p in self.procs:
            try:
                p.wait(5)
            except subprocess.TimeoutExpired:
                pass
        for fd in [*self.fds, *([self.end_fd] if self.end_fd >= 0 else [])]:
            os.close(fd)
        self.fds, self.end_fd = [], -1


class Unable(Exception):
    """The peer is not made for this, or is not installed: a line in the report."""


class Failed(Exception):
    """The peer should do it, and did not."""


def find(program: str, env: str = "") -> str:
    """The program's path: by the environment variable @env, else in $PATH. "" if missing."""
    if env and os.environ.get(env):
        return os.environ[env] if os.access(os.environ[env], os.X_OK) else ""
    for folder in os.environ["PATH"].split(":"):
        path = os.path.join(folder, program)
        if os.access(path, os.X_OK):
            return path
    return ""


@functools.cache
def _output(*argv: str) -> str:
    try:
        p = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
        return (p.stdout or p.stderr).strip()
    except (OSError, subprocess.TimeoutExpired) as e:
        return f"unknown ({e})"


def whole_output(argv: Sequence[str]) -> str:
    """What a program prints, asked once."""
    return _output(*argv)


def first_line(argv: Sequence[str]) -> str:
    return (whole_output(argv).splitlines() or ["unknown"])[0]


def package_version(path: str) -> str:
    """The Debian package and version that a program came in, or ""."""
    try:
        owner = subprocess.run(["dpkg-query", "-S", os.path.realpath(path)], timeout=10,
                               capture_output=True, text=True, check=True).stdout.split(":")[0]
        return subprocess.run(["dpkg-query", "-W", owner], timeout=10, capture_output=True,
                              text=True, check=True).stdout.strip().replace("\t", " ")
    except (OSError, subprocess.SubprocessError):
        return ""


class Peer:
    name = ""
    containers: tuple[str, ...] = ("lo", "veth")
    container = "veth"  # the kind it is measured with unless told otherwise
    program = ""
    everywhere = True  # in every scenario, or in the core ones only, unless asked for
    makes_netns = False  # the container's netns is there only once it has started

    def missing(self) -> str:
        """Why it cannot run here at all, or ""."""
        return "" if self.program else "not installed, or not executable for the user we run as"

    def version(self) -> str:
        said = first_line([self.program, "--version"])
        package = package_version(self.program)
        return f"{said} [{package}]" if package else said

    def unable(self, ask: Ask, container: str) -> str:
        """Why it is not made for this, or ""."""
        if container not in self.containers:
            return f"not for a container netns of the kind {container}"
        return ""

    def start(self, world: World, ask: Ask, folder: str) -> Running:
        raise NotImplementedError


class Native(Peer):
    """No forwarder: the server is in the host's netns."""
    name = "native"
    containers = ("lo", "veth", "own")

    def missing(self) -> str:
        return ""

    def version(self) -> str:
        return "-"

    def start(self, world: World, ask: Ask, folder: str) -> Running:
        return Running([], ["(server in the host's netns)"], world.host_ns)


def _exec(argv: list[str], ns: Sequence[int], folder: str,
          **popen: object) -> tuple[subprocess.Popen, int]:
    """Start @argv, output to a file. Returns it and the time of its start."""
    with open(os.path.join(folder, "log"), "ab") as log:
        began = time.monotonic_ns()
        p = nsapi.spawn(argv, ns, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **popen)
    return p, began


def log_tail(folder: str) -> str:
    try:
        with open(os.path.join(folder, "log"), encoding="utf-8", errors="replace") as f:
            return " | ".join(f.read().strip().splitlines()[-3:])
    except OSError:
        return ""


def _daemon(argv: list[str], pidfile: str, world: World, folder: str) -> Running:
    """A forwarder that goes into the background when it is ready, and writes its pid."""
    p, began = _exec(argv, world.engine_ns, folder)
    try:
        status = p.wait(START_SECONDS)
    except subprocess.TimeoutExpired:
        p.kill()
        p.wait()
        raise Failed("did not go into the background") from None
    ready = time.monotonic_ns()
    if status != 0:
        raise Failed(f"exit status {status}: {log_tail(folder)}")
    with open(pidfile, encoding="ascii") as f:
        pid = int(f.read())
    return Running([pid], argv, world.container_ns, exec_ns=began, ready_ns=ready)


def _range_spec(ask: Ask) -> str:
    """The ports as Podman 5 writes them."""
    last = ask.ports - 1
    return f"{HOST_PORT}-{HOST_PORT + last}:{CONTAINER_PORT}-{CONTAINER_PORT + last}"


class Pasta(Peer):
    """As Podman starts it. It makes the container's interface itself."""
    containers = ("own",)
    container = "own"

    def __init__(self, name: str, program: str) -> None:
        self.name = name
        self.program = program

    def start(self, world: World, ask: Ask, folder: str) -> Running:
        pidfile = os.path.join(folder, "pid")
        ports = (["-u", _range_spec(ask), "-t", "none"] if ask.udp else
                 ["-t", _range_spec(ask), "-u", "none"])
        argv = [self.program, "--config-net", *ports, "-T", "none", "-U", "none", "--no-map-gw",
                "--quiet", "--pid", pidfile, "--netns", world.netns_path]
        return _daemon(argv, pidfile, world, folder)


class Fwd(Peer):
    """build/fwd, with an engine and with or without the client's address kept."""

    def __init__(self, name: str, program: str, options: Sequence[str],
                 everywhere: bool = True) -> None:
        self.name = name
        self.program = program if os.access(program, os.X_OK) else ""
        self.options = [*options, *os.environ.get("FWD_OPTIONS", "").split()]
        self.everywhere = everywhere
        if self._can("--config-net"):
            self.containers = ("lo", "veth", "own")

    def missing(self) -> str:
        return "" if self.program else "not built"

    def _can(self, option: str) -> bool:
        return bool(self.program) and option in whole_output([self.program, "--help"])

    def unable(self, ask: Ask, container: str) -> str:
        if ask.udp and not self._can("--udp-ports"):
            return "no UDP"
        return super().unable(ask, container)

    def start(self, world: World, ask: Ask, folder: str) -> Running:
        pidfile = os.path.join(folder, "pid")
        make = ["--config-net"] if world.container == "own" else []
        argv = [self.program, *make, "-u" if ask.udp else "-t", _range_spec(ask), *self.options,
                "-P", pidfile, "--netns", world.netns_path]
        return _daemon(argv, pidfile, world, folder)
