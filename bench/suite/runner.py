# SPDX-License-Identifier: Apache-2.0
"""Measurements, one at a time, all competitors interleaved.

Every measurement has a network of its own and fresh processes: the forwarder, the server
and the client. A sample says what came of it:

    ok       it was measured, and the data was checked
    unable   the peer is not made for it, or cannot be in this environment
    failed   it should have worked and did not, or lost or changed data
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Sequence

from . import account, nsapi, special
from .cases import Case, Sample, metrics_of
from .peers import Ask, Failed, Peer, Running, log_tail
from .world import CONTAINER_PORT, CROWD4, CROWD6, HOST_PORT, TOPOLOGIES, Engine, World

GIVE_UP = 2  # after failing in so many rounds, a peer is not asked again


@dataclass(frozen=True)
class Job:
    """One scenario, measured with each of some peers in turn."""
    case: Case
    topology: str
    peers: Sequence[Peer]
    container: str = ""  # kind of the container's netns; "" is each peer's usual one


@dataclass
class Plan:
    """What to measure, and how."""
    load: str  # the load generator
    jobs: list[Job]
    rounds: int
    seconds: float
    check: str = "sample"
    netem: str = ""
    fd_limit: int = 0
    quick: bool = False

    @property
    def grace(self) -> float:
        """Seconds that a client may need beyond its time before we call it hung."""
        return 2.0 if self.quick else 5.0


class Load:
    """One end of the load generator."""

    def __init__(self, argv: Sequence[str], ns: Sequence[int]) -> None:
        self.argv = list(argv)
        self.proc = nsapi.spawn(self.argv, ns, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def wait_ready(self) -> None:
        assert self.proc.stdout
        alarm = _Alarm(10, self.proc)
        said = self.proc.stdout.readline()
        alarm.cancel()
        if said != "ready\n":
            raise OSError(f"the server did not start: {self._stderr()}")

    def stop(self) -> None:
        self.proc.send_signal(signal.SIGTERM)

    def result(self, seconds: float) -> Sample:
        """Its line of JSON; waits for it at most that long."""
        try:
            out, err = self.proc.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.close()
            raise Failed(f"{self.argv[1]} did not finish in {seconds:g} s") from None
        try:
            return json.loads(out.strip().splitlines()[-1])
        except (IndexError, ValueError):
            raise Failed(f"{self.argv[1]}: {err.strip() or 'no result'}") from None

    def line(self, seconds: float) -> Sample:
        """Its line of JSON while it goes on running."""
        assert self.proc.stdout
        alarm = _Alarm(seconds, self.proc)
        text = self.proc.stdout.readline()
        alarm.cancel()
        if not text:
            raise Failed(f"{self.argv[1]}: {self._stderr() or 'no result'}")
        return json.loads(text)

    def _stderr(self) -> str:
        self.close()
        assert self.proc.stderr
        return self.proc.stderr.read().strip()

    def close(self) -> None:
        if self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()


class _Alarm:
    """Kill a process if it takes longer than that: its pipe then reads as closed."""

    def __init__(self, seconds: float, proc: subprocess.Popen) -> None:
        signal.signal(signal.SIGALRM, lambda *_: proc.kill())
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def cancel(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Bench:
    """Runs a plan. `for sample in bench.samples()`."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.engine = Engine.new()
        self.folder = tempfile.mkdtemp(prefix="fwd-bench.")

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def samples(self) -> Iterator[Sample]:
        """All competitors in turn for each job (A B C), all jobs in each round."""
        failures: Counter[tuple[str, str, str]] = Counter()
        for round_no in range(self.plan.rounds):
            for job in self.plan.jobs:
                for peer in job.peers:
                    began = time.monotonic()
                    sample = {"round": round_no, "case": job.case.name, "peer": peer.name,
                              "topology": job.topology,
                              "container": job.container or peer.container}
                    key = job.case.name, job.topology, peer.name
                    if failures[key] >= GIVE_UP:
                        sample |= {"status": "failed", "reason": "as in the rounds before"}
                    else:
                        sample |= self._measure(peer, job.case, job.topology, sample["container"])
                    failures[key] += sample["status"] == "failed"
                    sample["took_s"] = round(time.monotonic() - began, 2)
                    yield sample

    def _measure(self, peer: Peer, case: Case, topology: str, container: str) -> Sample:
        ask = Ask(case.udp, TOPOLOGIES[topology][1].find(":") >= 0, case.args.get("ports", 1))
        reason = peer.missing() or peer.unable(ask, container)
        if reason:
            return {"status": "unable", "reason": reason}
        folder = tempfile.mkdtemp(dir=self.folder)
        world = None
        try:
            world = World(self.engine, container, case.cc, self.plan.netem)
            run = One(self.plan, world, peer, case, topology, ask, folder)
            try:
                return run.measure()
            except (Failed, TimeoutError, OSError) as e:
                return {"status": "failed", "reason": f"{e}" or type(e).__name__,
                        "log": log_tail(folder), "argv": run.argv}
            finally:
                run.close()
        finally:
            if world:
                world.close()
            self._sweep()
            shutil.rmtree(folder, ignore_errors=True)

    def _sweep(self) -> None:
        """End and reap whatever a measurement left: this PID namespace is ours alone."""
        keep = {os.getpid(), self.engine.pid}
        for _ in range(100):
            left = [pid for pid in account.all_pids() if pid not in keep]
            if not left:
                return
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, os.WNOHANG)
                except (ProcessLookupError, ChildProcessError):
                    pass
            time.sleep(0.005)
        raise OSError(f"processes that do not end: {left}")


class One:
    """One measurement."""

    def __init__(self, plan: Plan, world: World, peer: Peer, case: Case, topology: str, ask: Ask,
                 folder: str) -> None:
        self.plan, self.world, self.peer = plan, world, peer
        self.case, self.ask, self.folder = case, ask, folder
        where, self.target = TOPOLOGIES[topology]
        self.client_ns = world.client_ns if where == "client" else world.host_ns
        self.native = peer.name == "native"
        self.running: Running | None = None
        self.server_ns: list[int] = []
        self.loads: list[Load] = []
        self.argv: list[str] = []

    def close(self) -> None:
        for load in self.loads:
            load.close()
        if self.running:
            self.running.close()

    def measure(self) -> Sample:
        special_case: dict[str, Callable[["One"], Sample]] = {
            "idle": special.idle, "start": special.start_stop, "ports": special.ports,
            "iperf": special.iperf}
        out = special_case.get(self.case.kind, One._load)(self)
        out.setdefault("status", "ok")
        out["argv"] = self.argv
        return out

    # ---- steps, also used by special.py
    def start(self, wait: bool = True) -> Running:
        self.running = self.peer.start(self.world, self.ask, self.folder)
        self.argv = self.running.argv
        if wait and not self.native:
            self.world.wait_listening(HOST_PORT + self.ask.ports - 1, self.ask.udp)
        return self.running

    def server(self, scenario: str = "", options: dict[str, Any] | None = None) -> Load:
        ns = self.running.container_ns if self.running else self.server_ns
        argv = self._argv("server", scenario or self.case.server, options)
        argv += ["--addr", "::" if self.ask.v6 else "0.0.0.0",
                 "--port", str(HOST_PORT if self.native else CONTAINER_PORT)]
        load = Load(argv, ns)
        self.loads.append(load)
        load.wait_ready()
        return load

    def client(self, scenario: str = "", options: dict[str, Any] | None = None) -> Load:
        argv = self._argv("client", scenario or self.case.client, options)
        argv += ["--addr", self.target, "--port", str(HOST_PORT)]
        if self.case.crowd and scenario == "" and self.client_ns == self.world.client_ns:
            argv += ["--from", CROWD6 if self.ask.v6 else CROWD4]
        load = Load(argv, self.client_ns)
        self.loads.append(load)
        return load

    def warm_up(self) -> None:
        """One exchange through the forwarder, so that addresses are found and usable."""
        scenario, probe = ("echo", "answer-udp") if self.ask.udp else ("rr", "answer")
        small = {"size": 8 if self.ask.udp else 1, "streams": 1}
        server = self.server(scenario, small)
        answer = self.client(probe, small).result(20)
        server.stop()
        server.result(5)
        if not answer["ok"]:
            raise Failed("never answered")

    def _argv(self, role: str, scenario: str, options: dict[str, Any] | None) -> list[str]:
        seconds = self.plan.seconds
        argv = [self.plan.load, role, scenario, "--seconds", f"{seconds:g}",
                "--warmup", f"{min(0.5, seconds / 4):g}", "--grace", f"{self.plan.grace:g}",
                "--check", self.plan.check]
        for key, value in (self.case.args if options is None else options).items():
            argv += [f"--{key}", str(value)]
        return argv

    def _load(self) -> Sample:
        """The ordinary kind: start everything, run the client, stop the server."""
        running = self.start()
        self.warm_up()
        server = self.server()
        meter = Meter(running)
        client = self.client().result(self.plan.seconds + 2 * self.plan.grace)
        cpu = meter.stop()
        server.stop()
        answer = server.result(5)
        metrics, units, wrong = metrics_of(self.case, client, answer)
        cpu["other_s"] = cpu["machine_s"] - sum(
            (cpu["forwarder_s"], client["cpu_s"], answer["cpu_s"]))
        cpu["other_share"] = cpu["other_s"] / (cpu["elapsed_s"] * (os.cpu_count() or 1))
        metrics |= cpu_metrics(self.case, cpu, units, self.native)
        if not self.native and not running.alive():
            wrong.append("the forwarder died")
        out: Sample = {"metrics": metrics, "client": client, "server": answer, "cpu": cpu}
        if wrong:
            out |= {"status": "failed", "reason": "; ".join(wrong), "log": log_tail(self.folder)}
        return out


class Meter:
    """CPU seconds between its making and stop()."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.before = account.cpu(running.pids())
        self.machine = account.cpu_machine()
        self.began = time.monotonic()

    def stop(self) -> dict[str, Any]:
        machine = account.cpu_machine() - self.machine
        elapsed = time.monotonic() - self.began
        after = account.cpu(self.running.pids())
        gone = [pid for pid in self.before if pid not in after]
        own = sum(s - self.before.get(pid, 0.0) for pid, s in after.items())
        return {"forwarder_s": own, "machine_s": machine, "elapsed_s": elapsed,
                "gone": len(gone)}


def cpu_metrics(case: Case, cpu: dict[str, Any], units: float, native: bool) -> dict[str, float]:
    """CPU seconds per GB, 10k or million, under the names that the case reports."""
    out = {}
    for metric in case.metrics:
        if metric.startswith("cpu_") and units > 0:
            total = metric.startswith("cpu_total")
            if total or not native:
                seconds = cpu["machine_s"] if total else cpu["forwarder_s"]
                out[metric] = seconds * case.per / units
    return out
