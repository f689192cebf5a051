"""How long one query takes and how much it finds, exact and approximate.

    python benchmarks/index_speed.py --vectors 100000

The vectors are invented: clusters of clusters on the sphere, as the texts of a catalogue make
them, and queries between items, as a shopper's recent items make them. One thread.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from core.settings import IndexSettings
from index.ann import build
from index.audit import audit
from index.exact import Exact, Index
from index.vectors import Keys
from models.vectors import Vectors

PLACES = 100


def main() -> None:
    """Print one line a kind of index."""
    asked = _asked()
    chance = np.random.default_rng(asked.seed)
    centres = _centres(asked.vectors, asked.dim, chance)
    keys, vectors = np.arange(asked.vectors), _around(centres, asked.vectors, chance)
    queries = _around(centres, asked.queries, chance)
    exact = Exact("benchmark", asked.dim)
    exact.add(keys, vectors)
    print(f"{asked.vectors:,} vectors of {asked.dim}, {asked.queries} queries, one at a time, {PLACES} places")
    print(f"{'index':<8}{'ms p50':>9}{'ms p99':>9}{'recall@100':>12}{'build s':>9}  lists looked into")
    for kind in asked.kinds:
        _measure(IndexSettings(kind=kind, recall=asked.recall), keys, vectors, queries, exact)


def _measure(settings: IndexSettings, keys: Keys, vectors: Vectors, queries: Vectors, exact: Exact) -> None:
    started = time.perf_counter()
    index = build(settings, exact.space_id, keys, vectors)
    built_s = time.perf_counter() - started
    p50, p99 = np.quantile(_latencies_ms(index, queries), (0.5, 0.99))
    recall = audit(index, exact, queries, PLACES).mean
    lists = f"{index.probes} of {index.lists}" if hasattr(index, "probes") and hasattr(index, "lists") else "all"
    print(f"{settings.kind:<8}{p50:>9.3f}{p99:>9.3f}{recall:>12.4f}{built_s:>9.1f}  {lists}", flush=True)


def _latencies_ms(index: Index, queries: Vectors) -> list[float]:
    index.search(queries[:1], PLACES)
    taken = []
    for n in range(len(queries)):
        started = time.perf_counter()
        index.search(queries[n : n + 1], PLACES)
        taken.append((time.perf_counter() - started) * 1_000)
    return taken


def _centres(count: int, dim: int, chance: np.random.Generator) -> Vectors:
    """Groups of some forty items, themselves grouped by twenty."""
    departments = chance.standard_normal((max(1, count // 800), dim))
    shelves = departments[chance.integers(0, len(departments), max(1, count // 40))]
    return _unit(shelves + 0.8 * chance.standard_normal(shelves.shape))


def _around(centres: Vectors, count: int, chance: np.random.Generator) -> Vectors:
    noise = chance.standard_normal((count, centres.shape[1])) / np.sqrt(centres.shape[1])
    return _unit(centres[chance.integers(0, len(centres), count)] + 0.7 * noise)


def _unit(rows: NDArray[np.floating]) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--recall", type=float, default=IndexSettings().recall, help="wanted of ivf")
    parser.add_argument("--kinds", nargs="+", default=["exact", "flat", "ivf"], choices=["exact", "flat", "ivf"])
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
