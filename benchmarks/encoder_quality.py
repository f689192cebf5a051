"""What an encoder that learns adds to text alone: Games (protocol G), no ids, no counts, no ranker.

    python benchmarks/encoder_quality.py --bench ../shared/bench [--rung top] [--set rounds=12] [--shuffled] [--test]

3,000 shoppers are asked. All is chosen on the last item of their histories, which nothing learns
from: when to stop, and how the items of a history are put together. With --test the next item is
looked at, once. The targets are counted in three groups, by how often they occur in the stream.
Intervals are percentile bootstrap over shoppers, 2,000 draws, differences paired.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.ids import DAY_MS, digest
from core.settings import EncoderSettings, TextSettings, TuningSettings
from jobs.pairs import Histories, Touch, pairs
from jobs.text_quality import Kernel, Question, gains, ndcg, questions, ranks, recall
from models.cache import VectorCache, encode_cached
from models.encoder import Encoder
from models.pairs import Pairs
from models.tower import Tower
from models.trained import Notes, write
from models.training import Run
from models.vectors import Vectors
from models.weights import weights_sha256
from progress import Lines

KERNELS = [
    Kernel(5, 1.0),
    Kernel(10, 0.7),
    *(Kernel(10, 0.7, width) for width in (0.05, 0.1, 0.2)),
    Kernel(10, 0.9, 0.1),
]
CHOOSE_BY = Kernel(5, 0.7, 0.1)  # while training
GROUPS = ((0, 10, "under 10"), (10, 50, "10-49"), (50, 1 << 30, "50+"))
FOREVER_S = 1e9  # the times of G are made up: an event is as good as another


@dataclass(frozen=True, slots=True)
class Games:
    """The protocol. `seen` is all that may be learnt from; `later` adds the asked shoppers' last item."""

    texts: list[str]
    rows: dict[str, int]
    seen: Histories
    choose: list[Question]
    test: list[Question]
    counts: NDArray[np.int64]


def games(bench: Path) -> Games:
    """Read protocol G."""
    protocols = _module(bench)
    task = protocols.games()
    items = list(task.items)
    rows = {one["item_id"]: row for row, one in enumerate(items)}
    whole = Histories()
    for line in task.events[0]:
        whole.touches.setdefault(line["user_id"], []).append(Touch(line["ts"], line["item_id"], 1.0))
    asked = {one.user_id: one for one in task.queries}
    seen = Histories({who: one[:-1] if who in asked else one for who, one in whole.touches.items()})
    mine = Histories({who: whole.touches[who] for who in asked})
    ask = protocols.GAMES_QUERY_TS
    choose = questions(mine, rows, ask - DAY_MS, ask, len(asked))
    for who, one in asked.items():
        mine.touches[who] = [*mine.touches[who], Touch(ask, next(iter(one.target)), 1.0)]
    counts = Counter(one.item for touches in whole.touches.values() for one in touches)
    return Games(
        [one["title"] for one in items],
        rows,
        seen,
        choose,
        questions(mine, rows, ask, ask + 1, len(asked)),
        np.array([counts[one["item_id"]] for one in items]),
    )


def _module(bench: Path) -> ModuleType:
    sys.path.insert(0, str(bench))
    import protocols  # type: ignore[import-not-found]

    return protocols  # type: ignore[no-any-return]


def best(vectors: Vectors, asked: list[Question]) -> Kernel:
    """The way of putting a history together that is best on these questions."""
    return max(KERNELS, key=lambda one: float(ndcg(ranks(vectors, asked, one), 10).mean()))


def report(name: str, found: tuple[Vectors, Vectors], asked: list[Question], game: Games) -> None:
    """Print the figures of both encoders and their paired difference, each with its own kernel."""
    kernels = [best(one, game.choose) for one in found]
    print(f"{name}: histories before by {kernels[0]}, after by {kernels[1]}")
    before, after = (ranks(one, asked, kernel) for one, kernel in zip(found, kernels, strict=True))
    counts = game.counts[[one.target for one in asked]]
    for low, high, title in ((0, 1 << 30, "all"), *GROUPS):
        some = (counts >= low) & (counts < high)
        for measure, gain in gains(before[some], after[some]).items():
            print(f"{name} {title:8} ({some.sum():5,}) {measure:10} {gain}")


def learnt_from(game: Games, tuning: TuningSettings, *, shuffled: bool) -> Pairs:
    """Pairs of what may be learnt; shuffled, of the same events with the items drawn anew."""
    seen = game.seen
    if shuffled:
        names = np.array([one.item for touches in seen.touches.values() for one in touches])
        drawn = iter(np.random.default_rng(1).permutation(names).tolist())
        seen = Histories(
            {who: [one._replace(item=next(drawn)) for one in touches] for who, touches in seen.touches.items()}
        )
    newest = max(one.ts for touches in seen.touches.values() for one in touches)
    return pairs(seen, game.rows, tuning, now_ms=newest + 1)


def main() -> None:
    """Train, choose, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--rung", default="top")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="of the settings' section tuning"
    )
    parser.add_argument("--model", default=EncoderSettings().model)
    parser.add_argument("--out", type=Path, default=Path("data/encoder_quality"), help="checkpoints and the encoder")
    parser.add_argument("--shuffled", action="store_true", help="learn from shuffled items: there must be no gain")
    parser.add_argument("--test", action="store_true", help="look at the next items too")
    parser.add_argument("--trained", type=Path, metavar="FOLDER", help="measure this encoder instead of training one")
    args = parser.parse_args()
    given: dict[str, Any] = {
        name: msgspec.json.decode(value) for name, _, value in (one.partition("=") for one in args.set)
    }
    tuning = msgspec.convert({"rung": args.rung, "half_life_s": FOREVER_S, **given}, TuningSettings)
    game, tell, clock = games(args.bench), Lines(sys.stdout), time.perf_counter
    if args.trained is not None:
        base, trained = (_encoded(one, game, args.out) for one in (args.model, str(args.trained)))
        measure(args, (base, trained), game)
        return
    learnt = learnt_from(game, tuning, shuffled=args.shuffled)
    print(f"{len(game.texts):,} items, {len(learnt) // 2:,} pairs, {len(game.choose):,} + {len(game.test):,} questions")
    begun = clock()
    encoder = EncoderSettings(model=args.model)
    tower = Tower(encoder, tuning, game.texts, lambda done, total: tell("frozen part", done, total))
    print(f"prepared in {clock() - begun:.0f} s")
    before = tower.every()

    def judge(vectors: Vectors) -> float:
        places = ranks(vectors, game.choose, CHOOSE_BY)
        score = float(ndcg(places).mean())
        figures = f"NDCG@10 {ndcg(places, 10).mean():.4f}, recall@100 {recall(places, 100).mean():.4f}"
        print(f"{clock() - begun:6.0f} s: full NDCG {score:.4f}, {figures}", flush=True)
        return score

    mark = digest(msgspec.json.encode(tuning, enc_hook=str), args.model, str(args.shuffled))
    run = Run(
        tower, learnt, judge, tuning, seed=7, seconds=clock, file=args.out / "run.safetensors", mark=mark, progress=tell
    )
    found = run.fit()
    met = learnt.strength()
    print(
        f"{found.steps} steps in {found.seconds:.0f} s: {found.pairs / found.seconds:.0f} pairs/s drawn, "
        f"{2 * found.pairs / found.seconds:.0f} texts/s, {np.count_nonzero(met)} items with pairs"
    )
    base = weights_sha256(tower.folder)
    notes = Notes(
        base=args.model, base_sha256=base, rung=tuning.rung, seed=7, max_event_ms=0, figures={"full NDCG": found.best}
    )
    print("encoder:", write(tower, args.out, notes))
    measure(args, (before, found.vectors), game)


def measure(args: argparse.Namespace, found: tuple[Vectors, Vectors], game: Games) -> None:
    """Print what was chosen by, and the test where it is asked for."""
    report("choose", found, game.choose, game)
    if args.test:
        report("test", found, game.test, game)


def _encoded(model: str, game: Games, out: Path) -> Vectors:
    cache = VectorCache(out / "vectors.sqlite")
    return encode_cached(Encoder.open(EncoderSettings(model=model), TextSettings()), cache, game.texts)


if __name__ == "__main__":
    main()
