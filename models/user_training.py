"""Learning a user tower on frozen text vectors: from each item of a history to the next new one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from core.errors import Broken, Missing
from models.pairs import Rows
from models.user_tower import Floats, Shape, UserTower
from models.vectors import Vectors

FADE: Final = 0.85  # of an item's weight in the mean beside the next newer one, to begin with
SORTED: Final = 20  # batches whose pieces are sorted by length at a time
FORGOTTEN: Final = 0.2  # chance that the residual of an item read is left out: half of what is read is new some day
DECAY: Final = 0.01
CLIP: Final = 1.0
WARM_UP: Final = 0.05  # share of all steps

Judge = Callable[[UserTower], float]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Sequences:
    """Histories one behind the other, oldest first: `rows[starts[i]:starts[i + 1]]` with their amounts."""

    starts: Rows
    rows: Rows
    amounts: Floats

    def __len__(self) -> int:
        return len(self.starts) - 1


@dataclass(frozen=True, slots=True)
class Plan:
    """How to learn.

    Attributes:
        batch: pieces of histories of a step.
        negatives: items of a step that targets are compared with, drawn evenly; all where there are no more.
        even: how far the popularity of items is taken out of the query in the text space, 0 to 1: as far as it is
            explained by a prior while learning, the query need not turn to what is popular (Menon et al.,
            "Long-tail learning via logit adjustment", ICLR 2021). The state keeps it all.
        temperature: of cosines.
        limit_s: of the whole.
    """

    width: int = 128
    heads: int = 2
    layers: int = 2
    length: int = 20
    batch: int = 128
    rounds: int = 8
    patience: int = 2
    negatives: int = 2_000
    temperature: float = 0.07
    even: float = 0.5
    dropout: float = 0.2
    rate: float = 1e-3
    limit_s: float = 1_200.0
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Learnt:
    """The best tower of the rounds, and what each came to: loss, judgement, seconds since the start."""

    tower: UserTower
    rounds: tuple[tuple[float, float, float], ...]
    positions: int  # that were learnt from
    seconds: float


class _Block(nn.Module):
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        width = plan.width
        self.before, self.then = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.ago = nn.Parameter(torch.zeros(plan.heads, plan.length))
        self.drop = nn.Dropout(plan.dropout)

    def forward(self, x: Tensor, ago: Tensor) -> Tensor:
        """(histories, length, width), oldest first; `ago` how much older each column is than each row."""
        batch, length, width = x.shape
        heads = len(self.ago)
        parts = self.mix(self.before(x)).view(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
        scores = parts[0] @ parts[1].transpose(-1, -2) / (width // heads) ** 0.5 + self.ago[:, ago.clamp(min=0)]
        share = scores.masked_fill(ago < 0, -torch.inf).softmax(-1)
        seen = (self.drop(share) @ parts[2]).transpose(1, 2).reshape(batch, length, width)
        x = x + self.drop(self.join(seen))
        return x + self.drop(self.down(self.drop(relu(self.up(self.then(x))))))  # type: ignore[no-any-return]


class Net(nn.Module):
    """The tower as it learns; names of its parameters are those of `UserTower.weights`."""

    def __init__(self, dim: int, known: int, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.text = nn.Linear(dim, plan.width)
        self.ids = nn.Parameter(torch.zeros(known + 1, plan.width))
        self.blocks = nn.ModuleList([_Block(plan) for _ in range(plan.layers)])
        self.last = nn.LayerNorm(plan.width)
        self.out = nn.Linear(plan.width, dim, bias=False)
        self.fade = nn.Parameter(torch.arange(plan.length) * float(np.log(FADE)))
        self.drop = nn.Dropout(plan.dropout)
        nn.init.zeros_(self.out.weight)  # begins as the mean

    def forward(self, vectors: Tensor, places: Tensor, amounts: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (histories, length, dim) and states (histories, length, width) after each item; oldest first.

        Args:
            vectors: (histories, length, dim).
            places: (histories, length) rows of `ids`.
            amounts: (histories, length), 0 where a history is over.
        """
        at = torch.arange(vectors.shape[1], device=vectors.device)
        ago = at[:, None] - at
        x = self.drop(self.text(vectors) + self._residual(places))
        for block in self.blocks:
            x = block(x, ago)
        state = self.last(x)
        weight = torch.where(ago >= 0, self.fade.exp()[ago.clamp(min=0)], 0.0)
        mean = normalize((weight * amounts[:, None, :]) @ vectors, dim=-1)
        return normalize(mean + self.out(state), dim=-1), normalize(state, dim=-1)

    def keys(self, vectors: Tensor, places: Tensor) -> Tensor:
        """(items, width) of items, of unit length."""
        return normalize(self.text(vectors) + self._residual(places), dim=-1)

    def _residual(self, places: Tensor) -> Tensor:
        if self.training:
            places = torch.where(torch.rand(places.shape, device=places.device) < FORGOTTEN, 0, places)
        return self.ids[places] * (places > 0)[..., None]

    @torch.no_grad()
    def tower(self, shape: Shape, items: tuple[str, ...], texts: Tensor) -> UserTower:
        """The weights as they are now, and the keys of the known items, whose text vectors are `texts`."""
        weights = {name: one.detach().cpu().numpy().copy() for name, one in self.named_parameters()}
        weights["ids"][0] = 0.0
        self.eval()
        weights["known"] = self.keys(texts, torch.arange(1, len(items) + 1)).cpu().numpy()
        return UserTower(shape, items, weights)


class _Batches:
    """Pieces of histories that fit the tower, cut anew each round."""

    def __init__(self, found: Sequences, plan: Plan) -> None:
        self._found, self._length, self._size = found, plan.length, plan.batch
        self._new = _first_time(found)

    def of(self, chance: np.random.Generator) -> Iterator[tuple[Rows, Floats, NDArray[np.bool_]]]:
        """Rows (histories, length + 1) with -1 where one is over, amounts, and which are new: all of one batch."""
        pieces = self._pieces(chance)
        order = chance.permutation(len(pieces))
        lengths = (pieces[:, 1] - pieces[:, 0])[order]
        batches = []
        for start in range(0, len(order), SORTED * self._size):  # of like length, so that little is filled up
            block = order[start : start + SORTED * self._size][
                np.argsort(lengths[start : start + SORTED * self._size], kind="stable")
            ]
            batches += [block[at : at + self._size] for at in range(0, len(block), self._size)]
        for number in chance.permutation(len(batches)).tolist():
            yield self._padded(pieces[batches[number]])

    def _pieces(self, chance: np.random.Generator) -> Rows:
        """Start and end of each: the first piece of a long history is cut at random."""
        starts, ends = self._found.starts[:-1], self._found.starts[1:]
        pieces = []
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            first = start
            if end - start > self._length + 1:
                first = start - int(chance.integers(0, self._length))
            for at in range(first, end - 1, self._length):  # the last item of a piece begins the next one
                low, high = max(at, start), min(at + self._length + 1, end)
                if high - low > 1:
                    pieces.append((low, high))
        return np.array(pieces, np.int64).reshape(-1, 2)

    def _padded(self, pieces: Rows) -> tuple[Rows, Floats, NDArray[np.bool_]]:
        lengths = pieces[:, 1] - pieces[:, 0]
        at = pieces[:, :1] + np.arange(int(lengths.max()))
        there = at < pieces[:, 1:]
        at = np.where(there, at, 0)
        rows = np.where(there, self._found.rows[at], -1)
        return rows, np.where(there, self._found.amounts[at], 0).astype(np.float32), there & self._new[at]


def _first_time(found: Sequences) -> NDArray[np.bool_]:
    """Whether a history holds the item for the first time: only these are to be foreseen."""
    whose = np.repeat(np.arange(len(found)), np.diff(found.starts))
    _, first = np.unique(np.stack([whose, found.rows], 1), axis=0, return_index=True)
    new = np.zeros(len(found.rows), np.bool_)
    new[first] = True
    return new


def learn(
    found: Sequences,
    vectors: Vectors,
    known: tuple[tuple[str, ...], Rows],
    plan: Plan,
    about: tuple[str, int],
    judge: Judge,
    seconds: Callable[[], float],
    progress: Progress | None = None,
) -> Learnt:
    """Train until no round is judged better than the best so far, all are done, or the time is up.

    Args:
        found: what is learnt from.
        vectors: (items, dim) of all items, by row; they stay as they are.
        known: names of the items that get a residual, and their rows.
        plan: how.
        about: the id of the space, and the newest event (ms).
        judge: how good a tower is, more is better, on what came later.
        seconds: a clock.
        progress: told (what, done, total).

    Raises:
        Missing: no history has two items.
        Broken: the loss is no number any more.
    """
    if not (np.diff(found.starts) > 1).any():
        raise Missing("no shopper had to do with two items: there is nothing to learn a user vector from")
    torch.manual_seed(plan.seed)
    names, rows = known
    place = torch.zeros(len(vectors), dtype=torch.int64)
    place[torch.from_numpy(rows)] = torch.arange(1, len(rows) + 1)
    learner = _Learner(Net(vectors.shape[1], len(rows), plan), torch.from_numpy(vectors), place, found)
    texts = torch.from_numpy(vectors[rows])
    shape = Shape(about[0], plan.layers, plan.heads, plan.length, about[1])
    begun, best, since = seconds(), (learner.net.tower(shape, names, texts), -np.inf), 0
    told: list[tuple[float, float, float]] = []
    for number in range(plan.rounds):
        chance = np.random.default_rng((plan.seed, number))
        total, count = 0.0, 0
        for loss in learner.round(chance):
            total, count = total + loss, count + 1
            if progress is not None:
                progress("training the user vector", number * learner.steps + count, plan.rounds * learner.steps)
            if seconds() - begun > plan.limit_s:
                break
        tower = learner.net.tower(shape, names, texts)
        score = judge(tower)
        told.append((total / max(1, count), score, seconds() - begun))
        best, since = ((tower, score), 0) if score > best[1] else (best, since + 1)
        if since >= plan.patience or seconds() - begun > plan.limit_s:
            break
    return Learnt(best[0], tuple(told), learner.positions, seconds() - begun)


class _Learner:
    """Steps over one catalogue."""

    def __init__(self, net: Net, vectors: Tensor, place: Tensor, found: Sequences) -> None:
        self.net, self._vectors, self._place = net, vectors, place
        self._batches, self.positions, self._step = _Batches(found, net.plan), 0, 0
        often = np.log1p(np.bincount(found.rows, minlength=len(vectors))).astype(np.float32)
        self._prior = torch.from_numpy(net.plan.even * often)
        self.steps = sum(1 for _ in self._batches.of(np.random.default_rng(0)))
        heavy = [one for one in net.parameters() if one.ndim > 1]
        light = [one for one in net.parameters() if one.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": heavy, "weight_decay": DECAY}, {"params": light, "weight_decay": 0.0},
        ]  # fmt: skip
        self._optimizer = torch.optim.AdamW(groups, net.plan.rate, (0.9, 0.98))

    def round(self, chance: np.random.Generator) -> Iterator[float]:
        """The losses of all batches."""
        self.net.train()
        for rows, amounts, new in self._batches.of(chance):
            self._rate()
            loss = self._loss(rows, amounts, new, chance)
            if loss is None:
                continue
            if not torch.isfinite(loss):
                raise Broken(f"the loss of the user vector is no number after {self._step} steps")
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.net.parameters(), CLIP)
            self._optimizer.step()
            yield float(loss.detach())
        self.net.eval()

    def _rate(self) -> None:
        whole = self.steps * self.net.plan.rounds
        done = self._step / whole
        factor = min(1.0, (self._step + 1) / max(1.0, WARM_UP * whole), max(0.1, 1.0 - done))
        for group in self._optimizer.param_groups:
            group["lr"] = self.net.plan.rate * factor
        self._step += 1

    def _loss(self, rows: Rows, amounts: Floats, new: NDArray[np.bool_], chance: np.random.Generator) -> Tensor | None:
        """Cross entropy of both answers over an even sample of all items; None where nothing is new."""
        wanted = torch.from_numpy(new[:, 1:])
        if not bool(wanted.any()):
            return None
        read = torch.from_numpy(np.maximum(rows[:, :-1], 0))
        queries, states = self.net(self._vectors[read], self._place[read], torch.from_numpy(amounts[:, :-1]))
        targets = torch.from_numpy(rows[:, 1:])[wanted]
        self.positions += len(targets)
        count, most = len(self._vectors), self.net.plan.negatives
        drawn = np.arange(count) if count <= most else np.sort(chance.choice(count, most, replace=False))
        others = torch.from_numpy(drawn)
        texts, heat = self._vectors[others], self.net.plan.temperature
        keys = self.net.keys(texts, self._place[others])
        own = self.net.keys(self._vectors[targets], self._place[targets])
        # each of the sample stands for so many
        among = _Among(targets, others, float(np.log(count / len(drawn))))
        prior = self._prior[targets], self._prior[others]
        text = among.loss(queries[wanted] / heat, self._vectors[targets], texts, prior)
        return text + among.loss(states[wanted] / heat, own, keys)


class _Among:
    """Targets and a sorted sample of items that they are compared with, `stands` the log of how many each is for."""

    def __init__(self, targets: Tensor, sample: Tensor, stands: float) -> None:
        at = torch.searchsorted(sample, targets).clamp(max=len(sample) - 1)
        self._hit = torch.nonzero(sample[at] == targets).squeeze(1)
        self._column, self._stands = at[self._hit], stands

    def loss(self, asked: Tensor, own: Tensor, others: Tensor, prior: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Mean cross entropy of each target among itself and the sample, in which it does not count again."""
        mine, scores = (asked * own).sum(1), asked @ others.T
        if prior is not None:
            mine, scores = mine + prior[0], scores + prior[1]
        scores = scores.index_put((self._hit, self._column), torch.tensor(-torch.inf))
        return (torch.logaddexp(mine, scores.logsumexp(1) + self._stands) - mine).mean()
