"""What an encoder that learns, and a user vector that learns, add to text alone: no counts and no ranker.

    python benchmarks/encoder_quality.py --bench ../shared/bench [--data games|retail|ranklens]
        [--rung top|head|lora|full|none] [--set rounds=12] [--trained FOLDER] [--tower [--queries-alone]]
        [--shuffled] [--test]

`encoder_shops` says what is asked. All is chosen on questions that nothing learns from: when to stop, and how the
items of a history are put together. With --test the questions of the protocol are looked at, once. Targets are
counted in groups, by how often they occur before; "cold" ones do not. Intervals are percentile bootstrap over
shoppers, 2,000 draws; differences are paired. Rung none measures the frozen vectors, with --tower what a user
tower adds to them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from encoder_shops import SHOPS, Asked, Shop, open_shop
from numpy.typing import NDArray

from core.ids import digest
from core.settings import ChannelSettings, EncoderSettings, TextSettings, TuningSettings
from jobs.pairs import Histories, pairs
from jobs.text_quality import AT_ONCE, DRAWS, SEED, Figure, Kernel, similarity
from jobs.train_tower import DOUBT, HEAT, answers, by_popularity, mixed, often, sequences
from models.cache import VectorCache, encode_cached
from models.encoder import Encoder
from models.pairs import Pairs
from models.tower import Tower
from models.trained import Notes, write
from models.training import Run
from models.user_tower import UserTower
from models.user_training import Plan, learn
from models.vectors import Vectors
from models.weights import weights_sha256
from progress import Lines

KERNELS = [
    Kernel(),
    Kernel(5, 1.0),
    Kernel(10, 0.7),
    *(Kernel(10, 0.7, width) for width in (0.05, 0.1, 0.2)),
    Kernel(10, 0.9, 0.1),
]
CHOOSE_BY = Kernel(5, 0.7, 0.1)  # while training
MEAN = Kernel()  # what serves where there is no tower
GROUPS: Final = (
    (0, 1 << 60, "all"), (0, 1, "cold"), (0, 10, "under 10"), (10, 50, "10-49"), (50, 1 << 60, "50+"),
)  # fmt: skip
FOREVER_S = 1e9  # the times of G are made up: an event is as good as another

Scores = NDArray[np.float32]
Rule = Callable[[Sequence[Asked]], Scores]  # (questions, items)


@dataclass(frozen=True, slots=True)
class Looked:
    """Of each question, where its targets stand, counted from 0, and how often each occurs before."""

    places: list[NDArray[np.int64]]
    counts: list[NDArray[np.int64]]
    shoppers: NDArray[np.int64]


def look(rule: Rule, asked: Sequence[Asked], shop: Shop) -> Looked:
    """Ask a rule; of equal scores the target comes last."""
    found: list[NDArray[np.int64]] = []
    for start in range(0, len(asked), AT_ONCE):
        some = asked[start : start + AT_ONCE]
        found += [_places(row, one) for row, one in zip(rule(some), some, strict=True)]
    _, shoppers = np.unique([one.question.shopper for one in asked], return_inverse=True)
    return Looked(found, [shop.counts[one.targets] for one in asked], shoppers)


def _places(row: Scores, one: Asked) -> NDArray[np.int64]:
    rivals = row[one.shown] if one.shown is not None else np.delete(row, one.question.history)
    mine = row[one.targets][:, None]
    above, level = (rivals > mine).sum(1), (rivals == mine).sum(1)
    return np.asarray(above + level - 1, np.int64)


def values(found: Looked, measure: str, low: int, high: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A measure of each question by its targets of one group, and which questions have any."""
    kind, _, k = measure.partition("@")
    out, has = np.zeros(len(found.places)), np.zeros(len(found.places), np.bool_)
    for n, (places, counts) in enumerate(zip(found.places, found.counts, strict=True)):
        some = np.sort(places[(counts >= low) & (counts < high)])
        has[n] = bool(len(some))
        hit = some[some < int(k)]
        if kind == "recall":
            out[n] = len(hit) / max(1, len(some))
        else:
            ideal = (1 / np.log2(np.arange(min(int(k), len(some))) + 2.0)).sum()
            out[n] = (1 / np.log2(hit + 2.0)).sum() / max(ideal, 1e-9)
    return out, has


def figure(values: NDArray[np.float64], shoppers: NDArray[np.int64]) -> Figure:
    """Mean over questions, with its 95 % interval over shoppers."""
    _, groups = np.unique(shoppers, return_inverse=True)
    sums, sizes = np.bincount(groups, values), np.bincount(groups).astype(float)
    chance = np.random.default_rng(SEED)
    drawn = (chance.integers(0, len(sizes), len(sizes)) for _ in range(DRAWS))
    low, high = np.percentile([sums[one].sum() / sizes[one].sum() for one in drawn], (2.5, 97.5))
    return Figure(float(values.mean()), float(low), float(high))


# ---------------------------------------------------------------------- rules
def by_kernel(vectors: Vectors, kernel: Kernel) -> Rule:
    """What lies near the items of a history."""
    return lambda some: similarity(vectors, [one.question for one in some], kernel)


def by_query(tower: UserTower, vectors: Vectors, shop: Shop) -> Rule:
    """What the text channel finds by the tower's vector."""
    names = shop.names
    return lambda some: answers(tower, vectors, names, [one.question for one in some])[0] @ vectors.T


def by_count(state: Rule, vectors: Vectors, kernel: Kernel, shop: Shop) -> Rule:
    """A state for items with many events, the kernel for those with few: a mixture of the two chances."""
    share = shop.counts / (shop.counts + DOUBT)

    def scores(some: Sequence[Asked]) -> Scores:
        asked = [one.question for one in some]
        text = similarity(vectors, asked, kernel)
        text = np.log(np.maximum(text, 1e-30)) if kernel.width > 0 else _unit(text, asked, kernel, vectors) / HEAT
        return np.asarray(mixed(state(some), np.asarray(text, np.float32), share), np.float32)

    return scores


def by_taken(shop: Shop) -> Rule:
    """The state that knows nothing but how often each item was taken."""
    found = by_popularity(shop.counts)
    return lambda some: found


def by_state(tower: UserTower, vectors: Vectors, shop: Shop) -> Rule:
    """What the tower's own channel finds, if it had keys of all items."""
    names = shop.names
    keys = tower.keys(vectors, tower.places(names))
    return lambda some: np.asarray(answers(tower, vectors, names, [one.question for one in some])[1] @ keys.T / HEAT)


def told_by_state(name: str, tower: UserTower, vectors: Vectors, kernel: Kernel, shop: Shop) -> dict[str, Rule]:
    """The state alone and by number of events, and beside it what is popular."""
    state = by_state(tower, vectors, shop)
    return {
        f"{name}, v1 state": state,
        f"{name}, counts alone": by_count(by_taken(shop), vectors, kernel, shop),
        f"{name}, v1 by count": by_count(state, vectors, kernel, shop),
    }


def _unit(text: Scores, asked: Sequence[Any], kernel: Kernel, vectors: Vectors) -> Scores:
    lengths = [np.linalg.norm(kernel.weights(one) @ vectors[one.history[: kernel.items]]) for one in asked]
    return np.asarray(text / np.array(lengths)[:, None], np.float32)


def best(vectors: Vectors, shop: Shop) -> Kernel:
    """The way of putting a history together that is best on the questions to choose by."""
    return max(KERNELS, key=lambda one: score(by_kernel(vectors, one), shop))


def score(rule: Rule, shop: Shop) -> float:
    """The first measure, on the questions to choose by."""
    return float(values(look(rule, shop.choose, shop), shop.measures[0], 0, 1 << 60)[0].mean())


# ---------------------------------------------------------------------- learning
def learnt_from(shop: Shop, tuning: TuningSettings) -> Pairs:
    """Pairs of what may be learnt."""
    newest = max(one.ts for touches in shop.seen.touches.values() for one in touches)
    return pairs(shop.seen, shop.rows, tuning, now_ms=newest + 1)


def shuffled(seen: Histories) -> Histories:
    """The same events with their items drawn anew: nothing goes with anything."""
    names = np.array([one.item for touches in seen.touches.values() for one in touches])
    drawn = iter(np.random.default_rng(1).permutation(names).tolist())
    return Histories(
        {who: [one._replace(item=next(drawn)) for one in touches] for who, touches in seen.touches.items()}
    )


def trained(args: argparse.Namespace, tuning: TuningSettings, shop: Shop) -> tuple[Vectors, Vectors]:
    """Vectors of the frozen encoder, and of the one that training makes of it."""
    tell, clock = Lines(sys.stdout), time.process_time  # others may be at work on the machine
    learnt = learnt_from(shop, tuning)
    print(f"{len(learnt) // 2:,} pairs")
    begun = clock()
    encoder = EncoderSettings(model=args.model)
    tower = Tower(encoder, tuning, shop.texts, lambda done, total: tell("frozen part", done, total))
    print(f"prepared in {clock() - begun:.0f} s")
    before = tower.every()

    def judge(vectors: Vectors) -> float:
        found = score(by_kernel(vectors, CHOOSE_BY), shop)
        print(f"{clock() - begun:6.0f} s: {shop.measures[0]} {found:.4f}", flush=True)
        return found

    mark = digest(msgspec.json.encode(tuning, enc_hook=str), args.model, args.data, str(args.shuffled))
    file = args.out / "run.safetensors"
    run = Run(tower, learnt, judge, tuning, seed=7, seconds=clock, file=file, mark=mark, progress=tell)
    found = run.fit()
    print(
        f"{found.steps} steps in {found.seconds:.0f} s of processor time: {found.pairs / found.seconds:.0f} pairs/s "
        f"drawn; {clock() - begun:.0f} s with everything, {np.count_nonzero(learnt.strength())} items with pairs"
    )
    notes = Notes(
        base=args.model, base_sha256=weights_sha256(tower.folder), rung=tuning.rung, seed=7, max_event_ms=0,
        figures={shop.measures[0]: found.best},
    )  # fmt: skip
    print("encoder:", write(tower, args.out, notes))
    return before, found.vectors


def user_tower(vectors: Vectors, shop: Shop, plan: Plan) -> UserTower:
    """A tower on vectors as they are."""
    begun = time.process_time()
    about = "benchmark", 0

    def judge(tower: UserTower) -> float:
        found = score(by_query(tower, vectors, shop), shop)
        print(f"{time.process_time() - begun:6.0f} s: {shop.measures[0]} of the tower {found:.4f}", flush=True)
        return found

    found = learn(
        sequences(shop.seen, shop.rows), vectors, often(shop.seen, shop.rows), plan, about, judge, time.process_time
    )
    spent = time.process_time() - begun
    print(f"tower: {len(found.rounds)} rounds, {found.positions / spent:.0f} positions/s, {spent:.0f} s of processor")
    return found.tower


# ---------------------------------------------------------------------- what is said
def report(name: str, rules: dict[str, Rule], asked: Sequence[Asked], shop: Shop) -> None:
    """Print each rule's figures and its paired difference from the first one."""
    found = {rule: look(one, asked, shop) for rule, one in rules.items()}
    first = next(iter(found.values()))
    for low, high, title in GROUPS:
        for measure in shop.measures:
            _, has = values(first, measure, low, high)
            if not has.any():
                continue
            before = values(first, measure, low, high)[0][has]
            for rule, one in found.items():
                mine = values(one, measure, low, high)[0][has]
                gain = "" if one is first else f", gain {figure(mine - before, first.shoppers[has])}"
                told = figure(mine, first.shoppers[has])
                print(f"{name} {title:8} ({has.sum():5,}) {measure:10} {rule:22} {told}{gain}", flush=True)


def beside(name: str, tower: UserTower, vectors: Vectors, shop: Shop) -> None:
    """Print what two channels bring together, beside one that brings as much."""
    settings = ChannelSettings()
    text = look(by_kernel(vectors, MEAN), shop.test, shop)
    state = look(by_state(tower, vectors, shop), shop.test, shop)
    both = [np.minimum(a * settings.next, b * settings.text) for a, b in zip(text.places, state.places, strict=True)]
    union = replace(text, places=both)
    for low, high, title in GROUPS:
        alone, has = values(text, f"recall@{settings.text + settings.next}", low, high)
        if not has.any():
            continue
        together = values(union, f"recall@{settings.text * settings.next}", low, high)[0][has]
        gain = figure(together - alone[has], text.shoppers[has])
        told = f"{settings.text + settings.next} by text {figure(alone[has], text.shoppers[has])}"
        print(f"{name} {title:8} {told}, {settings.text} and {settings.next} by the tower: gain {gain}", flush=True)


def measure(args: argparse.Namespace, encoders: dict[str, Vectors], shop: Shop, plan: Plan) -> None:
    """Print what was chosen by, and the test where it is asked for."""
    rules: dict[str, Rule] = {}
    for name, vectors in encoders.items():
        kernel = best(vectors, shop)
        print(f"{name}: histories by {kernel}")
        rules |= {f"{name}, v0": by_kernel(vectors, kernel), f"{name}, mean": by_kernel(vectors, MEAN)}
        if args.tower and vectors is list(encoders.values())[-1]:
            tower = user_tower(vectors, shop, plan)
            rules |= {f"{name}, v1": by_query(tower, vectors, shop)}
            rules |= told_by_state(name, tower, vectors, kernel, shop) if plan.foresees else {}
            if plan.foresees and args.test and shop.test[0].shown is None:
                beside(name, tower, vectors, shop)
    report("choose", rules, shop.choose, shop)
    if args.test:
        report("test", rules, shop.test, shop)


def _encoded(model: str, shop: Shop, out: Path) -> Vectors:
    cache = VectorCache(out / "vectors.sqlite")
    return encode_cached(Encoder.open(EncoderSettings(model=model), TextSettings()), cache, shop.texts)


def main() -> None:
    """Train, choose, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--data", choices=SHOPS, default="games")
    parser.add_argument("--rung", default="top", help="full, top, lora or head; none trains no encoder")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="of the settings' section tuning"
    )
    parser.add_argument("--model", default=EncoderSettings().model)
    parser.add_argument("--out", type=Path, default=Path("data/encoder_quality"), help="checkpoints and the encoder")
    parser.add_argument(
        "--tower", action="store_true", help="learn a user tower on the vectors of the (trained) encoder"
    )
    parser.add_argument("--tower-rounds", type=int, default=Plan().rounds)
    parser.add_argument("--queries-alone", action="store_true", help="of the tower only what reads no ids")
    parser.add_argument("--even", type=float, default=Plan().even, help="of the tower, as in models.user_training")
    parser.add_argument("--shuffled", action="store_true", help="learn from shuffled items: there must be no gain")
    parser.add_argument("--test", action="store_true", help="look at the protocol's questions too")
    parser.add_argument("--trained", type=Path, metavar="FOLDER", help="measure this encoder instead of training one")
    args = parser.parse_args()
    given: dict[str, Any] = {
        name: msgspec.json.decode(value) for name, _, value in (one.partition("=") for one in args.set)
    }
    rung = "head" if args.rung == "none" else args.rung
    tuning = msgspec.convert({"rung": rung, "half_life_s": FOREVER_S, **given}, TuningSettings)
    shop = open_shop(args.data, args.bench)
    if args.shuffled:
        shop = Shop(shop.texts, shop.rows, shuffled(shop.seen), shop.choose, shop.test, shop.counts, shop.measures)
    print(f"{args.data}: {len(shop.texts):,} items, {len(shop.choose):,} + {len(shop.test):,} questions", flush=True)
    if args.trained is not None:
        encoders = {
            "frozen": _encoded(args.model, shop, args.out),
            "trained": _encoded(str(args.trained), shop, args.out),
        }
    elif args.rung == "none":
        encoders = {"frozen": _encoded(args.model, shop, args.out)}
    else:
        encoders = dict(zip(("frozen", "trained"), trained(args, tuning, shop), strict=True))
    measure(args, encoders, shop, Plan(rounds=args.tower_rounds, foresees=not args.queries_alone, even=args.even))


if __name__ == "__main__":
    main()
