import numpy as np
import pytest
import torch

from models.loss import contrast, hard_scores

NONE = torch.zeros(4)


def test_one_target_is_weighed_against_the_negatives_of_its_row() -> None:
    scores = torch.tensor([[1.0, 2.0, 0.5, -1.0]])
    wanted = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    share = np.exp(2.0) / np.exp([1.0, 2.0, 0.5, -1.0]).sum()
    assert float(contrast(scores, wanted, NONE)) == pytest.approx(-np.log(share), abs=1e-6)


def test_other_targets_and_the_excluded_are_no_negatives() -> None:
    scores = torch.tensor([[1.0, 2.0, 9.0, -1.0]])
    wanted = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    out = torch.tensor([[False, False, True, False]])
    found = float(contrast(scores, wanted, NONE, excluded=out))
    expected = [np.log1p(np.exp(-1.0 - one)) for one in (1.0, 2.0)]
    assert found == pytest.approx(np.mean(expected), abs=1e-6)


def test_targets_count_by_their_weight() -> None:
    scores = torch.tensor([[1.0, 2.0, 0.0, 0.0]])
    both = float(contrast(scores, torch.tensor([[3.0, 1.0, 0.0, 0.0]]), NONE))
    one, other = (
        float(contrast(scores, torch.tensor([wanted]), NONE, excluded=torch.tensor([out])))
        for wanted, out in (
            ([1.0, 0.0, 0.0, 0.0], [False, True, False, False]),
            ([0.0, 1.0, 0.0, 0.0], [True, False, False, False]),
        )
    )
    assert both == pytest.approx(0.75 * one + 0.25 * other, abs=1e-6)


def test_the_correction_makes_a_popular_sample_as_good_as_an_even_one() -> None:
    """The corrected sum over drawn columns estimates the sum over all; the target is not shifted."""
    chance = np.random.default_rng(0)
    every = torch.tensor(chance.normal(size=400), dtype=torch.float32)
    frequency = np.linspace(0.02, 0.9, 400)
    whole = float(contrast(torch.cat([torch.tensor([1.5]), every])[None], _first(401), torch.zeros(401)))
    drawn, plain = [], []
    for _ in range(300):
        at = np.flatnonzero(chance.random(400) < frequency)
        scores = torch.cat([torch.tensor([1.5]), every[at]])[None]
        log_q = torch.tensor(np.log(np.concatenate([[0.3], frequency[at]])), dtype=torch.float32)
        drawn.append(float(contrast(scores, _first(len(at) + 1), log_q)))
        plain.append(float(contrast(scores, _first(len(at) + 1), torch.zeros(len(at) + 1))))
    assert np.mean(drawn) == pytest.approx(whole, abs=0.02)
    assert abs(np.mean(plain) - whole) > 0.3


def _first(columns: int) -> torch.Tensor:
    targets = torch.zeros(1, columns)
    targets[0, 0] = 1.0
    return targets


def test_a_row_without_targets_or_without_negatives_moves_nothing() -> None:
    scores = torch.tensor([[1.0, 2.0], [0.3, 0.4]], requires_grad=True)
    loss = contrast(scores, torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.zeros(2))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert scores.grad is not None
    assert torch.equal(scores.grad, torch.zeros(2, 2))


def test_hard_negatives_raise_the_loss_by_their_weight_and_near_targets_are_left_out() -> None:
    scores, wanted = torch.tensor([[10.0, 4.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    found, best = torch.tensor([[0.7, 0.99]]), torch.tensor([1.0])
    losses = [
        float(contrast(scores, wanted, NONE, hard=hard_scores(found, best, margin=0.95, weight=w, temperature=0.1)))
        for w in (0.0, 0.5, 1.0)
    ]
    plain = float(contrast(scores, wanted, NONE))
    assert losses[0] == pytest.approx(plain)
    assert losses[0] < losses[1] < losses[2]
    assert losses[2] == pytest.approx(np.log1p((np.exp(4.0) + 2 + np.exp(7.0)) / np.exp(10.0)), abs=1e-6)
