# SPDX-License-Identifier: Apache-2.0
"""What there is to know about the machine that measured."""

import os
import platform
import resource
from typing import Any


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read().strip()
    except OSError:
        return ""


def _cpu_model() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _distribution() -> str:
    for line in _read("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.split("=", 1)[1].strip('"')
    return ""


def load() -> str:
    return " ".join(_read("/proc/loadavg").split()[:3])


def machine() -> dict[str, Any]:
    sysctl = {name: _read("/proc/sys/" + name.replace(".", "/")) for name in (
        "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem", "net.core.rmem_max", "net.core.wmem_max",
        "net.ipv4.tcp_available_congestion_control", "fs.pipe-user-pages-soft",
        "kernel.io_uring_disabled")}
    memory = _read("/proc/meminfo").splitlines()[:1]
    governor = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "kernel": platform.release(),
        "distribution": _distribution(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 0,
        "governor": governor or "none (no cpufreq)",
        "memory_kb": int(memory[0].split()[1]) if memory else 0,
        "fd_limit": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "load_before": load(),
        "sysctl": sysctl,
    }


def allow_congestion_control(names: list[str]) -> list[str]:
    """Let unprivileged namespaces choose these; return those that they may not.

    Which ones they may is a setting of the machine's own network namespace. As root we
    add what is missing; it stays so until the next boot.
    """
    path = "/proc/sys/net/ipv4/tcp_allowed_congestion_control"
    allowed = _read(path).split()
    missing = [name for name in names if name not in allowed]
    if missing:
        try:
            with open(path, "w", encoding="ascii") as f:
                f.write(" ".join(allowed + missing))
        except OSError:
            pass
        allowed = _read(path).split()
    return [name for name in names if name not in allowed]
