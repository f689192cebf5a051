"""What a batch is compared with: its own items, the catalogue as it last was, what is near, what was not wanted."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from core.settings import TuningSettings
from models.frequency import Frequency
from models.loss import contrast, hard_scores
from models.pairs import Pairs, Rows

HARD_RANKS: Final = (20, 200)  # nearer ones may well be targets
MARGIN: Final = 0.95
UNWANTED: Final = 4  # of a row in a step
FETCHED: Final = 8  # targets of a row that are looked up where the sample lacks them


class Moment(NamedTuple):
    """Where a training is: steps and rounds done, and the chance of this step."""

    step: int
    rounds: float
    chance: np.random.Generator


class Comparison:
    """The loss of batches of one catalogue."""

    def __init__(self, items: int, pairs: Pairs, tuning: TuningSettings) -> None:
        self._items, self._pairs, self._tuning = items, pairs, tuning
        self.frequency = Frequency(items)

    def loss(self, vectors: Tensor, rows: Rows, bank: Tensor, at: Moment) -> Tensor:
        """Of a batch: its columns are its own items, then others of the catalogue as they last were.

        Args:
            vectors: (rows, dim) of the batch, with gradients.
            rows: the items, each once.
            bank: (items, dim) vectors of the catalogue.
            at: where in the training.
        """
        others, pool = self._others(rows, at.chance)
        others_now = bank[torch.from_numpy(others).to(bank.device)].float()
        cosines = torch.cat([vectors @ vectors.T, vectors @ others_now.T], dim=1)
        targets = self._targets(rows, np.concatenate([rows, others])).to(cosines.device)
        excluded = torch.zeros_like(targets, dtype=torch.bool)
        excluded[:, : len(rows)].fill_diagonal_(True)
        excluded[:, len(rows) + pool :] = True  # targets that were fetched: no fair sample
        further = [self._hard(cosines, targets, excluded, at), self._unwanted(vectors, rows, bank)]
        found = [scores for scores in further if scores is not None]
        return contrast(
            cosines / self._tuning.temperature,
            targets,
            self._log_q(rows, len(others), at.step).to(cosines.device),
            excluded=excluded,
            hard=torch.cat(found, dim=1) if found else None,
        )

    def _targets(self, rows: Rows, columns: Rows) -> Tensor:
        """(rows, columns) how much each column is wanted of what is wanted of the row's columns."""
        place, target, weight = self._pairs.of_rows(rows)
        column = np.full(self._items, -1)
        column[columns] = np.arange(len(columns))
        kept = column[target] >= 0
        place, target, weight = place[kept], target[kept], weight[kept]
        share = weight / np.bincount(place, weight, len(rows))[place]
        targets = torch.zeros((len(rows), len(columns)))
        targets[place, column[target]] = torch.from_numpy(share.astype(np.float32))
        return targets

    def _others(self, rows: Rows, chance: np.random.Generator) -> tuple[Rows, int]:
        """Items beside the batch: an even sample of the catalogue, how many that is, then some targets of the rows."""
        every, wanted = self._items, self._tuning.negatives
        if every <= wanted:
            rest = np.setdiff1d(np.arange(every), rows)
            return rest, len(rest)
        pool = np.setdiff1d(chance.choice(every, wanted, replace=False), rows)
        _, targets, _ = self._pairs.of_rows(rows)
        fetched = np.setdiff1d(chance.permutation(targets)[: FETCHED * len(rows)], np.concatenate([rows, pool]))
        return np.concatenate([pool, fetched]), len(pool)

    def _log_q(self, rows: Rows, others: int, step: int) -> Tensor:
        """How often each column is expected: with the batch's pairs, or drawn evenly; once where all are there."""
        evenly = min(1.0, self._tuning.negatives / self._items)
        if evenly == 1.0:
            return torch.zeros(len(rows) + others)
        expected = np.full(len(rows) + others, evenly, np.float32)
        expected[: len(rows)] += self.frequency.chance(rows, step)
        return torch.from_numpy(np.log(np.minimum(expected, 1.0)))

    def _hard(self, cosines: Tensor, targets: Tensor, excluded: Tensor, at: Moment) -> Tensor | None:
        """Scores of near items that are no targets, weighing more with each step of the second round."""
        tuning, ramp = self._tuning, min(1.0, at.rounds - 1)
        if not tuning.hard or ramp <= 0:
            return None
        known = torch.where(targets > 0, cosines.detach(), -torch.inf).max(dim=1).values
        near = cosines.detach().masked_fill((targets > 0) | excluded, -torch.inf)
        last = min(HARD_RANKS[1], near.shape[1] // 2)
        first = min(HARD_RANKS[0], last // 2)
        ranked = near.topk(last, dim=1).indices[:, first:]
        picked = torch.from_numpy(at.chance.integers(0, ranked.shape[1], (len(near), tuning.hard))).to(ranked.device)
        found = cosines.gather(1, ranked.gather(1, picked))
        return hard_scores(found, known, margin=MARGIN, weight=ramp, temperature=tuning.temperature)

    def _unwanted(self, vectors: Tensor, rows: Rows, bank: Tensor) -> Tensor | None:
        """Scores (rows, UNWANTED) of what shoppers who wanted an item did not want; -inf where there is less."""
        place, item = self._pairs.unwanted(rows)
        if not len(place):
            return None
        nth = np.arange(len(place)) - np.searchsorted(place, place)
        few = nth < UNWANTED
        at = np.full((len(rows), UNWANTED), -1)
        at[place[few], nth[few]] = item[few]
        there = torch.from_numpy(at >= 0).to(vectors.device)
        theirs = bank[torch.from_numpy(np.maximum(at, 0)).to(bank.device)].float()  # (rows, UNWANTED, dim)
        scores = (theirs @ vectors[:, :, None])[:, :, 0] / self._tuning.temperature
        return scores.masked_fill(~there, -torch.inf)
