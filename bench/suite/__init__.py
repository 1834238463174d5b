# SPDX-License-Identifier: Apache-2.0
"""The benchmark suite's parts; bench/run.py and bench/compare.py are the commands.

    nsapi    namespaces: the system calls, and processes started inside them
    world    the topology of one measurement
    peers    the competitors: how each is found, started, asked to forward
    cases    the scenarios: what each runs and what it reports
    account  CPU time and memory of a forwarder
    runner   interleaved rounds of measurements
    facts    what there is to know about the machine
    stats    medians, ranges and ratios of raw samples
    report   the Markdown table
    plots    the figures, by gnuplot
"""
