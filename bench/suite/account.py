# SPDX-License-Identifier: Apache-2.0
"""CPU time and memory of a forwarder: all of its processes, with their kernel threads.

CPU time is read from each process's CPU clock, in nanoseconds. It covers every thread
that the process has or had, io_uring's kernel worker threads included (they belong to
its thread group since Linux 5.12), and by cutime and cstime the children that it waited
for. Work that the kernel does for it elsewhere (softirq, kworker) is in nobody's account:
cpu_machine() counts that, along with everything else that ran.
"""

import os
import time
from typing import Iterable

TICK = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command: [0] is the state, [1] the parent."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
        return f.read().rsplit(") ", 1)[1].split()


def comm(pid: int) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as f:
        return f.read().strip()


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def tree(roots: Iterable[int]) -> list[int]:
    """@roots and all their descendants that are alive."""
    children: dict[int, list[int]] = {}
    alive = set()
    for pid in all_pids():
        try:
            field = _stat(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if field[0] != "Z":
            alive.add(pid)
            children.setdefault(int(field[1]), []).append(pid)
    found, todo = [], [pid for pid in roots if pid in alive]
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.append(pid)
            todo += children.get(pid, [])
    return found


def cpu_process(pid: int) -> float:
    """Seconds of CPU time, user and system, of a process and of its reaped children."""
    own = time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3)
    field = _stat(pid)
    return own + (int(field[13]) + int(field[14])) / TICK


def cpu(pids: Iterable[int]) -> dict[int, float]:
    seconds = {}
    for pid in pids:
        try:
            seconds[pid] = cpu_process(pid)
        except OSError:
            continue
    return seconds


def cpu_machine() -> float:
    """Seconds in which a CPU of the machine was not idle."""
    with open("/proc/stat", encoding="ascii") as f:
        field = [int(x) for x in f.readline().split()[1:]]
    return (sum(field[:8]) - field[3] - field[4]) / TICK


def memory(pids: Iterable[int]) -> dict[str, float]:
    """Resident memory (kB), descriptors and threads of these processes together."""
    total = {"rss_kb": 0.0, "fds": 0.0, "threads": 0.0}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as f:
                for line in f:
                    key, _, value = line.partition(":")
                    if key == "VmRSS":
                        total["rss_kb"] += int(value.split()[0])
                    elif key == "Threads":
                        total["threads"] += int(value)
            total["fds"] += len(os.listdir(f"/proc/{pid}/fd"))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def slab_kb() -> float:
    """Kernel memory of the whole machine: slab, kernel stacks, per-CPU (kB)."""
    total = 0.0
    with open("/proc/meminfo", encoding="ascii") as f:
        for line in f:
            key, _, value = line.partition(":")
            if key in ("Slab", "KernelStack", "Percpu"):
                total += int(value.split()[0])
    return total
