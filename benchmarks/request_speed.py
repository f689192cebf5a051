"""One request at 100,000 items, 300 candidates: milliseconds of one core.

    python benchmarks/request_speed.py [--items 100000] [--requests 500]

The shop is made up: items in categories, popularity with a long tail, sessions within a
category, random vectors around one centre a category. The ranker is trained on lists of the
same shop with random grades: its trees are as deep as real ones, its order means nothing.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from core.catalogue import Item
from core.decision import Request
from core.ids import DAY_MS
from core.profile import Act, Memory, Profile, Session
from core.settings import Settings
from core.stats import Circle, ItemStats, Neighbours, observe
from jobs.lessons import Lesson, collect
from ranker import features
from ranker.ease import Ease
from ranker.live import Live
from ranker.model import train
from ranker.recommend import Snapshot, draft_list, recommend
from ranker.space import Space

NOW = 1_700_000_000_000
CATEGORIES = 400
DIM = 384
FUNNEL = {"view": 20, "shown": 80, "cart": 3, "buy": 1}


def build(settings: Settings, items: int, rng: np.random.Generator) -> tuple[Snapshot, list[Profile]]:
    """A shop of that many items, and some of its shoppers."""
    live, space = Live(settings), Space("made-up", DIM, settings.index)
    category = rng.integers(0, CATEGORIES, items)
    by_category = [np.flatnonzero(category == c) for c in range(CATEGORIES)]
    half_lives = tuple(s * 1000.0 for s in settings.popularity.half_lives_s)
    weight = rng.pareto(1.2, items) + 0.1
    for n in range(items):
        c = int(category[n])
        since = NOW - int(rng.integers(1, 200)) * DAY_MS
        item = Item(
            item_id=f"i{n}", since=since, ts=since, text_ts=since, title=f"Item {n}", price=float(rng.gamma(2, 20)),
            categories=(f"Root {c % 20} > Leaf {c}",),
        )  # fmt: skip
        live.offer("catalogue", item.item_id, item)
        seen = NOW - int(rng.exponential(10) * DAY_MS)
        counters = {s: observe(None, seen, float(weight[n] * f), half_lives) for s, f in FUNNEL.items()}
        stats = ItemStats(1, counters, since, seen, since, seen, item.price or 0.0, item.categories)
        live.offer("item-stats", item.item_id, stats)
        mates = rng.choice(by_category[c], min(50, len(by_category[c])), replace=False)
        circle = Circle(seen, 30.0, {f"i{m}": float(rng.random()) for m in mates if m != n})
        live.offer("item-neighbours", item.item_id, Neighbours(1, {"seen": circle, "bought": circle, "carted": circle}))
    profiles = [_profile(k, by_category, rng) for k in range(20_000)]
    for k, profile in enumerate(profiles):
        live.offer("profiles", f"s{k}", profile)
    centres = rng.normal(size=(CATEGORIES, DIM))
    vectors = (centres[category] + rng.normal(size=(items, DIM))).astype(np.float32)
    space.offer("made-up", [f"i{n}" for n in range(items)], vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    live.adopt(_ease(settings, category, by_category, rng))
    return Snapshot(settings, live, space, None, "made-up"), profiles


def _ease(
    settings: Settings, category: NDArray[np.int64], by_category: list[NDArray[np.int64]], rng: np.random.Generator
) -> Ease:
    """Ties within a category, between as many items as are modelled at most."""
    count = min(settings.ease.items, len(category))
    ties = [rng.choice(mine[mine < count], settings.ease.ties) for mine in (by_category[c] for c in category[:count])]
    weights = rng.normal(size=(count, settings.ease.ties)).astype(np.float32)
    return Ease(tuple([f"i{n}" for n in range(count)]), np.array(ties, np.int32), weights, NOW)


def _profile(k: int, by_category: list[NDArray[np.int64]], rng: np.random.Generator) -> Profile:
    sessions, memory = [], {}
    for n in range(int(rng.integers(1, 8))):
        start = NOW - int(rng.exponential(15) * DAY_MS) - 1
        mine = rng.choice(by_category[(k + n) % CATEGORIES], 12, replace=True)
        acts = {f"i{m}": int(rng.choice([Act.VIEW, Act.VIEW, Act.CART, Act.BUY])) for m in mine}
        sessions.append(Session(f"{k}-{n}", start, start, acts))
        for item, act in acts.items():
            bought = start if act == Act.BUY else 0
            memory[item] = Memory(2, 1, int(act >= Act.CART), int(act == Act.BUY), 1.0, 3, start, start, bought, bought)
    sessions.sort(key=lambda one: one.start)
    return Profile(
        first=sessions[0].start, last=sessions[-1].last, memory=memory, sessions=tuple(sessions), baskets=len(sessions),
        basket_items=6 * len(sessions), first_basket=sessions[0].start, last_basket=sessions[-1].start,
    )  # fmt: skip


def main() -> None:
    """Build the shop, ask, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    args = parser.parse_args()
    settings, rng = Settings(), np.random.default_rng(7)
    started = time.perf_counter()
    snapshot, profiles = build(settings, args.items, rng)
    snapshot.refresh()
    index = type(snapshot.space.index).__name__ if snapshot.space else "none"
    print(f"built {args.items} items in {time.perf_counter() - started:.0f} s, index {index}")
    asked = [(Request(recommendation_id=f"r{k}", ts=NOW, shopper=f"s{k}"), profiles[k]) for k in range(args.requests)]
    lessons = []
    for request, profile in asked[:300]:
        draft = draft_list(request, profile, snapshot)
        lessons.append(Lesson(NOW, draft.features, (rng.random(len(draft.rows)) < 0.05).astype(np.int8)))
    names, schema = features.names(settings), features.schema(settings)
    ranker = train(collect([one for one in lessons if one.teaches]), names, schema, settings.training)
    print(f"{'':24}{'p50 ms':>8}{'p99 ms':>8}{'CPU ms':>8}{'candidates':>12}")
    for name, one in (("blend", snapshot), ("lambdarank", replace(snapshot, ranker=ranker))):
        wall, count = [], 0
        cpu = time.process_time()
        for request, profile in asked:
            begun = time.perf_counter()
            decision = recommend(request, profile, one)
            wall.append((time.perf_counter() - begun) * 1000)
            count += len(decision.items)
        cpu = (time.process_time() - cpu) / len(asked) * 1000
        rows = np.mean([len(draft_list(r, p, one).rows) for r, p in asked[:50]])
        print(f"{name:24}{np.percentile(wall, 50):8.2f}{np.percentile(wall, 99):8.2f}{cpu:8.2f}{rows:12.0f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    if args.profile:
        import cProfile
        import pstats

        with cProfile.Profile() as profiler:
            for request, profile in asked:
                recommend(request, profile, replace(snapshot, ranker=ranker))
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()
