"""The loss that vectors are learnt by: what follows an item against what might as well have followed."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_NOTHING: Final = -1e4  # a negative that weighs nothing: the logarithm of an empty sum has no gradient


def contrast(
    scores: Tensor,
    targets: Tensor,
    log_q: Tensor,
    *,
    excluded: Tensor | None = None,
    hard: Tensor | None = None,
) -> Tensor:
    """Softmax of each target against the negatives of its row, averaged over the rows' targets.

    A column that stands for a chance of being drawn is corrected by it, so that the sum over drawn
    negatives estimates the sum over all (Bengio and Senecal 2008). The target itself is always
    there and stays as it is: to shift it too is biased (Khrylchenko et al. 2025). Other targets of
    a row are no negatives of it: they are masked.

    Args:
        scores: (rows, columns) similarity over temperature.
        targets: (rows, columns) how much each column is wanted, 0 for a negative. A row without any adds nothing.
        log_q: (columns,) logarithm of how often a column is expected among the drawn.
        excluded: (rows, columns) what is neither: the row's own item.
        hard: (rows, any) scores of further negatives, with the logarithm of their weight added; -inf for none.

    Returns:
        A scalar.

    >>> scores = torch.tensor([[2.0, 0.0]])
    >>> round(float(contrast(scores, torch.tensor([[1.0, 0.0]]), torch.zeros(2))), 4)  # log(1 + e^-2)
    0.1269
    """
    wanted = targets > 0
    out = wanted if excluded is None else wanted | excluded
    negatives = (scores - log_q).masked_fill(out, -torch.inf)
    floor = negatives.new_full((len(negatives), 1), _NOTHING)
    negatives = torch.cat([negatives, floor] if hard is None else [negatives, floor, hard], dim=1)
    against = torch.logsumexp(negatives, dim=1, keepdim=True)  # (rows, 1)
    row, column = wanted.nonzero(as_tuple=True)
    weights = targets[row, column]
    # log(1 + exp(against - target)): the negative logarithm of the target's share
    losses = torch.nn.functional.softplus(against[row, 0] - scores[row, column])
    return (weights * losses).sum() / weights.sum().clamp_min(1e-12)


def hard_scores(found: Tensor, best_target: Tensor, *, margin: float, weight: float, temperature: float) -> Tensor:
    """What hard negatives add to a row of `contrast`.

    One that is nearly as near as the nearest target is taken for a target that nobody has seen yet,
    and left out.

    Args:
        found: (rows, any) cosines of the negatives.
        best_target: (rows,) cosine of the nearest target.
        margin: share of it above which a negative is left out.
        weight: of each one; 0 leaves all out.
        temperature: as of the scores.
    """
    if weight <= 0:
        return torch.full_like(found, -torch.inf)
    too_near = found > margin * best_target[:, None]
    return (found / temperature + torch.log(torch.tensor(weight))).masked_fill(too_near, -torch.inf)
