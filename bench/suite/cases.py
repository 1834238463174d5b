# SPDX-License-Identifier: Apache-2.0
"""The scenarios: what each asks of both ends of the load generator, and what it reports.

A metric's name ends in its unit. METRICS says which way is better, and whether it is
compared with the native run of the same round.
"""

from dataclasses import dataclass, field
from typing import Any, Iterator

Sample = dict[str, Any]


@dataclass(frozen=True)
class Metric:
    label: str
    digits: int  # after the point, in a table
    higher: bool = False  # is higher better?
    native: bool = True  # does it make sense for native, and against it?


METRICS = {
    "gbps": Metric("Gbit/s", 1, higher=True),
    "rate_per_s": Metric("per second", 0, higher=True),
    "pps": Metric("packets/s delivered", 0, higher=True),
    "loss_pct": Metric("loss %", 1),
    "p50_us": Metric("p50 µs", 1),
    "p90_us": Metric("p90 µs", 1),
    "p99_us": Metric("p99 µs", 1),
    "p99_9_us": Metric("p99.9 µs", 1),
    "cpu_s_per_gb": Metric("CPU s/GB", 3, native=False),
    "cpu_s_per_10k": Metric("CPU s/10k", 3, native=False),
    "cpu_s_per_mpkt": Metric("CPU s/million packets", 2, native=False),
    "cpu_total_s_per_gb": Metric("whole machine's CPU s/GB", 3),
    "cpu_total_s_per_10k": Metric("whole machine's CPU s/10k", 3),
    "cpu_total_s_per_mpkt": Metric("whole machine's CPU s/million packets", 2),
    "rss_kb": Metric("RSS kB", 0, native=False),
    "fds": Metric("fds", 0, native=False),
    "slab_kb": Metric("kernel memory kB", 0),
    "startup_ms": Metric("start to first byte, ms", 1, native=False),
    "ready_ms": Metric("start to ready, ms", 1, native=False),
    "port_free_ms": Metric("container end to port free, ms", 1, native=False),
}


@dataclass(frozen=True)
class Case:
    name: str
    kind: str  # bulk, rr, crr, first, idle, blast, echo, start, ports, iperf
    metrics: tuple[str, ...]  # the first is what it is about
    server: str = ""  # the load generator's scenario on either side
    client: str = ""
    args: dict[str, Any] = field(default_factory=dict)  # its options, the same on both
    per: float = 1.0  # CPU seconds are given per so many units
    udp: bool = False
    cc: str = "cubic"
    crowd: bool = False  # each datagram comes from a client of its own
    core: bool = False  # measured on every topology, not only on the main one


def _bulk(n: int, way: str, cc: str = "cubic") -> Case:
    return Case(f"tcp_bulk_{n}_{way}" + ("" if cc == "cubic" else f"_{cc}"), "bulk",
                ("gbps", "cpu_s_per_gb", "cpu_total_s_per_gb"), "bulk", "bulk",
                {"streams": n, "dir": way}, per=1e9, cc=cc, core=n == 1 and way != "both")


_LATENCY = ("p50_us", "p90_us", "p99_us", "p99_9_us")


def _rr(n: int, size: int) -> Case:
    suffix = {1: "", 1024: "_1k", 16384: "_16k"}[size]
    first = ("rate_per_s", "cpu_s_per_10k", "cpu_total_s_per_10k")
    return Case(f"tcp_rr_{n}{suffix}", "rr", (*first, *_LATENCY), "rr", "rr",
                {"streams": n, "size": size}, per=1e4, core=n == 1 and size == 1)


def _crr(n: int) -> Case:
    return Case(f"tcp_crr_{n}", "crr",
                ("rate_per_s", "cpu_s_per_10k", "cpu_total_s_per_10k", *_LATENCY), "crr", "crr",
                {"streams": n}, per=1e4, core=n == 16)


def _blast(size: int, flows: int, gso: int = 0) -> Case:
    name = f"udp_gso_{size}_{flows}" if gso else f"udp_blast_{size}_{flows}"
    args = {"streams": flows, "size": size} | ({"gso": gso} if gso else {})
    return Case(name, "blast", ("pps", "cpu_s_per_mpkt", "loss_pct", "cpu_total_s_per_mpkt"),
                "blast", "blast", args, per=1e6, udp=True)


def _echo(flows: int) -> Case:
    return Case(f"udp_echo_{flows}", "echo",
                ("rate_per_s", "cpu_s_per_10k", "cpu_total_s_per_10k", *_LATENCY), "echo", "echo",
                {"streams": flows, "size": 64}, per=1e4, udp=True, core=flows == 1)


def _all() -> Iterator[Case]:
    for n in (1, 8, 64):
        for way in ("up", "down", "both"):
            yield _bulk(n, way)
    for n in (1, 8):
        for way in ("up", "down"):
            yield _bulk(n, way, "bbr")
    for size in (1, 1024, 16384):
        for n in (1, 64):
            yield _rr(n, size)
    for n in (1, 16):
        yield _crr(n)
    yield Case("tcp_first", "first", _LATENCY, "crr", "first", {"pause": 0.002}, per=1e4)
    for flows in (1, 64):
        yield _blast(64, flows)
        yield _blast(1400, flows)
        yield _blast(1400, flows, gso=46)
        yield _echo(flows)
    yield Case("udp_new_16", "echo", ("rate_per_s", "cpu_s_per_10k", "cpu_total_s_per_10k",
                                      *_LATENCY), "echo", "echo",
               {"streams": 16, "size": 64}, per=1e4, udp=True, crowd=True)
    for n in (1, 1000, 10000):
        yield Case(f"tcp_idle_{n}", "idle", ("rss_kb", "fds", "slab_kb"), "rr", "idle",
                   {"streams": n})
    yield Case("start_stop", "start", ("startup_ms", "ready_ms", "port_free_ms"), "rr", "answer")
    for n in (1, 100, 1000):
        yield Case(f"ports_{n}", "ports", ("rss_kb", "fds", "slab_kb", "ready_ms"),
                   args={"ports": n})
    for way in ("up", "down"):
        yield Case(f"iperf3_1_{way}", "iperf",
                   ("gbps", "cpu_s_per_gb", "cpu_total_s_per_gb"), args={"dir": way}, per=1e9)


CASES = {case.name: case for case in _all()}


def metrics_of(case: Case, client: Sample, server: Sample) -> tuple[Sample, float, list[str]]:
    """A load run's metrics without CPU, the units of work it did, and what is wrong with it."""
    wrong = [f"{role}: {key} {out[key]:g}" for role, out in (("client", client), ("server", server))
             for key in ("failed", "corrupt", "hung", "closed_early") if out.get(key)]
    if case.kind == "bulk":
        for a, b, way in ((client, server, "up"), (server, client, "down")):
            if a["sent_bytes"] != b["received_bytes"]:
                wrong.append(f"{way}: sent {a['sent_bytes']}, received {b['received_bytes']}")
        total = client["received_bytes"] + server["received_bytes"]
        if client["received_bps"] + server["received_bps"] == 0:
            wrong.append("nothing arrived in the time that counts")
        bps = client["received_bps"] + server["received_bps"]
        return {"gbps": bps / 1e9}, total, wrong
    if case.kind == "blast":
        got, sent = server["received"], client["sent"]
        if got == 0 or got > sent:
            wrong.append(f"sent {sent}, received {got}")
        loss = 100.0 * (sent - got) / max(sent, 1)
        return {"pps": server["rate"], "loss_pct": loss}, got, wrong
    prefix = "first" if case.kind == "first" else "lat"
    out = {f"p{q}_us": client[f"{prefix}_p{q}_us"] for q in ("50", "90", "99", "99_9")}
    if case.kind != "first":
        out["rate_per_s"] = client["rate"]
    if out["p50_us"] == 0:
        wrong.append("nothing done in the time that counts")
    return out, client["done"], wrong
