"""Answered queries for the tests of evaluation: only what a test is about has to be named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.metrics import Answered

T = 1_320_105_600_000  # 2011-11-01 00:00 UTC
DAY = 86_400_000


def answered(items: str = "", targets: str = "a", **more: Any) -> Answered:
    """Items and targets are single letters: answered("abc", "ac")."""
    known = {"query_id": "q", "shopper": "ida", "ts": T, **more}
    return Answered(items=tuple(items), targets=frozenset(targets), **known)


def random_answers(skill: float, *, seed: int, queries: int = 300, shoppers: int = 120) -> list[Answered]:
    """The same questions for every seed; the higher the skill (0 to 1), the more targets stand in front."""
    world, own = np.random.default_rng(0), np.random.default_rng(seed)
    catalogue = [f"i{n}" for n in range(200)]
    answers = []
    for n in range(queries):
        targets = world.choice(catalogue, 5, replace=False).tolist()
        bought = world.choice(catalogue, 20, replace=False).tolist() if n % 4 else []
        front = [item for item in targets if own.random() < skill]
        rest = [item for item in own.permutation(catalogue).tolist() if item not in front]
        answers.append(
            Answered(
                query_id=f"q{n}",
                shopper=f"s{n % shoppers}",
                ts=T + n * DAY // 10,
                items=tuple(front + rest)[:100],
                candidates=tuple(front + rest),
                targets=frozenset(targets),
                first_time=not bought,
                bought=frozenset(bought),
                cold_targets=frozenset(targets[:1]) if n % 5 == 0 else frozenset(),
                latency_ms=float(own.gamma(4)),
                catalogue_size=len(catalogue),
                channels=channels(front, rest),
            )
        )
    return answers


def channels(front: Sequence[str], rest: Sequence[str]) -> dict[str, tuple[str, ...]]:
    return {"own": tuple(front), "trending": tuple(rest[:20])}
