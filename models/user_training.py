"""Learning a user tower on frozen text vectors: from each item of a history to the next new one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.errors import Broken, Missing
from models.pairs import Rows
from models.user_histories import Batches, Sequences
from models.user_net import Net
from models.user_tower import Floats, Shape, UserTower
from models.vectors import Vectors

DECAY: Final = 0.01
CLIP: Final = 1.0
WARM_UP: Final = 0.05  # share of all steps

Judge = Callable[[UserTower], float]
Progress = Callable[[str, int, int], None]


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
        foresees: whether the state is learnt too; else the query alone.
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
    even: float = 0.4
    dropout: float = 0.2
    foresees: bool = True
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
        self._batches, self.positions, self._step = Batches(found, net.plan.length, net.plan.batch), 0, 0
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
        queries = self.net.queries(self._vectors[read], torch.from_numpy(amounts[:, :-1]))
        targets = torch.from_numpy(rows[:, 1:])[wanted]
        self.positions += len(targets)
        count, most = len(self._vectors), self.net.plan.negatives
        drawn = np.arange(count) if count <= most else np.sort(chance.choice(count, most, replace=False))
        others = torch.from_numpy(drawn)
        # each of the sample stands for so many
        among = _Among(targets, others, float(np.log(count / len(drawn))))
        texts, heat = self._vectors[others], self.net.plan.temperature
        prior = self._prior[targets], self._prior[others]
        text = among.loss(queries[wanted] / heat, self._vectors[targets], texts, prior)
        if not self.net.plan.foresees:
            return text
        states = self.net.states(self._vectors[read], self._place[read])
        own, keys = (self.net.keys(self._vectors[some], self._place[some]) for some in (targets, others))
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
