"""Statistics of text against counts by hand, masks and replicates included."""

from collections import Counter
from itertools import groupby

import numpy as np
import pytest
import torch

from ppl_hmm.exact import token_statistics as statistics

TEXTS = torch.from_numpy(np.random.default_rng(0).integers(-1, 3, (4, 5, 9)))


def shares(counts, kinds):
    total = sum(counts.values()) or 1
    return [counts[kind] / total for kind in kinds]


def pairs_of(texts, lag):
    return [(x, y) for text in texts for x, y in zip(text, text[lag:], strict=False) if x >= 0 and y >= 0]


def test_frequencies_and_pairs():
    found, of_pairs = statistics.token_frequencies(TEXTS, 3), statistics.pair_frequencies(TEXTS, 3, 2)
    for one, law, pair_law in zip(TEXTS.tolist(), found, of_pairs, strict=True):
        assert law.tolist() == pytest.approx(shares(Counter(x for text in one for x in text if x >= 0), range(3)))
        kinds = [(x, y) for x in range(3) for y in range(3)]
        assert pair_law.flatten().tolist() == pytest.approx(shares(Counter(pairs_of(one, 2)), kinds))


def test_runs():
    found = statistics.run_length_frequencies(TEXTS, 3)
    for one, law in zip(TEXTS.tolist(), found, strict=True):
        runs = [min(3, len(list(group))) for text in one for token, group in groupby(text) if token >= 0]
        assert law.tolist() == pytest.approx(shares(Counter(runs), (1, 2, 3)))
    assert statistics.run_length_frequencies(torch.tensor([[[1, 1, 1, 1], [1, 0, -1, 0]]]), 5).tolist() == [
        [0.75, 0, 0, 0.25, 0]
    ]


@pytest.mark.parametrize("lag", [1, 3])
def test_mutual_information(lag):
    found = statistics.mutual_information(TEXTS, 3, lag)
    for one, information in zip(TEXTS.tolist(), found.tolist(), strict=True):
        joint = np.zeros((3, 3))
        for x, y in pairs_of(one, lag):
            joint[x, y] += 1
        joint /= joint.sum()
        independent = np.outer(joint.sum(1), joint.sum(0))
        kept = joint > 0
        assert information == pytest.approx((joint[kept] * np.log(joint[kept] / independent[kept])).sum())
    assert statistics.mutual_information(TEXTS, 3, 8).isfinite().all()


def test_nothing_observed():
    nothing = torch.full((1, 2, 3), -1)
    for found in (
        statistics.token_frequencies(nothing, 2),
        statistics.pair_frequencies(nothing, 2),
        statistics.run_length_frequencies(nothing, 2),
        statistics.mutual_information(nothing, 2, 1),
    ):
        assert not found.any()
