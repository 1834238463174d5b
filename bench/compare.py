#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What changed between two runs, beyond noise.

    bench/compare.py base.json new.json
    bench/compare.py --peers fwd-base,fwd run.json     two competitors of one run

The second is the better way to judge a change: both were measured in the same minutes.

A metric that native has too is compared as its ratio to native in the same round, which
takes most of the machine's mood out of it; CPU and memory are compared as they are. A
change is printed if no round of one run reaches into the range of the other, and the medians
differ by at least --threshold per cent. Of two runs of the same program, chance alone gives
that to one comparison in 126 with five rounds each, and to one in ten with three.
"""

import argparse
import json
import os
import statistics
import sys
from typing import Any

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from suite import stats  # noqa: E402
from suite.cases import CASES, METRICS  # noqa: E402


def values_of(samples: list[dict[str, Any]], base: dict[Any, Any], metric: str) -> list[float]:
    """One value for each good round, relative to native where that makes sense."""
    values = []
    for s in samples:
        if s["status"] != "ok" or metric not in s["metrics"]:
            continue
        value = s["metrics"][metric]
        if METRICS[metric].native and s["peer"] != "native":
            native = base.get((s["case"], s["topology"], s["round"]))
            if not native or native["metrics"].get(metric, 0) <= 0:
                continue
            value /= native["metrics"][metric]
        values.append(value)
    return values


def load(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def shown(values: list[float]) -> str:
    return f"{statistics.median(values):.4g} [{min(values):.4g}–{max(values):.4g}]"


def compare(old: dict[str, Any], new: dict[str, Any], threshold: float) -> list[str]:
    lines = []
    old_groups, new_groups = stats.grouped(old["samples"]), stats.grouped(new["samples"])
    old_native, new_native = stats.natives(old["samples"]), stats.natives(new["samples"])
    for key, group in new_groups.items():
        if key not in old_groups or key[0] not in CASES:
            continue
        for metric in CASES[key[0]].metrics:
            a = values_of(old_groups[key], old_native, metric)
            b = values_of(group, new_native, metric)
            if len(a) < 3 or len(b) < 3 or statistics.median(a) <= 0:
                continue
            change = 100 * (statistics.median(b) / statistics.median(a) - 1)
            apart = min(b) > max(a) or max(b) < min(a)
            if not apart or abs(change) < threshold:
                continue
            better = (change > 0) == METRICS[metric].higher
            of = " of native" if METRICS[metric].native and key[2] != "native" else ""
            lines.append(f"{'better' if better else 'WORSE':<7} {change:+6.1f} %  {key[0]} "
                         f"{key[1]} {key[2]} ({key[3]}): {METRICS[metric].label} "
                         f"{shown(a)} -> {shown(b)}{of}")
    return lines


def statuses(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What works in one run and not in the other."""
    lines = []
    old_groups, new_groups = stats.grouped(old["samples"]), stats.grouped(new["samples"])
    for key, group in new_groups.items():
        if key in old_groups:
            was = {s["status"] for s in old_groups[key]}
            now = {s["status"] for s in group}
            if was != now:
                lines.append(f"status  {key[0]} {key[1]} {key[2]} ({key[3]}): "
                             f"{'/'.join(sorted(was))} -> {'/'.join(sorted(now))}")
    return lines


def only(run: dict[str, Any], peer: str, name: str) -> dict[str, Any]:
    """The run with native and @peer alone, the latter called @name."""
    kept = [s | {"peer": name} if s["peer"] == peer else s for s in run["samples"]
            if s["peer"] in ("native", peer)]
    return run | {"samples": kept}


def others(run: dict[str, Any]) -> float:
    """The part of the machine that processes which were not measured used, per cent."""
    shares = [s["cpu"]["other_share"] for s in run["samples"] if "other_share" in s.get("cpu", {})]
    return 100 * statistics.median(shares) if shares else 0.0


def main(argv: list[str]) -> int:
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("base")
    p.add_argument("new", nargs="?")
    p.add_argument("--peers", default="", help="two competitors of one run: BASE,NEW")
    p.add_argument("--threshold", type=float, default=5.0, help="per cent (default 5)")
    args = p.parse_args(argv)
    if bool(args.peers) == bool(args.new):
        p.error("either two runs, or --peers BASE,NEW and one run")
    if args.peers:
        names = args.peers.split(",")
        run = load(args.base)
        old, new = (only(run, name, names[-1]) for name in (names[0], names[-1]))
    else:
        old, new = load(args.base), load(args.new)
    for what in ("kernel", "cpu", "cores"):
        a, b = old["meta"]["machine"][what], new["meta"]["machine"][what]
        if a != b:
            print(f"not the same {what}: {a}, {b}")
    for name, run in (("base", old), ("new", new)):
        if run["meta"]["rounds"] < 5:
            print(f"{name}: only {run['meta']['rounds']} rounds: chance will find changes")
        if others(run) > 5:
            print(f"{name}: other processes used {others(run):.0f} % of the machine")
    lines = statuses(old, new) + compare(old, new, args.threshold)
    print("\n".join(lines) if lines else "nothing beyond noise")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
