# SPDX-License-Identifier: Apache-2.0
"""From raw samples to medians, ranges and ratios."""

import statistics
from dataclasses import dataclass
from typing import Any, Iterable

from .cases import METRICS

Sample = dict[str, Any]
Key = tuple[str, str, str, str]  # case, topology, peer, container


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing."""
    median: float
    low: float
    high: float
    n: int

    @staticmethod
    def of(values: Iterable[float]) -> "Spread | None":
        v = sorted(values)
        return Spread(statistics.median(v), v[0], v[-1], len(v)) if v else None


def key_of(sample: Sample) -> Key:
    return sample["case"], sample["topology"], sample["peer"], sample["container"]


def grouped(samples: Iterable[Sample]) -> dict[Key, list[Sample]]:
    groups: dict[Key, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(key_of(sample), []).append(sample)
    return groups


def spread(samples: Iterable[Sample], metric: str) -> Spread | None:
    return Spread.of(s["metrics"][metric] for s in samples
                     if s["status"] == "ok" and metric in s["metrics"])


def natives(samples: Iterable[Sample]) -> dict[tuple[str, str, int], Sample]:
    """The native samples by case, topology and round."""
    return {(s["case"], s["topology"], s["round"]): s for s in samples
            if s["peer"] == "native" and s["status"] == "ok"}


def ratio(samples: Iterable[Sample], base: dict[tuple[str, str, int], Sample],
          metric: str) -> Spread | None:
    """The metric as a part of the native one of the same round."""
    if not METRICS[metric].native:
        return None
    values = []
    for s in samples:
        native = base.get((s["case"], s["topology"], s["round"]))
        if native and s["status"] == "ok" and metric in s["metrics"]:
            by = native["metrics"].get(metric, 0.0)
            if by > 0:
                values.append(s["metrics"][metric] / by)
    return Spread.of(values)
