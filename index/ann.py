"""FAISS behind the protocol of `index.exact` (Douze et al. 2024, The Faiss library).

`Flat` compares with everything, and so does `index.gpu` where the settings ask for a GPU; `Ivf` with the
vectors of the lists nearest to the query (Jegou et al. 2011), kept as float16. All take additions and removals
as they serve.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, sqrt
from pathlib import Path
from typing import Any, Final

import faiss as typed_faiss
import numpy as np
from numpy.typing import NDArray

from core.errors import Broken, Corrupt
from core.settings import IndexSettings
from index.answer import answer
from index.exact import Exact, Index
from index.gpu import GpuFlat
from index.stored import Header, check_stored, read_header, write_header
from index.tune import noisy_sample, tune
from index.vectors import NO_KEY, Keys, check_same_space, keyed, unit
from models.vectors import Vectors

faiss: Final[Any] = typed_faiss  # its published types lack what its Python wrappers add

_FILE: Final = "index.faiss"
_ALL_THREADS: Final[int] = faiss.omp_get_max_threads()
_SEED: Final = 7
_ROUNDS: Final = 8  # of k-means, and points a list: more of either train longer and find no more
_POINTS: Final = 40
_OUTGROWN: Final = 4  # times the vectors it was trained on
_LEAST_IN_A_LIST: Final = 8
_MANY: Final = 20_000  # vectors that are worth waking all threads for; waiting for each other costs them more below


def build(
    settings: IndexSettings, space_id: str, keys: Keys, vectors: Vectors, queries: Vectors | None = None
) -> Index:
    """The index that the settings ask for, filled.

    Args:
        settings: kind, and for ivf the recall to reach. Of no vectors no ivf can be made: they get a flat one.
        space_id: of the vectors.
        keys: item row numbers, (n,).
        vectors: (n, dim), unit length.
        queries: what will be asked, best real user vectors, to set how many lists ivf looks
            at; None takes items with noise.

    Raises:
        Broken: keys or vectors that no index takes, see `Index.add`.
    """
    dim = vectors.shape[1]
    kind = settings.kind
    on_gpu = settings.device == "cuda" and kind in ("auto", "flat") and gpus() > 0
    if kind == "auto":
        kind = "flat" if len(keys) <= settings.flat_until else "ivf"
    index: Index
    if kind == "exact":
        index = Exact(space_id, dim)
    elif on_gpu:
        index = GpuFlat(space_id, dim, faiss, _save_flat(space_id, dim))
    elif kind == "flat" or not len(keys):
        index = Flat(space_id, dim, settings.threads)
    else:
        return _tuned(settings, space_id, keys, vectors, queries)
    index.add(keys, vectors)
    return index


def gpus() -> int:
    """How many GPUs FAISS can use: 0 of a faiss-cpu, and of a faiss-gpu without one."""
    return int(getattr(faiss, "get_num_gpus", int)())


def load(folder: Path, threads: int = 1) -> Index:
    """Read what `save` wrote, whichever kind it is.

    Args:
        folder: as given to `save`.
        threads: of one search.

    Raises:
        Missing: there is no index.
        Corrupt: it cannot be read, or is not what its header says.
    """
    header = read_header(folder)
    if header.kind == "exact":
        return Exact.load(folder)
    try:
        engine = faiss.read_index(str(folder / _FILE))
    except RuntimeError as error:
        raise Corrupt(f"{folder / _FILE} cannot be read: {error}") from None
    check_stored(header, (engine.ntotal, engine.d))
    if header.kind == "flat":
        return Flat(header.space_id, header.dim, threads, engine)
    return Ivf(header.space_id, engine, header.trained_on, threads)


class Flat:
    """Every vector as it is. Removing costs a pass over all: up to some ten thousand vectors that is nothing."""

    kind: Final = "flat"
    needs_rebuild: Final = False

    def __init__(self, space_id: str, dim: int, threads: int = 1, engine: Any = None) -> None:
        self.space_id = space_id
        self.dim = dim
        self._threads = threads
        self._engine = engine or faiss.IndexIDMap2(faiss.IndexFlatIP(dim))
        _tell_small_batches(dim)

    def __len__(self) -> int:
        return int(self._engine.ntotal)

    def keys(self) -> Keys:
        return np.sort(faiss.vector_to_array(self._engine.id_map))

    def add(self, keys: Keys, vectors: Vectors) -> None:
        new_keys, new_vectors = keyed(keys, vectors, self.dim)
        self.remove(new_keys)
        self._engine.add_with_ids(new_vectors, new_keys)

    def remove(self, keys: Keys) -> None:
        if len(self) and len(keys):
            self._engine.remove_ids(np.asarray(keys, np.int64))

    def search(self, queries: Vectors, k: int, *, allowed: Keys | None = None) -> tuple[Keys, Vectors]:
        return answer(self._nearest, unit(queries, self.dim), k, len(self), allowed)

    def check_space(self, space_id: str) -> None:
        check_same_space(self.space_id, space_id)

    def save(self, folder: Path) -> None:
        write_header(folder, Header(kind=self.kind, space_id=self.space_id, dim=self.dim, count=len(self)))
        faiss.write_index(self._engine, str(folder / _FILE))

    def _nearest(self, queries: Vectors, k: int, allowed: Keys | None) -> tuple[Keys, Vectors]:
        """Scores are computed anew, in an order of summing that does not depend on the batch."""
        faiss.omp_set_num_threads(self._threads)
        params = None if allowed is None else faiss.SearchParameters(sel=_selector(allowed))
        _, keys, stored = self._engine.search_and_reconstruct(queries, k, params=params)
        return keys, np.einsum("qd,qkd->qk", queries, stored)


class Ivf:
    """Vectors in lists around centres; a query looks into the `probes` nearest lists.

    Every score is computed from one float16 vector alone, so equal vectors have equal scores.
    """

    kind: Final = "ivf"

    def __init__(self, space_id: str, engine: Any, trained_on: int, threads: int = 1) -> None:
        self.space_id = space_id
        self.dim = int(engine.d)
        self.trained_on = trained_on
        self._threads = threads
        self._engine = engine
        _tell_small_batches(self.dim)

    @classmethod
    def train(cls, space_id: str, vectors: Vectors, threads: int = 1) -> Ivf:
        """Lay out empty lists for vectors like these; the same vectors give the same lists.

        Raises:
            Broken: there are no vectors, or they are not of unit length.
        """
        count, dim = vectors.shape
        if not count:
            raise Broken("an ivf index is trained on vectors, got none")
        engine = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dim), dim, _lists(count), faiss.ScalarQuantizer.QT_fp16,
            faiss.METRIC_INNER_PRODUCT, False,
        )  # fmt: skip
        means = engine.cp
        means.seed, means.niter, means.spherical = _SEED, _ROUNDS, True
        means.min_points_per_centroid, means.max_points_per_centroid = 1, _POINTS
        _use_threads(count, threads)
        engine.train(unit(vectors, dim))
        engine.set_direct_map_type(faiss.DirectMap.Hashtable)  # finds a key without looking through all lists
        return cls(space_id, engine, count, threads)

    @property
    def lists(self) -> int:
        return int(self._engine.nlist)

    @property
    def probes(self) -> int:
        """Lists that a query looks into."""
        return int(self._engine.nprobe)

    @probes.setter
    def probes(self, lists: int) -> None:
        self._engine.nprobe = lists

    @property
    def needs_rebuild(self) -> bool:
        return len(self) >= _OUTGROWN * self.trained_on

    def __len__(self) -> int:
        return int(self._engine.ntotal)

    def keys(self) -> Keys:
        lists = self._engine.invlists
        stored = (faiss.rev_swig_ptr(lists.get_ids(n), lists.list_size(n)) for n in range(self.lists))
        return np.sort(np.concatenate([np.array(keys, np.int64) for keys in stored]))

    def add(self, keys: Keys, vectors: Vectors) -> None:
        new_keys, new_vectors = keyed(keys, vectors, self.dim)
        self.remove(new_keys)
        _use_threads(len(new_keys), self._threads)
        self._engine.add_with_ids(new_vectors, new_keys)

    def remove(self, keys: Keys) -> None:
        if len(self) and len(keys):
            self._engine.remove_ids(np.asarray(keys, np.int64))

    def search(self, queries: Vectors, k: int, *, allowed: Keys | None = None) -> tuple[Keys, Vectors]:
        return answer(self._nearest, unit(queries, self.dim), k, len(self), allowed)

    def check_space(self, space_id: str) -> None:
        check_same_space(self.space_id, space_id)

    def save(self, folder: Path) -> None:
        header = Header(
            kind=self.kind, space_id=self.space_id, dim=self.dim, count=len(self), trained_on=self.trained_on
        )
        write_header(folder, header)
        faiss.write_index(self._engine, str(folder / _FILE))

    def probe(self, queries: Vectors, k: int, probes: int, selector: Any = None) -> tuple[Keys, Vectors]:
        """What the nearest `probes` lists hold, however little."""
        faiss.omp_set_num_threads(self._threads)
        params = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
        scores, keys = self._engine.search(queries, k, params=params)
        return keys, scores

    def _nearest(self, queries: Vectors, k: int, allowed: Keys | None) -> tuple[Keys, Vectors]:
        """Fewer allowed keys are looked for in more lists; a query with places left over looks into all.

        More than in proportion, as the best of a few lie further from the query than the best of all.
        """
        wider = 1.0 if allowed is None else len(self) / len(allowed)
        probes = min(self.lists, ceil(self.probes * wider**1.5))
        selector = None if allowed is None else _selector(allowed)
        keys, scores = self.probe(queries, k, probes, selector)
        short = np.flatnonzero(keys.min(axis=1) == NO_KEY)
        if short.size and probes < self.lists:
            keys[short], scores[short] = self.probe(queries[short], k, self.lists, selector)
        return keys, scores


def _tuned(settings: IndexSettings, space_id: str, keys: Keys, vectors: Vectors, queries: Vectors | None) -> Ivf:
    ivf = Ivf.train(space_id, vectors, settings.threads)
    ivf.add(keys, vectors)
    exact = Exact(space_id, ivf.dim)
    exact.add(keys, vectors)
    tune(ivf, exact, noisy_sample(vectors) if queries is None else unit(queries, ivf.dim), settings.recall)
    return ivf


def _save_flat(space_id: str, dim: int) -> Callable[[Path, Keys, Vectors], None]:
    """What an index on a GPU is written by: as one that needs none."""

    def save(folder: Path, keys: Keys, vectors: Vectors) -> None:
        flat = Flat(space_id, dim)
        flat.add(keys, unit(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dim))
        flat.save(folder)

    return save


def _lists(count: int) -> int:
    return max(1, min(round(4 * sqrt(count)), count // _LEAST_IN_A_LIST))


def _tell_small_batches(dim: int) -> None:
    """Let FAISS take matrix products from eight queries on, where they start to pay; it is a global of the library."""
    faiss.cvar.distance_compute_blas_threshold = 8 * dim


def _use_threads(vectors: int, few: int) -> None:
    faiss.omp_set_num_threads(_ALL_THREADS if vectors > _MANY else few)


def _selector(allowed: Keys) -> Any:
    """Keys are row numbers, so a bit a row is the quickest set."""
    mask: NDArray[np.bool_] = np.zeros(int(allowed[-1]) + 1, np.bool_)
    mask[allowed] = True
    return faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
