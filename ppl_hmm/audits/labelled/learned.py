"""What is learned of labelled texts: heads on several readings, against random labels and their own test accuracy."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch

from ppl_hmm.audits.labelled.intervals import Interval, difference, effective_size, wilson
from ppl_hmm.audits.labelled.texts import LabelledTexts
from ppl_hmm.base.randomness import CPU, Seed, generator
from ppl_hmm.heads.linear import LinearHead

#: Penalties that heads are chosen from: conditionals may differ by little, counts and embeddings by much.
GRID = (1e-2, 1.0, 1e2, 1e4, 1e6)
#: Draws of random labels.
N_CONTROLS = 5
_VALIDATION_SHARE = 0.2

Scale = Literal["probability", "log"]


class Approach(NamedTuple):
    """Something that heads are learned on."""

    name: str
    features: np.ndarray  # (B,n)
    scale: Scale = "probability"


class Learned(NamedTuple):
    """What a head learned, on held-out texts."""

    approach: Approach
    head: LinearHead
    right: np.ndarray  # (n_test,): whether each answer is
    accuracy: Interval
    control: Interval  # accuracy on random labels of equal entropy, learned and tested as the true ones
    selectivity: Interval  # accuracy less that


def learned(texts: LabelledTexts, approach: Approach, seed: Seed) -> Learned:
    """Learn a head from the true labels, and heads from random ones.

    Source: Hewitt & Liang (2019), §2: control tasks and selectivity.
    """
    head = fitted(approach, texts.labels, texts.learn)
    right = head.predict(approach.features[texts.test]) == texts.labels[texts.test]
    size = effective_size(right, texts.test_groups)
    accuracy = wilson(float(right.mean()), size)
    stream, types = generator(seed, "audit: control labels"), distinct(texts.features)
    shares = []
    for _ in range(N_CONTROLS):
        labels = control_labels(texts.labels, types, stream)
        shares.append(accuracy_of(approach, labels, texts.learn, texts.test))
    control = wilson(float(np.mean(shares)), size * N_CONTROLS)
    return Learned(approach, head, right, accuracy, control, difference(accuracy, control))


def fitted(approach: Approach, labels: np.ndarray, chosen: np.ndarray) -> LinearHead:
    """Return the head of the chosen texts whose penalty does best on a fifth of them; at least two classes."""
    n_validation = max(1, int(_VALIDATION_SHARE * len(chosen)))
    validation, training = chosen[:n_validation], chosen[n_validation:]
    if len(np.unique(labels[training])) < 2:
        training = chosen
    parts = (each for own in (training, validation) for each in (approach.features[own], labels[own]))
    return LinearHead.select(*parts, grid=GRID, features=approach.scale)


def accuracy_of(approach: Approach, labels: np.ndarray, chosen: np.ndarray, test: np.ndarray) -> float:
    """Return the accuracy on test texts of what the chosen texts teach: their only class, where they have one."""
    seen = np.unique(labels[chosen])
    if len(seen) == 1:
        return float((labels[test] == seen[0]).mean())
    return float((fitted(approach, labels, chosen).predict(approach.features[test]) == labels[test]).mean())


def distinct(features: np.ndarray) -> np.ndarray:
    """Return a number for each text (B,), equal for texts of equal features."""
    return np.unique(features, axis=0, return_inverse=True)[1].reshape(-1)


def control_labels(labels: np.ndarray, types: np.ndarray, stream: torch.Generator) -> np.ndarray:
    """Return random labels (B,) of the same frequencies, the same for equal texts: labels dealt out again to types."""
    first = np.unique(types, return_index=True)[1]
    dealt = torch.randperm(len(first), generator=stream, device=CPU).numpy()
    return labels[first][dealt][types]
