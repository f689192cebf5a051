"""How many trees and candidates are worth their milliseconds: NDCG@10 of held-out lists against the time of a request.

    python benchmarks/quality_per_ms.py --stream stream.jsonl --before 2011-11-01 [--out docs/quality_per_ms.svg]

The stream is one of `evaluation` (as the exporter of the bench writes it); its queries and all that
comes at `--before` or later are not looked at. Lists of the last `--days` before that are held out
whole; a ranker learns from the older ones, as the job does. The time is that of whole requests
(retrieval, features, trees) in the shop as it stood at the end.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element

import lightgbm
import msgspec
import numpy as np
from numpy.typing import NDArray

from core.decision import Request
from core.ids import DAY_MS
from core.settings import Settings
from evaluation.markup import e, page
from jobs.embedding import Embedder
from jobs.lessons import Lesson, collect
from jobs.rehearsal import Rehearsal
from ranker import features
from ranker.arrays import Floats
from ranker.model import Ranker, train
from ranker.recommend import draft_list
from streams import recorded

TREES: Final = (20, 40, 60, 100, 150, 200, 300)
CANDIDATES: Final = (50, 100, 150, 200, 300, 500)
ASKED: Final = 150  # requests that are timed
DISCOUNT: Final = 1.0 / np.log2(np.arange(2, 12))
COLOURS: Final = ("#9aa5b1", "#7a8794", "#2f9e8f", "#1f78b4", "#d9480f", "#862e9c")


class Point(NamedTuple):
    """One setting: what a request takes (ms), and NDCG@10 with half its 95 % interval."""

    candidates: int
    trees: int
    ms: float
    ndcg: float
    half: float


def rehearse(stream: Path, before_ms: int, settings: Settings, embedder: Embedder | None) -> Rehearsal:
    """The shop as it stood, with its lists."""
    since_ms = before_ms - round(settings.training.window_s * 1000)
    shop = Rehearsal(settings, embedder, learn_from_ms=since_ms, train_from_ms=before_ms + 1)
    for message in recorded.read(stream):
        if message.ts >= before_ms:
            break
        if not isinstance(message, recorded.Query):
            shop.accept(message)
    shop.finish()
    return shop


def thinned(lesson: Lesson, negatives: int, chance: np.random.Generator) -> Lesson:
    """With as many unwanted rows as the job keeps."""
    rest = np.flatnonzero(lesson.grades == 0)
    if len(rest) > negatives:
        rest = chance.choice(rest, negatives, replace=False)
    keep = np.sort(np.concatenate([np.flatnonzero(lesson.grades > 0), rest]))
    return replace(lesson, features=lesson.features[keep], grades=lesson.grades[keep])


def shorter(ranker: Ranker, trees: int) -> Ranker:
    """The first trees of a ranker."""
    text = ranker._booster.model_to_string(num_iteration=trees)
    return Ranker(lightgbm.Booster(model_str=text), ranker.schema)


def gain(lesson: Lesson, scores: Floats, fused: NDArray[np.int64], candidates: int) -> float:
    """NDCG@10 when only so many candidates are scored; what the others hold is missed."""
    scores = np.where(fused < candidates, scores, -np.inf)
    wanted = lesson.grades > 0
    top = np.argsort(-scores, kind="stable")[:10]
    best = DISCOUNT[: min(10, int(wanted.sum()))].sum()
    return float((wanted[top] * DISCOUNT[: len(top)]).sum() / best)


def time_ms(shop: Rehearsal, ranker: Ranker, candidates: int, asked: Sequence[tuple[str, int]]) -> float:
    """Median of whole requests of one core."""
    settings = shop.settings
    ranking = msgspec.structs.replace(settings.ranking, candidates=candidates)
    snapshot = replace(shop.snapshot, settings=msgspec.structs.replace(settings, ranking=ranking), ranker=ranker)
    found = []
    for shopper, ts in asked:
        begun = time.perf_counter()
        draft_list(Request(recommendation_id="r", ts=ts, shopper=shopper), shop.profile(shopper), snapshot)
        found.append(1000 * (time.perf_counter() - begun))
    return float(np.median(found))


def measure(shop: Rehearsal, since_ms: int) -> list[Point]:
    """All settings, on the lists since a moment."""
    settings, chance = shop.settings, np.random.default_rng(7)
    kept = Settings().training.negatives
    older = [thinned(one, kept, chance) for one in shop.lessons if one.ts < since_ms]
    newer = [one for one in shop.lessons if one.ts >= since_ms]
    names, schema = features.names(settings), features.schema(settings)
    most = msgspec.structs.replace(settings.training, trees=max(TREES))
    whole = train(collect(older), names, schema, most, threads=1)
    fused = [np.argsort(np.argsort(-one.features[:, names.index("fused")], kind="stable")) for one in newer]
    shoppers = sorted(name for name, one in shop.runner.tables["profile"].items() if one.baskets)
    asked = [(name, shop.now_ms + 1) for name in shoppers[:: max(1, len(shoppers) // ASKED)]]
    print(f"{len(older):,} lists learnt from, {len(newer):,} held out, {len(asked)} requests timed")
    points = []
    for trees in TREES:
        ranker = shorter(whole, trees)
        scores = [ranker.score(one.features) for one in newer]
        for candidates in CANDIDATES:
            gains = np.array([gain(*one, candidates) for one in zip(newer, scores, fused, strict=True)])
            half = 1.96 * float(gains.std()) / len(gains) ** 0.5
            points.append(Point(candidates, trees, time_ms(shop, ranker, candidates, asked), gains.mean(), half))
            print(f"{candidates:4} candidates {trees:4} trees {points[-1].ms:6.2f} ms  NDCG@10 {gains.mean():.4f}")
    return points


def plot(points: Sequence[Point], chosen: tuple[int, int]) -> str:
    """An SVG: a line for each number of candidates, along its trees; the defaults are ringed."""
    width, height, left, bottom = 760, 420, 60, 50
    slowest, best = max(one.ms for one in points) * 1.05, max(one.ndcg for one in points)
    worst = min(one.ndcg for one in points)

    def at(one: Point) -> tuple[float, float]:
        share = (one.ndcg - worst) / (best - worst)
        return left + (width - left - 20) * one.ms / slowest, 20 + (height - bottom - 20) * (1 - share)

    parts = [e("rect", width=width, height=height, fill="#ffffff")]
    for tick in range(int(slowest) + 1):
        x = left + (width - left - 20) * tick / slowest
        parts.append(e("line", x1=x, x2=x, y1=20, y2=height - bottom, stroke="#e9ecef"))
        parts.append(_text(x, height - bottom + 18, str(tick), "middle"))
    for value in np.linspace(worst, best, 5).tolist():
        y = 20 + (height - bottom - 20) * (1 - (value - worst) / (best - worst))
        parts.append(e("line", x1=left, x2=width - 20, y1=y, y2=y, stroke="#e9ecef"))
        parts.append(_text(left - 6, y + 4, f"{value:.3f}", "end"))
    for colour, candidates in zip(COLOURS, CANDIDATES, strict=True):
        line = [one for one in points if one.candidates == candidates]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, line))
        parts.append(e("polyline", points=path, fill="none", stroke=colour, stroke_width=2))
        for one in line:
            x, y = at(one)
            parts.append(e("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=3, fill=colour))
            if (one.candidates, one.trees) == chosen:
                parts.append(e("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=9, fill="none", stroke="#212529"))
        x, y = at(line[-1])
        parts.append(_text(min(x + 6, width - 30), y - 8, f"{candidates}", "start", colour))
    parts.append(_text(width / 2, height - 10, "milliseconds of one core for a whole request", "middle"))
    parts.append(_text(left, 14, "NDCG@10; a line for each number of candidates, points at trees: "
                       + ", ".join(map(str, TREES)), "start"))  # fmt: skip
    root = e("svg", *parts, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}")
    return page(root, doctype=False)


def _text(x: float, y: float, words: str, anchor: str, colour: str = "#495057") -> Element:
    return e("text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, font_size=12, font_family="sans-serif",
             fill=colour)  # fmt: skip


def main() -> None:
    """Rehearse, measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stream", type=Path, required=True)
    parser.add_argument("--before", required=True, help="a day, UTC: YYYY-MM-DD")
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--lists", type=int, default=6_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--text", action="store_true", help="with the encoder")
    args = parser.parse_args()
    base = Settings()
    settings = msgspec.structs.replace(
        base,
        training=msgspec.structs.replace(base.training, negatives=1_000_000, max_groups=args.lists),
        ranking=msgspec.structs.replace(base.ranking, candidates=max(CANDIDATES)),
    )
    before_ms = int(datetime.fromisoformat(args.before).replace(tzinfo=UTC).timestamp() * 1000)
    shop = rehearse(args.stream, before_ms, settings, Embedder.open(base) if args.text else None)
    points = measure(shop, before_ms - round(args.days * DAY_MS))
    if args.out is not None:
        args.out.write_text(plot(points, (base.ranking.candidates, base.training.trees)), encoding="utf-8")


if __name__ == "__main__":
    main()
