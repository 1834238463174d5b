# SPDX-License-Identifier: Apache-2.0
"""The figures of a run, as SVG, by gnuplot.

    -throughput   Gbit/s and the forwarder's CPU per GB, by scenario and competitor
    -latency      percentiles of request/response, logarithmic
    -scaling      by number of streams, and memory by number of connections

A competitor has the same colour in all of them (a palette that the colour-blind can read).
Bars are medians; whiskers reach from the lowest to the highest round.
"""

import os
import subprocess
from typing import Any

from . import stats
from .peers import find
from .stats import Key, Sample, Spread

COLOURS = {"native": "#999999", "fwd": "#D55E00", "fwd-epoll": "#E69F00",
           "fwd-nosource": "#F0C987", "fwd-base": "#7F3700", "pasta": "#0072B2",
           "pasta-new": "#56B4E9", "slirp4netns": "#CC79A7", "rootlesskit": "#009E73",
           "rootlesskit-new": "#66C9AC", "haproxy": "#B5A900", "socket-proxyd": "#000000"}
TOPOLOGY = "remote4"
NAN = "NaN"

Groups = dict[Key, list[Sample]]


def _value(groups: Groups, case: str, peer: str, metric: str) -> Spread | None:
    for key, samples in groups.items():
        if key[:3] == (case, TOPOLOGY, peer):
            return stats.spread(samples, metric)
    return None


def _peers(groups: Groups, cases: list[str], metric: str) -> list[str]:
    """Those with a figure for at least one of @cases, in the order of COLOURS."""
    return [p for p in COLOURS if any(_value(groups, c, p, metric) for c in cases)]


def _quoted(text: str) -> str:
    return '"' + text.replace("_", " ") + '"'


def _block(name: str, rows: list[list[str]]) -> str:
    return f"${name} << EOD\n" + "\n".join(" ".join(row) for row in rows) + "\nEOD\n"


def _numbers(spread: Spread | None) -> list[str]:
    if spread is None:
        return [NAN, NAN, NAN]
    return [f"{v:.6g}" for v in (spread.median, spread.low, spread.high)]


def _bars(groups: Groups, name: str, cases: list[str], metric: str, title: str) -> str:
    """Clusters of bars: one for each case, a bar for each competitor."""
    peers = _peers(groups, cases, metric)
    cases = [c for c in cases if any(_value(groups, c, p, metric) for p in peers)]
    if not peers:
        return ""
    prefix = os.path.commonprefix(cases)
    prefix = prefix[:prefix.rfind("_") + 1]
    rows = [[_quoted(c.removeprefix(prefix))]
            + [n for p in peers for n in _numbers(_value(groups, c, p, metric))] for c in cases]
    plots = [f'${name} using {3 * i + 2}:{3 * i + 3}:{3 * i + 4}:xtic(1) title "{p}" '
             f'linecolor rgb "{COLOURS[p]}"' for i, p in enumerate(peers)]
    return (_block(name, rows) + f'set title "{title}"\nset yrange [0:*]\nunset logscale\n'
            "set style data histogram\nset style histogram errorbars gap 1.5 linewidth 1\n"
            "set style fill solid 0.9\nset boxwidth 1\nset xrange [*:*]\n"
            f"plot {', '.join(plots)}\n")


def _lines(groups: Groups, name: str, points: list[tuple[float, str, str]], title: str,
           xlabel: str, log: str) -> str:
    """A line for each competitor through (x, case, metric), logarithmic in @log."""
    peers = [p for p in COLOURS if any(_value(groups, c, p, m) for _, c, m in points)]
    if not peers:
        return ""
    rows = [[f"{x:g}"] + [n for p in peers for n in _numbers(_value(groups, c, p, m))]
            for x, c, m in points]
    plots = [f'${name} using 1:{3 * i + 2} title "{p}" with linespoints linewidth 2 pointtype 7 '
             f'pointsize 0.6 linecolor rgb "{COLOURS[p]}"' for i, p in enumerate(peers)]
    return (_block(name, rows) + f'set title "{title}"\nset xlabel "{xlabel}"\n'
            f"unset logscale\n{f'set logscale {log}' if log else ''}\n"
            f"set yrange [{'*' if 'y' in log else '0'}:*]\nset xrange [*:*]\n"
            f"plot {', '.join(plots)}\nunset xlabel\n")


def _latency(groups: Groups, name: str, case: str, title: str) -> str:
    """Percentiles along an axis of nines."""
    quantiles = [("p50", "p50_us"), ("p90", "p90_us"), ("p99", "p99_us"), ("p99.9", "p99_9_us")]
    points = [(float(i), case, metric) for i, (_, metric) in enumerate(quantiles)]
    tics = ", ".join(f'"{q}" {i}' for i, (q, _) in enumerate(quantiles))
    body = _lines(groups, name, points, title, "", "y")
    return body and f"set xtics ({tics})\n{body}set xtics auto\n"


def _figure(path: str, parts: list[str], columns: int) -> str:
    parts = [part for part in parts if part]
    if not parts:
        return ""
    rows = -(-len(parts) // columns)
    columns = min(columns, len(parts))
    width = 1000 if columns == 1 else 620 * columns
    return (f'set terminal svg size {width},{380 * rows} font "sans-serif,11" '
            f'background "white"\nset output "{path}"\nset multiplot layout {rows},{columns}\n'
            "set key outside right top vertical\nset grid ytics\nset border 3\n"
            "set xtics nomirror\nset ytics nomirror\n"
            + "".join(parts) + "unset multiplot\nunset output\nreset\n")


def _figures(groups: Groups, base: str) -> dict[str, str]:
    bulk = [f"tcp_bulk_{n}_{way}" for way in ("up", "down", "both") for n in (1, 8, 64)]
    udp = [f"udp_{kind}_{n}" for kind in ("blast_64", "blast_1400", "gso_1400") for n in (1, 64)]
    up, down = ([(n, f"tcp_bulk_{n}_{way}", "gbps") for n in (1, 8, 64)] for way in ("up", "down"))
    idle = [(n, f"tcp_idle_{n}", "rss_kb") for n in (1, 1000, 10000)]
    rate = [f"tcp_rr_{n}{size}" for n in (1, 64) for size in ("", "_1k", "_16k")]
    wanted: dict[str, tuple[list[str], int]] = {
        "throughput": ([
            _bars(groups, "gbps", bulk, "gbps", "TCP bulk, Gbit/s"),
            _bars(groups, "cpu", bulk, "cpu_s_per_gb", "TCP bulk, forwarder CPU s/GB"),
            _bars(groups, "pps", udp, "pps", "UDP delivered, packets/s"),
            _bars(groups, "ucpu", udp, "cpu_s_per_mpkt", "UDP, forwarder CPU s/million packets"),
        ], 1),
        "latency": ([
            _latency(groups, "one", "tcp_rr_1", "TCP request/response, 1 connection, µs"),
            _latency(groups, "many", "tcp_rr_64", "TCP request/response, 64 connections, µs"),
            _latency(groups, "first", "tcp_first", "First byte of a new connection, µs"),
            _latency(groups, "echo", "udp_echo_1", "UDP echo, 1 flow, µs"),
        ], 2),
        "scaling": ([
            _lines(groups, "up", up, "Client to container, Gbit/s", "streams", "x"),
            _lines(groups, "down", down, "Container to client, Gbit/s", "streams", "x"),
            _bars(groups, "rate", rate, "rate_per_s", "Requests/s by connections and size"),
            _lines(groups, "rss", idle, "Memory, RSS kB", "idle connections", "xy"),
        ], 2),
    }
    figures = {}
    for name, (parts, columns) in wanted.items():
        path = f"{base}-{name}.svg"
        text = _figure(path, parts, columns)
        if text:
            figures[path] = text
    return figures


def draw(result: dict[str, Any], base: str) -> list[str]:
    """Draw what the samples allow; return the files written."""
    gnuplot = find("gnuplot")
    if not gnuplot:
        print("bench: gnuplot is not installed: no figures")
        return []
    figures = _figures(stats.grouped(result["samples"]), base)
    for path, script in figures.items():
        p = subprocess.run([gnuplot], input=script, text=True, capture_output=True, timeout=60,
                           check=False)
        if p.returncode != 0:
            raise OSError(f"gnuplot, for {path}: {p.stderr.strip()}")
    return list(figures)
