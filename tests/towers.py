"""A shop in which one item leads to another, and user vectors small enough to be learnt in a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from core.ids import hash64
from core.settings import ChannelSettings, Settings
from jobs import text_quality, train_tower
from jobs.embedding import Embedder
from models.cache import VectorCache
from models.vectors import Vectors
from streams.recorded import Entry
from tests.factories import DAY, HOUR, T, event, item, small_settings


class Texts:
    """An encoder whose vectors say nothing of what goes together."""

    name, weights_sha256, space_id, dim = "texts", "0", "texts", 24

    def encode(self, texts: Sequence[str], progress: object = None) -> Vectors:
        drawn = np.stack([np.random.default_rng(hash64(one)).standard_normal(self.dim) for one in texts])
        return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def embedder_of(settings: Settings) -> Embedder:
    return Embedder(Texts(), VectorCache(None), settings)  # type: ignore[arg-type]


def chains(*, shoppers: int = 30, days: int = 10, items: int = 60) -> list[Entry]:
    """Whoever buys an item buys the next one the day after."""
    chance = np.random.default_rng(6)
    entries: list[Entry] = [item(f"i{n}", ts=T) for n in range(items)]
    for who in range(shoppers):
        start = int(chance.integers(items))
        for day in range(days):
            ts = T + HOUR + day * DAY + int(chance.integers(DAY // 2))
            bought = event("purchase", f"i{(start + day) % items}", ts=ts, user_id=f"u{who}", event_id=f"{who}-{day}")
            entries.append(bought)
    return sorted(entries, key=lambda one: one.ts)


def tower_settings(**tuning: Any) -> Settings:
    """A user vector is asked for, and learnt again every two days."""
    settings = small_settings(min_groups=20)
    more = {"user": "transformer", "held_out": 0.2, "tower_every_s": 2 * 86_400.0, "tower_growth": 10.0} | tuning
    found = msgspec.structs.replace(settings.tuning, **more)
    return msgspec.structs.replace(settings, tuning=found, channels=ChannelSettings())


def small_towers(monkeypatch: pytest.MonkeyPatch, *, better: bool = True) -> None:
    """From a handful of shoppers, with a verdict that is set."""
    from models import user_training

    plan = user_training.Plan

    def small(**fields: Any) -> user_training.Plan:
        return plan(**fields, width=16, layers=1, batch=16, rounds=2, dropout=0.0, rate=4e-3)

    monkeypatch.setattr(user_training, "Plan", small)
    monkeypatch.setattr(text_quality, "FEWEST", 5)
    monkeypatch.setattr(text_quality, "DRAWS", 20)
    monkeypatch.setattr(train_tower, "verdict", lambda figures, groups=True: (better, "as the test says"))
