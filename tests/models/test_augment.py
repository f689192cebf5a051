import numpy as np
import pytest

from models.augment import Dropper

BAR, PAD = 5, 0
IDS = np.array([[2, 10, 11, BAR, 12, 13, BAR, 14, 3], [2, 10, 3, PAD, PAD, PAD, PAD, PAD, PAD]])
MASK = (IDS != PAD).astype(np.int64)


@pytest.mark.parametrize(("words", "fields"), [(True, False), (False, True), (True, True)])
def test_ends_stay_and_each_text_keeps_a_word(words: bool, fields: bool) -> None:
    dropper = Dropper(words, fields, BAR)
    kept = np.array([dropper.keep(IDS, MASK, seed) for seed in range(300)])
    assert (kept <= MASK).all()
    assert (kept[:, 0, [0, 8]] == 1).all()
    assert (kept[:, 1, :3] == 1).all()  # one word and its ends
    assert (kept.sum(axis=2)[:, 0] >= 3).all()
    assert len(np.unique(kept[:, 0], axis=0)) > 3


def test_a_field_is_dropped_as_a_whole_and_words_one_by_one() -> None:
    fields = np.array([Dropper(False, True, BAR).keep(IDS, MASK, seed)[0] for seed in range(200)])
    assert (fields[:, 4] == fields[:, 5]).all()
    assert 0.1 < 1 - fields[:, 4].mean() < 0.4
    words = np.array([Dropper(True, False, BAR).keep(IDS, MASK, seed)[0] for seed in range(200)])
    assert (words[:, 4] != words[:, 5]).any()
    assert 0.08 < 1 - words[:, 4].mean() < 0.25


def test_without_an_option_nothing_is_dropped_and_a_seed_repeats_itself() -> None:
    assert Dropper(False, False, BAR).keep(IDS, MASK, 1) is MASK
    dropper = Dropper(True, True, BAR)
    assert (dropper.keep(IDS, MASK, 4) == dropper.keep(IDS, MASK, 4)).all()
