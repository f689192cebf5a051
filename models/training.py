"""The training of an encoder: draw pairs, compare with the catalogue, move; look at newer events; stop in time.

A step takes the texts of some pairs through the layers that learn. Each of them is an anchor: it is
to be near all its known targets, and far from the rest of the catalogue. Vectors of the batch carry
gradients; all others are taken as they were when last computed (a memory across batches, Wang et
al. 2020), so that a step sees the whole of a small catalogue, and an even sample of a large one.

All that is drawn in a step follows from the seed and the step's number: a run that goes on from its
checkpoint comes to the same weights as one that was never interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import Broken, Missing
from core.settings import TuningSettings
from models import checkpoint
from models.comparison import Comparison, Moment
from models.pairs import Pairs, Rows
from models.tower import Tower
from models.vectors import Vectors

Judge = Callable[[Vectors], float]  # how good the vectors of the catalogue are; more is better
Progress = Callable[[str, int, int], None]
Seconds = Callable[[], float]  # a clock that goes on evenly

GROUP: Final = 16  # texts of like length that go through the layers together: few, for little padding
SHORTEST: Final = 25  # steps of a round of a small catalogue
EVEN: Final = 0.5  # anchors are drawn by this power of how often they are met: what is rare is learnt too
WARM_UP: Final = 0.05  # of all steps, in which the rate rises; it falls to LAST afterwards
LAST: Final = 0.1
CLIP: Final = 1.0
FRESH: Final = 20.0  # how much faster weights learn that begin as nothing
BETAS: Final = (0.9, 0.98)


@dataclass(slots=True)
class _State:
    step: int = 0
    best: float = -np.inf
    since: int = 0  # rounds without a gain
    lost: float = 0.0  # sum of the losses of this round
    spent_s: float = 0.0
    rounds: list[tuple[float, float, float]] = field(default_factory=list)  # loss, score, seconds


@dataclass(frozen=True, slots=True)
class Fitted:
    """The end of a run: the tower holds the best weights. `rounds` are (loss, score, seconds since the beginning)."""

    before: float
    best: float
    rounds: tuple[tuple[float, float, float], ...]
    steps: int
    pairs: int  # that were drawn
    seconds: float
    vectors: Vectors


class Run:
    """One training.

    Args:
        tower: what learns.
        pairs: of its texts.
        judge: called with the vectors of all texts before the first and after each round.
        tuning: how.
        seed: of all that is drawn.
        file: the checkpoint, or None to keep none.
        mark: what the run is about; a checkpoint of another mark is not gone on from.
        seconds: a clock.
        progress: told of steps.
        base: whether weight decay pulls towards the weights as they are now, instead of 0 (L2-SP, Li et al. 2018).

    Raises:
        Missing: there are no pairs to learn from.
    """

    def __init__(
        self,
        tower: Tower,
        pairs: Pairs,
        judge: Judge,
        tuning: TuningSettings,
        *,
        seed: int,
        seconds: Seconds,
        file: Path | None = None,
        mark: str = "",
        progress: Progress | None = None,
        base: bool = False,
    ) -> None:
        if not len(pairs):
            raise Missing("there are no pairs of items to train an encoder on")
        self._tower, self._pairs, self._judge, self._tuning, self._seed = tower, pairs, judge, tuning, seed
        self._file, self._mark, self._seconds, self._progress = file, mark, seconds, progress
        self._learning = tower.learning()
        self._goal = {name: one.detach().clone() for name, one in self._learning.items()} if base else {}
        fresh = FRESH if tower.rung in ("lora", "head") else 1.0
        self._rate = min(1.0, tuning.learning_rate * fresh)
        self._optimizer = torch.optim.AdamW(self._learning.values(), self._rate, BETAS, weight_decay=0.0)
        strength = pairs.strength()
        share = np.divide(strength**EVEN, strength, out=np.zeros_like(strength), where=strength > 0)
        self._drawn = np.cumsum(share[pairs.anchors()] * pairs.weights)
        known = int(np.count_nonzero(strength))
        self._steps = max(SHORTEST, -(-known // tuning.pairs))  # of a round
        self._comparison = Comparison(len(tower), pairs, tuning)
        self._bank = torch.empty(0)
        self._state = _State()
        self._best: dict[str, Tensor] = {}
        self._saved_s = 0.0

    # ------------------------------------------------------------------ the loop
    def fit(self) -> Fitted:
        """Train until no round helps any more, all rounds are done or the time is up."""
        begun = self._seconds()
        before = self._open()
        state, begun = self._state, begun - self._state.spent_s
        while self._goes_on():
            state.lost += self.step()
            state.spent_s = self._seconds() - begun
            if state.step % self._steps == 0 or not self._in_time():
                self._end_round()
                self._save(before)
            elif state.spent_s - self._saved_s >= self._tuning.save_s:
                self._save(before)
        self._restore(self._best)
        drawn = state.step * self._tuning.pairs
        seconds = self._seconds() - begun
        return Fitted(before, state.best, tuple(state.rounds), state.step, drawn, seconds, self._tower.every())

    def _goes_on(self) -> bool:
        state, tuning = self._state, self._tuning
        return state.step < self._steps * tuning.rounds and state.since < tuning.patience and self._in_time()

    def _in_time(self) -> bool:
        return self._state.spent_s < self._tuning.limit_s

    def _open(self) -> float:
        """Go on from the checkpoint, or begin; how good the vectors were before."""
        found = checkpoint.load(self._file, self._mark) if self._file is not None else None
        if found is not None:
            return self._resume(*found)
        vectors = self._tower.every()
        self._set_bank(vectors)
        before = self._judge(vectors)
        self._state.best = before  # what helps nobody is not kept
        self._best = self._weights()
        return before

    def _end_round(self) -> None:
        state = self._state
        vectors = self._tower.every()
        self._set_bank(vectors)
        score = self._judge(vectors)
        done = (state.step - 1) % self._steps + 1
        state.rounds.append((state.lost / done, score, state.spent_s))
        state.lost = 0.0
        if score > state.best:
            state.best, state.since, self._best = score, 0, self._weights()
        else:
            state.since += 1

    # ------------------------------------------------------------------ one step
    def step(self) -> float:
        """Learn from one batch; the loss."""
        state = self._state
        at = Moment(state.step, state.step / self._steps, np.random.default_rng((self._seed, state.step)))
        rows = self._draw(at.chance)
        self._comparison.frequency.observe(state.step, rows)
        self._optimizer.zero_grad(set_to_none=True)
        groups = [rows[start : start + GROUP] for start in range(0, len(rows), GROUP)]
        if len(rows) <= self._tuning.gradients:
            vectors = torch.cat([self._vectors_of(group, n) for n, group in enumerate(groups)])
            loss = self._comparison.loss(vectors, rows, self._bank, at)
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            vectors, loss = self._in_parts(groups, rows, at)
        if not torch.isfinite(loss):
            raise Broken(f"the loss of step {state.step} is no number: lower tuning.learning_rate")
        self._move()
        self._bank[torch.from_numpy(rows).to(self._bank.device)] = vectors.detach().to(self._bank.dtype)
        state.step += 1
        if self._progress is not None:
            self._progress("training the encoder", state.step, self._steps * self._tuning.rounds)
        return float(loss.detach())

    def _draw(self, chance: np.random.Generator) -> Rows:
        """The items of some pairs, each once, by the length of their texts."""
        at = np.searchsorted(self._drawn, chance.random(self._tuning.pairs) * self._drawn[-1], side="right")
        at = np.minimum(at, len(self._pairs) - 1)
        anchors = np.searchsorted(self._pairs.starts, at, side="right") - 1
        rows = np.unique(np.concatenate([anchors, self._pairs.targets[at]]))
        return rows[np.argsort(self._tower.lengths(rows), kind="stable")]

    def _vectors_of(self, rows: Rows, group: int) -> Tensor:
        seed = int(np.random.SeedSequence((self._seed, self._state.step, group)).generate_state(1)[0])
        return self._tower.vectors(rows, drop_seed=seed)

    def _in_parts(self, groups: list[Rows], rows: Rows, at: Moment) -> tuple[Tensor, Tensor]:
        """The same gradients with those of one group of texts in memory at a time (Gao et al. 2021, GradCache)."""
        with torch.no_grad():
            vectors = torch.cat([self._vectors_of(group, n) for n, group in enumerate(groups)])
        vectors.requires_grad_()
        loss = self._comparison.loss(vectors, rows, self._bank, at)
        loss.backward()  # type: ignore[no-untyped-call]
        assert vectors.grad is not None
        for n, (group, slope) in enumerate(zip(groups, torch.split(vectors.grad, GROUP), strict=True)):
            self._vectors_of(group, n).backward(slope)  # type: ignore[no-untyped-call]
        return vectors, loss

    def _move(self) -> None:
        """One step of the optimiser, at the rate of its place in the run; matrices decay, or all goes to the base."""
        nn.utils.clip_grad_norm_(self._learning.values(), CLIP)
        whole = self._steps * self._tuning.rounds
        done = self._state.step / whole
        rising = (self._state.step + 1) / max(1.0, WARM_UP * whole)
        rate = self._rate * min(1.0, rising, max(LAST, (1 - done) / (1 - WARM_UP)))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        with torch.no_grad():
            for name, one in self._learning.items():
                goal = self._goal.get(name)
                if one.ndim > 1 or goal is not None:
                    one.lerp_(torch.zeros_like(one) if goal is None else goal, rate * self._tuning.weight_decay)

    # ------------------------------------------------------------------ what is kept
    def _weights(self) -> dict[str, Tensor]:
        return {name: one.detach().clone() for name, one in self._learning.items()}

    def _restore(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, one in self._learning.items():
                one.copy_(weights[name])

    def _set_bank(self, vectors: Vectors) -> None:
        self._bank = torch.from_numpy(vectors).to(self._tower.device, torch.float16)

    def _save(self, before: float) -> None:
        self._saved_s = self._state.spent_s
        if self._file is None:
            return
        tensors: dict[str, Tensor] = {f"now.{name}": one.data for name, one in self._learning.items()}
        tensors |= {f"best.{name}": one for name, one in self._best.items()}
        for name, one in self._learning.items():
            moments = self._optimizer.state[one]
            tensors |= {f"first.{name}": moments["exp_avg"], f"second.{name}": moments["exp_avg_sq"]}
        tensors |= {"bank": self._bank, "gap": torch.from_numpy(self._comparison.frequency.gap)}
        tensors |= {f"goal.{name}": one for name, one in self._goal.items()}
        tensors["last"] = torch.from_numpy(self._comparison.frequency.last)
        state = {name: getattr(self._state, name) for name in _State.__dataclass_fields__}
        checkpoint.save(self._file, tensors, {"mark": self._mark, "before": before, "state": state})

    def _resume(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> float:
        self._state = _State(**facts["state"])
        self._state.rounds = [(loss, score, seconds) for loss, score, seconds in self._state.rounds]
        self._saved_s = self._state.spent_s
        self._restore({name: tensors[f"now.{name}"] for name in self._learning})
        self._best = {name: tensors[f"best.{name}"].to(self._tower.device) for name in self._learning}
        self._goal = {name: tensors[f"goal.{name}"].to(self._tower.device) for name in self._goal}
        for name, one in self._learning.items():
            self._optimizer.state[one] = {
                "step": torch.tensor(float(self._state.step)),
                "exp_avg": tensors[f"first.{name}"].to(self._tower.device),
                "exp_avg_sq": tensors[f"second.{name}"].to(self._tower.device),
            }
        self._bank = tensors["bank"].to(self._tower.device)
        self._comparison.frequency.gap, self._comparison.frequency.last = (
            tensors["gap"].numpy(),
            tensors["last"].numpy(),
        )
        return float(facts["before"])
