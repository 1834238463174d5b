#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Compare fwd with native, pasta, slirp4netns, RootlessKit and plain relays.

Needs no privilege: everything runs in namespaces of its own. Started as root, it first
becomes nobody, because that is what a rootless forwarder is.

    bench/run.py --list
    bench/run.py --only tcp_bulk_1_up,tcp_rr_64 --with native,pasta,fwd --rounds 3 --seconds 2

FWD=, PASTA= and ROOTLESSKIT= name other binaries; FWD_BASE= a second fwd, to be measured
beside the first; FWD_OPTIONS= goes to every fwd. See docs/benchmarks.md.
"""

import argparse
import datetime
import fnmatch
import json
import os
import re
import resource
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from typing import Any

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from suite import facts, nsapi, plots, report, runner  # noqa: E402
from suite.cases import CASES, Case  # noqa: E402
from suite.others import HAProxy, RootlessKit, Slirp4netns, SocketProxyd  # noqa: E402
from suite.peers import Fwd, Native, Pasta, Peer, find  # noqa: E402
from suite.runner import Job  # noqa: E402
from suite.world import CONTAINERS, TOPOLOGIES  # noqa: E402

NOBODY = 65534
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TUN = "/dev/net/tun"
BINARIES = ("FWD", "FWD_BASE", "PASTA", "ROOTLESSKIT")  # environment variables that are paths
MAIN_TOPOLOGY = "remote4"
NOISY = 0.1  # a part of the machine used by others that makes a figure doubtful
OVERHEAD = 0.4  # seconds that a measurement takes beside its time, for the estimate
QUICK_SECONDS = 0.15
QUICK_CASES = ("tcp_bulk_1_up", "tcp_bulk_1_down", "tcp_rr_1", "tcp_crr_16", "udp_echo_1",
               "start_stop")


def all_peers(build: str) -> list[Peer]:
    fwd = os.environ.get("FWD") or os.path.join(build, "fwd")
    peers: list[Peer] = [
        Native(),
        Fwd("fwd", fwd, ["--engine=io_uring"]),
        Fwd("fwd-epoll", fwd, ["--engine=epoll"]),
        Fwd("fwd-nosource", fwd, ["--engine=io_uring", "--source=off"], False),
        Fwd("fwd-nosandbox", fwd, ["--engine=io_uring", "--sandbox=off"], False),
        Pasta("pasta", find("pasta")),
    ]
    if os.environ.get("FWD_BASE"):
        peers.append(Fwd("fwd-base", os.environ["FWD_BASE"], ["--engine=io_uring"]))
    if os.environ.get("PASTA"):
        peers.append(Pasta("pasta-new", find("pasta", "PASTA")))
    peers += [Slirp4netns(), RootlessKit("rootlesskit", find("rootlesskit"))]
    if os.environ.get("ROOTLESSKIT"):
        peers.append(RootlessKit("rootlesskit-new", find("rootlesskit", "ROOTLESSKIT")))
    peers += [HAProxy(), SocketProxyd()]
    return peers


def choose(names: list[str], patterns: str, what: str) -> list[str]:
    """Those of @names that match one of the comma-separated shell patterns."""
    chosen = []
    for pattern in patterns.split(","):
        found = fnmatch.filter(names, pattern)
        if not found:
            sys.exit(f"bench: no {what} is called {pattern}; there are: {' '.join(names)}")
        chosen += [name for name in found if name not in chosen]
    return chosen


def make_jobs(args: argparse.Namespace, peers: list[Peer]) -> list[Job]:
    """What was asked for. If nothing was: every scenario on the main topology, the core ones on
    all topologies; plain relays and fwd's variants in the core ones only."""
    cases = [CASES[name] for name in choose(list(CASES), args.only, "scenario")]
    if args.quick:
        return quick_jobs(cases, peers)
    chosen = args.peers != "*"
    topologies = choose(list(TOPOLOGIES), args.topo, "topology") if args.topo else [MAIN_TOPOLOGY]
    jobs = [Job(case, topo, [p for p in peers if chosen or p.everywhere or case.core],
                args.container) for topo in topologies for case in cases]
    if args.only == "*" and not args.topo:
        jobs += [Job(case, topo, [p for p in peers if chosen or p.everywhere], args.container)
                 for topo in TOPOLOGIES if topo != MAIN_TOPOLOGY for case in cases if case.core]
    return jobs


def quick_jobs(cases: list[Case], peers: list[Peer]) -> list[Job]:
    """Every scenario with native and fwd, every topology with one of them, and every other
    competitor with a few: whether everything works, not how fast."""
    few = [p for p in peers if p.name in ("native", "fwd")]
    jobs = [Job(case, MAIN_TOPOLOGY, peers if case.name in QUICK_CASES else few) for case in cases]
    return jobs + [Job(CASES["tcp_rr_1"], topo, few) for topo in TOPOLOGIES
                   if topo != MAIN_TOPOLOGY]


def parse_args(argv: list[str]) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("--only", default="*", help="scenarios: comma-separated shell patterns")
    p.add_argument("--with", dest="peers", default="*", help="competitors, likewise")
    p.add_argument("--topo", default="", help="topologies, likewise")
    p.add_argument("--container", default="", choices=("", *CONTAINERS),
                   help="kind of the container's netns, instead of each competitor's usual one")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    p.add_argument("--check", default="sample", choices=("none", "sample", "full"))
    p.add_argument("--netem", default="", help='for example "delay 10ms loss 0.1%%"')
    p.add_argument("--build", default=os.path.join(os.path.dirname(HERE), "build"))
    p.add_argument("--results", default=os.path.join(HERE, "results"))
    p.add_argument("--out", default="", help="path of the JSON file; .md and .svg go beside it")
    p.add_argument("--no-save", action="store_true", help="print the tables only")
    p.add_argument("--quick", action="store_true", help="everything once, briefly: a smoke test")
    p.add_argument("--list", action="store_true", help="name what can be measured, and stop")
    p.add_argument("--inside", default="", help=argparse.SUPPRESS)
    args = p.parse_args(argv)
    args.build = os.path.abspath(args.build)
    if args.quick:
        args.rounds, args.seconds, args.check = 1, QUICK_SECONDS, "full"
    return args


def list_all(args: argparse.Namespace) -> None:
    print("scenarios: " + " ".join(CASES))
    print("competitors: " + " ".join(peer.name for peer in all_peers(args.build)))
    print("topologies: " + " ".join(TOPOLOGIES))
    print("containers: " + " ".join(CONTAINERS))


def progress(sample: dict[str, Any]) -> None:
    shown = sample.get("reason", "")
    if sample["status"] == "ok":
        shown = "  ".join(f"{k}={v:.4g}" for k, v in sample["metrics"].items())
        share = sample.get("cpu", {}).get("other_share", 0.0)
        if share > NOISY:
            shown += f"  (others used {100 * share:.0f} % of the machine)"
    print(f"{sample['round'] + 1} {sample['case']:<18} {sample['topology']:<10} "
          f"{sample['peer']:<15} {sample['status']:<6} {shown}", file=sys.stderr, flush=True)


def measure(args: argparse.Namespace) -> int:
    """Inside the sandbox: run everything, write the result to the file args.inside."""
    peers = [p for p in all_peers(args.build)
             if p.name in choose([q.name for q in all_peers(args.build)], args.peers,
                                 "competitor")]
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    result: dict[str, Any] = {
        "meta": {"machine": facts.machine(), "rounds": args.rounds, "seconds": args.seconds,
                 "notes": [], "netem": args.netem, "check": args.check},
        "peers": {p.name: {"missing": p.missing(), "version": "" if p.missing() else p.version()}
                  for p in peers},
        "samples": []}
    plan = runner.Plan(os.path.join(args.build, "bench/load"), make_jobs(args, peers),
                       args.rounds, args.seconds, args.check, args.netem, limit, args.quick)
    count = args.rounds * sum(len(job.peers) for job in plan.jobs)
    print(f"bench: {count} measurements, about {count * (args.seconds + OVERHEAD) / 60:.0f} "
          "minutes at most", file=sys.stderr)
    bench = runner.Bench(plan)
    status = 0
    try:
        for sample in bench.samples():
            progress(sample)
            result["samples"].append(sample)
            if sample.get("argv"):
                result["peers"][sample["peer"]].setdefault("argv", sample["argv"])
    except OSError as e:
        print(f"bench: {e}", file=sys.stderr)
        status = 1
    finally:
        bench.close()
        result["meta"]["load_after"] = facts.load()
        with open(args.inside, "w", encoding="utf-8") as f:
            f.write(without_paths(json.dumps(result), bench.folder))
    return status


def without_paths(text: str, folder: str) -> str:
    """The result without this machine's folders: they say nothing, and differ in every run."""
    text = re.sub(re.escape(folder) + r"/\w+", "$DIR", text)
    for name in BINARIES:
        if os.environ.get(name):
            text = text.replace(os.environ[name], "$" + name)
    return text.replace(os.path.dirname(HERE) + "/", "")


def verdict(result: dict[str, Any]) -> list[str]:
    """Why the run is invalid; empty if it is not.

    A competitor that fails a scenario is a result. Native or fwd failing one, or a
    competitor failing everything, says that the run itself is broken.
    """
    why, worked = [], set()
    for s in result["samples"]:
        if s["status"] == "ok":
            worked.add(s["peer"])
        elif s["status"] == "failed" and (s["peer"] == "native" or s["peer"].startswith("fwd")):
            why.append(f"{s['peer']}: {s['case']} on {s['topology']}: {s['reason']}")
    for s in result["samples"]:
        if s["status"] == "failed" and s["peer"] not in worked:
            why.append(f"{s['peer']}: nothing worked: {s['reason']}")
            worked.add(s["peer"])
    return why


def unprivileged() -> None:
    """In the child of a root's run: become nobody, with /dev/net/tun as distributions have it."""
    if os.path.exists(TUN) and os.stat(TUN).st_mode & 0o006 != 0o006:
        nsapi.unshare(nsapi.CLONE_NEWNS)
        nsapi.mount("none", "/", "", nsapi.MS_REC | nsapi.MS_PRIVATE)
        device = os.stat(TUN).st_rdev
        nsapi.mount("tmpfs", os.path.dirname(TUN), "tmpfs", 0, "mode=755")
        os.mknod(TUN, stat.S_IFCHR | 0o666, device)
        os.chmod(TUN, 0o666)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def run_sandboxed(argv: list[str], raw: str) -> int:
    command = [sys.executable, os.path.abspath(__file__), *argv, "--inside", raw]
    named = {name: os.path.abspath(os.environ[name]) for name in BINARIES if os.environ.get(name)}
    env = {**os.environ, **named, "PATH": PATH,
           "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    root = os.geteuid() == 0
    with subprocess.Popen(command, env=env, cwd="/",
                          preexec_fn=unprivileged if root else None) as p:
        def forward(*_: object) -> None:
            p.terminate()
        signal.signal(signal.SIGTERM, forward)
        signal.signal(signal.SIGINT, forward)
        return p.wait()


def save(args: argparse.Namespace, result: dict[str, Any]) -> None:
    name = f"{result['meta']['date']}-{result['meta']['machine']['kernel']}.json"
    path = args.out or os.path.join(args.results, name)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    base = path.removesuffix(".json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)
        f.write("\n")
    with open(base + ".md", "w", encoding="utf-8") as f:
        f.write(report.markdown(result))
    drawn = plots.draw(result, base)
    print(f"\nwritten: {path} {base}.md {' '.join(drawn)}")


def main(argv: list[str]) -> int:
    args = parse_args(argv)
    if args.list:
        list_all(args)
        return 0
    if args.inside:
        return nsapi.enter_sandbox(lambda: measure(args))
    if not os.access(os.path.join(args.build, "bench/load"), os.X_OK):
        sys.exit(f"bench: {args.build}/bench/load is not built")
    began = time.monotonic()
    barred = facts.allow_congestion_control(["cubic", "bbr"])
    folder = tempfile.mkdtemp(prefix="fwd-bench-out.")
    try:
        os.chmod(folder, 0o711)
        raw = os.path.join(folder, "raw.json")
        with open(raw, "wb"):
            os.chmod(raw, 0o666)
        status = run_sandboxed([*argv, "--build", args.build], raw)
        with open(raw, encoding="utf-8") as f:
            result = json.loads(f.read() or "{}")
    finally:
        shutil.rmtree(folder)
    if not result.get("samples"):
        sys.exit("bench: no result")
    meta = result["meta"]
    meta["date"] = datetime.date.today().isoformat()
    meta["command"] = shlex.join(["bench/run.py", *argv])
    meta["took_s"] = round(time.monotonic() - began, 1)
    for cc in barred:
        meta["notes"].append(f"net.ipv4.tcp_allowed_congestion_control does not allow {cc}")
    shares = [s["cpu"]["other_share"] for s in result["samples"]
              if "other_share" in s.get("cpu", {})]
    noisy = sum(share > NOISY for share in shares)
    meta["notes"].append(f"In {noisy} of {len(shares)} measurements, processes that have nothing "
                         f"to do with them used more than {100 * NOISY:.0f} % of the machine.")
    print(report.tables(result["samples"]))
    print("\n".join(meta["notes"]))
    if not args.no_save:
        save(args, result)
    why = verdict(result) + report.malformed(result)
    for line in why:
        print(f"invalid: {line}", file=sys.stderr)
    return 1 if why or status else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
