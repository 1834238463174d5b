# SPDX-License-Identifier: Apache-2.0
"""Namespaces: the system calls that Python 3.11 lacks, and processes started inside them.

Everything runs below one user namespace and one PID namespace of our own: when their
first process goes, the kernel ends whatever is left. No privilege is needed outside.
"""

import ctypes
import os
import signal
import subprocess
import sys
from typing import Callable, NoReturn, Sequence

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        err = ctypes.get_errno()
        raise OSError(err, f"{what}: {os.strerror(err)}")


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int) -> None:
    _check(_libc.setns(fd, 0), "setns")


def mount(source: str, target: str, fstype: str, flags: int, data: str = "") -> None:
    _check(
        _libc.mount(source.encode(), target.encode(), fstype.encode(),
                    ctypes.c_ulong(flags), data.encode()),
        f"mount {fstype or source} on {target}")


def umount(target: str) -> None:
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def ns_fd(pid: int | str, kind: str) -> int:
    """A descriptor of a process's namespace of that kind (net, user, mnt)."""
    return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


def write_id_maps(pid: int | str, outside_uid: int, outside_gid: int) -> None:
    """Map root of @pid's user namespace to those ids outside, and nothing else."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {outside_uid} 1"),
                       ("gid_map", f"0 {outside_gid} 1")):
        with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as f:
            f.write(text)


def fork_holder(enter: Callable[[], None]) -> int:
    """Fork a process that calls @enter and then only waits; return its pid once it has.

    It holds the namespaces that @enter made, and dies with us.
    """
    done_r, done_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        _hold(enter, done_w)
    os.close(done_w)
    with os.fdopen(done_r, "rb") as f:
        said = f.read()
    if said != b"ok":
        os.waitpid(pid, 0)
        raise OSError(said.decode(errors="replace") or "a namespace holder died")
    return pid


def _hold(enter: Callable[[], None], done_w: int) -> NoReturn:
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with_parent()
        enter()
        os.write(done_w, b"ok")
        os.close(done_w)
        while True:
            signal.pause()
    except BaseException as e:  # the parent reports it
        os.write(done_w, str(e).encode())
    os._exit(1)


def call_inside(ns: Sequence[int], func: Callable[[], None]) -> None:
    """Call @func in a process of its own that has entered @ns, in that order."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for fd in ns:
                setns(fd)
            func()
            status = 0
        except BaseException as e:
            print(f"bench: {e}", file=sys.stderr)
        os._exit(status)
    if os.waitpid(pid, 0)[1] != 0:
        raise OSError("a helper process failed")


def spawn(argv: Sequence[str], ns: Sequence[int], **popen: object) -> subprocess.Popen:
    """Start @argv inside @ns, entered in that order. It dies with us."""

    def enter() -> None:
        die_with_parent()
        for fd in ns:
            setns(fd)

    return subprocess.Popen(list(argv), preexec_fn=enter, **popen)  # type: ignore[call-overload]


def enter_sandbox(main: Callable[[], int]) -> int:
    """Run @main as root of new user, PID, mount and network namespaces; return its status.

    @main's process is the first of the PID namespace: nothing outlives it.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        unshare(CLONE_NEWUSER)
        write_id_maps("self", uid, gid)
    except OSError as e:
        raise SystemExit(f"bench: no user namespace for us: {e}; see the sysctls user."
                         "max_user_namespaces, kernel.unprivileged_userns_clone and "
                         "kernel.apparmor_restrict_unprivileged_userns") from e
    unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)
    pid = os.fork()
    if pid == 0:
        os._exit(_first_process(main))
    for sig in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sig, lambda *_: os.kill(pid, signal.SIGKILL))
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status) & 0xFF


def _first_process(main: Callable[[], int]) -> int:
    status = 1
    try:
        die_with_parent()
        mount("none", "/", "", MS_REC | MS_PRIVATE)
        mount("proc", "/proc", "proc", 0)
        mount("tmpfs", "/run", "tmpfs", 0, "mode=755")
        os.makedirs("/run/netns")
        status = main()
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    return status
