"""What shoppers ask the index for: their vectors as of now, kept in a bundle so that the index is set by them."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nlargest
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.decision import Request
from core.profile import Profile
from ranker.context import understand
from ranker.recommend import Snapshot

MOST: Final = 500
FEWEST: Final = 50  # below, items with noise tell more


def recent_queries(profiles: Iterable[Profile], snapshot: Snapshot, most: int = MOST) -> NDArray[np.float16] | None:
    """User vectors of those who came last, `(n, dim)`; None where there are too few to set an index by."""
    if snapshot.space is None:
        return None
    newest = nlargest(most, enumerate(profiles), key=lambda one: (one[1].last, -one[0]))
    tastes = [_taste(profile, snapshot) for _, profile in newest]
    found = [one for one in tastes if one is not None]
    return np.stack(found).astype(np.float16) if len(found) >= FEWEST else None


def _taste(profile: Profile, snapshot: Snapshot) -> NDArray[np.float32] | None:
    request = Request(recommendation_id="", ts=profile.last)
    return understand(request, profile, snapshot.live, snapshot.space, snapshot.user).taste
