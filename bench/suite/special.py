# SPDX-License-Identifier: Apache-2.0
"""Measurements that are not one client's run: idle memory, start and stop, ports, iperf3."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING

from . import account, nsapi
from .cases import Sample
from .peers import Failed, find
from .world import CONTAINER_PORT, HOST_PORT

if TYPE_CHECKING:
    from .runner import One

SETTLE = 0.3  # seconds between the last event and reading memory

QUICK_CONNECTIONS = 1000


def _memory(one: One, slab_before: float) -> Sample:
    time.sleep(0.05 if one.plan.quick else SETTLE)
    metrics: Sample = {"slab_kb": account.slab_kb() - slab_before}
    if not one.native:
        assert one.running
        metrics |= account.memory(one.running.pids())
    return metrics


def _most_connections(one: One) -> int:
    """What a forwarder with two descriptors for each connection can hold."""
    return QUICK_CONNECTIONS if one.plan.quick else (one.plan.fd_limit - 1000) // 2


def idle(one: One) -> Sample:
    """Memory with so many connections open, each used once.

    Kernel memory is the whole machine's growth, both ends of each connection included:
    compare it with the native run's.
    """
    wanted = min(one.case.args["streams"], _most_connections(one))
    running = one.start()
    one.warm_up()
    server = one.server()
    slab = account.slab_kb()
    client_load = one.client("", {"streams": wanted})
    client = client_load.line(30)
    metrics = _memory(one, slab)
    client_load.stop()
    server.stop()
    out: Sample = {"metrics": metrics, "client": client, "server": server.result(10)}
    if wanted < one.case.args["streams"]:
        out["note"] = f"{wanted} connections: no more with {one.plan.fd_limit} descriptors"
    if client["open"] != wanted or client["failed"] or client["corrupt"]:
        out |= {"status": "failed", "reason": f"{client['open']:g} of {wanted} connections, "
                                              f"descriptors limited to {one.plan.fd_limit}"}
    elif not one.native and not running.alive():
        out |= {"status": "failed", "reason": "the forwarder died"}
    return out


def ports(one: One) -> Sample:
    """Memory with so many ports published, and the time that this takes."""
    if one.native:
        return {"status": "unable", "reason": "nothing to publish"}
    slab = account.slab_kb()
    running = one.start()
    metrics = _memory(one, slab)
    metrics["ready_ms"] = (running.ready_ns - running.exec_ns) / 1e6
    return {"metrics": metrics}


def start_stop(one: One) -> Sample:
    """From exec to a first byte through it, and from the container's end to a free port."""
    if one.native:
        return {"status": "unable", "reason": "nothing to start"}
    probe = one.client("answer", {})
    probe.wait_ready()
    if one.peer.makes_netns:
        running = one.start(wait=False)
        one.server()
    else:
        one.server_ns = one.world.container_ns
        one.server()
        running = one.start(wait=False)
    answered = probe.result(20)
    if not answered["ok"]:
        raise Failed("never answered")
    metrics = {"startup_ms": (answered["at_ns"] - running.exec_ns) / 1e6,
               "ready_ms": (running.ready_ns - running.exec_ns) / 1e6}
    out: Sample = {"metrics": metrics}
    free_at = _time_until_free(one)
    if free_at is None:
        out["note"] = "does not end with the container"
    else:
        metrics["port_free_ms"] = free_at
    return out


def _time_until_free(one: One) -> float | None:
    running = one.running
    assert running
    argv = [one.plan.load, "client", "free", "--addr", "::" if one.ask.v6 else "0.0.0.0",
            "--port", str(HOST_PORT), "--grace", "5"]
    for load in one.loads:
        load.close()
    if not running.ends_with_container:
        return None
    from .runner import Load  # pylint: disable=import-outside-toplevel
    probe = Load(argv, one.world.host_ns)
    one.loads.append(probe)
    probe.wait_ready()
    time.sleep(0.05)
    began = time.monotonic_ns()
    running.end_container(one.world)
    got = probe.result(10)
    return (got["at_ns"] - began) / 1e6 if got["ok"] else None


def iperf(one: One) -> Sample:
    """iperf3's own single stream, so that readers can compare with published figures."""
    program = find("iperf3")
    if not program:
        return {"status": "unable", "reason": "iperf3 is not installed"}
    from .runner import Meter, cpu_metrics  # pylint: disable=import-outside-toplevel
    running = one.start()
    port = HOST_PORT if one.native else CONTAINER_PORT
    one.warm_up()
    server = nsapi.spawn([program, "-s", "-1", "-p", str(port)], running.container_ns,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.2)
    length = ["-n", "20M"] if one.plan.quick else ["-t", f"{max(1, round(one.plan.seconds))}"]
    argv = [program, "-c", one.target, "-p", str(HOST_PORT), "-J", *length]
    if one.case.args["dir"] == "down":
        argv.append("-R")
    meter = Meter(running)
    client = nsapi.spawn(argv, one.client_ns, stdout=subprocess.PIPE, text=True)
    try:
        text = client.communicate(timeout=one.plan.seconds + 10)[0]
        cpu = meter.stop()
    except subprocess.TimeoutExpired:
        client.kill()
        raise Failed("iperf3 did not finish") from None
    finally:
        server.kill()
        server.wait()
    answer = json.loads(text or '{"error": "no output"}')
    if "error" in answer:
        raise Failed(f"iperf3: {answer['error']}")
    got = answer["end"]["sum_received"]
    metrics = {"gbps": got["bits_per_second"] / 1e9}
    metrics |= cpu_metrics(one.case, cpu, got["bytes"], one.native)
    return {"metrics": metrics, "cpu": cpu}
