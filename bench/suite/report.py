# SPDX-License-Identifier: Apache-2.0
"""The Markdown table of a run."""

import math
from typing import Any

from . import stats
from .cases import CASES, METRICS
from .stats import Sample, Spread


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}".replace(",", " ")


def _cell(spread: Spread | None, digits: int, ratio: Spread | None, kind: str) -> str:
    if spread is None:
        return ""
    text = _number(spread.median, digits)
    if spread.n > 1:
        text += f" [{_number(spread.low, digits)}–{_number(spread.high, digits)}]"
    if ratio is not None and kind != "native":
        text += f" **{100 * ratio.median:.0f} %**"
    return text


def _status(samples: list[Sample]) -> str:
    bad = [s for s in samples if s["status"] != "ok"]
    if not bad:
        return samples[0].get("note", "")
    word = "" if bad[0]["status"] == "unable" else f"**failed** {len(bad)} of {len(samples)}: "
    return word + str(bad[0].get("reason", "")).replace("|", "/").replace("\n", " ")[:160]


def table(samples: list[Sample], case: str, topology: str) -> str:
    """One scenario: a row for each competitor, a column for each metric."""
    metrics = CASES[case].metrics
    lines = ["| | " + " | ".join(METRICS[m].label for m in metrics) + " | |",
             "|-|" + "-:|" * len(metrics) + "-|"]
    base = stats.natives(samples)
    for key, group in stats.grouped(samples).items():
        if key[:2] != (case, topology):
            continue
        cells = [_cell(stats.spread(group, m), METRICS[m].digits, stats.ratio(group, base, m),
                       key[2]) for m in metrics]
        lines.append(f"| {key[2]} ({key[3]}) | " + " | ".join(cells) + f" | {_status(group)} |")
    return "\n".join(lines)


def tables(samples: list[Sample]) -> str:
    done, parts = set(), []
    for s in samples:
        at = s["case"], s["topology"]
        if at not in done:
            done.add(at)
            parts.append(f"### {at[0]}, {at[1]}\n\n{table(samples, *at)}\n")
    return "\n".join(parts)


def malformed(result: dict[str, Any]) -> list[str]:
    """What a sample lacks of the figures that its scenario promises."""
    wrong = []
    for s in result["samples"]:
        where = f"{s['peer']}: {s['case']} on {s['topology']}"
        if s["status"] != "ok":
            if not s.get("reason"):
                wrong.append(f"{where}: {s['status']}, and no reason why")
            continue
        native = s["peer"] == "native"
        for metric in CASES[s["case"]].metrics:
            value = s["metrics"].get(metric)
            if value is None and (native and not METRICS[metric].native or s.get("note")):
                continue
            if value is None or not math.isfinite(value):
                wrong.append(f"{where}: {metric} is {value}")
    return wrong


def markdown(result: dict[str, Any]) -> str:
    """The whole report."""
    meta, samples = result["meta"], result["samples"]
    m = meta["machine"]
    lines = [
        f"# fwd benchmark, {meta['date']}, Linux {m['kernel']}", "",
        f"`{meta['command']}`: {meta['rounds']} interleaved rounds of {meta['seconds']:g} s. "
        "Median [lowest–highest]; percentages are medians of the ratio to native in the same "
        "round. A name is followed by the kind of its container's netns.", "",
        f"{m['cpu']}, {m['cores']} cores, governor {m['governor']}, {m['distribution']}, "
        f"load before {m['load_before']}, after {meta['load_after']}. "
        f"Descriptors limited to {m['fd_limit']}.", ""]
    lines += [f"- {note}" for note in meta["notes"]]
    lines += ["", "## Competitors", "", "| | version | command |", "|-|-|-|"]
    for name, peer in result["peers"].items():
        said = f"**missing**: {peer['missing']}" if peer["missing"] else peer["version"]
        command = " ".join(peer.get("argv", [])).replace("|", "\\|")
        lines.append(f"| {name} | {said} | `{command}` |" if command else f"| {name} | {said} | |")
    lines += ["", "## Results", "", tables(samples)]
    return "\n".join(lines) + "\n"
