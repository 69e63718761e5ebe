"""The passes over a few sequences at a time, from first row to last and back.

All sequences of a group take each step together, so that a step is a small matrix product that stays in registers and
cache. Groups are independent: a pass computes groups ``first`` to ``last`` − 1, of ``size`` sequences each, and threads
share them. Arrays are padded as in :mod:`ppl_hmm.exact.backends.compiled.steps`; ``work`` is scratch.
"""

from __future__ import annotations

import math

import numpy as np

from ppl_hmm.exact.backends.compiled.steps import (
    advance,
    combine,
    keep,
    log_total,
    normalise,
    settle,
    start_from,
    start_from_ones,
    weigh,
    weigh_and_settle,
)
from ppl_hmm.exact.backends.compiled.vectors import compiled


@compiled
def group(number, size, n_sequences):
    """Return a group's model, its first sequence, and how many it has."""
    per_model = (n_sequences + size - 1) // size
    first = number % per_model * size
    return number // per_model, first, min(size, n_sequences - first)


@compiled
def evidence(first, last, work, initial, forth, table, ids, floor, log_evidence, lost):
    """Write log P(x)."""
    law, predicted = work[0], work[1]
    log_scale = np.empty(len(law))
    for number in range(first, last):
        model, b, n = group(number, len(law), ids.shape[1])
        start_from(initial, model, n, law)
        log_scale[:n] = 0
        for t in range(ids.shape[2]):
            advance(law, n, forth, model, predicted)
            law, predicted = predicted, law
            for row in range(n):
                scale, faint = weigh_and_settle(law, row, table, model, ids[model, b + row, t], floor[model])
                lost[model, b + row] |= faint
                if scale != 1:
                    log_scale[row] += math.log(scale)
        for row in range(n):
            log_evidence[model, b + row] = log_scale[row] + log_total(law, row)


@compiled
def smooth(
    first,
    last,
    work,
    initial,
    forth,
    back,
    table,
    ids,
    floor,
    smallest_total,
    slots,
    own_token,
    log_evidence,
    start,
    marginals,
    log_contexts,
    lost,
):
    """Write the evidence, P(H₀|x) and the marginals, or cavities, of each position t at its slot (−1: not asked for).

    What comes from before a position waits in the place of its result for the message from behind.
    """
    law, other = work[0], work[1]
    log_scale = np.empty(len(law))
    for number in range(first, last):
        model, b, n = group(number, len(law), ids.shape[1])
        start_from(initial, model, n, law)
        log_scale[:n] = 0
        for t in range(ids.shape[2]):
            advance(law, n, forth, model, other)
            law, other = other, law
            for row in range(n):
                if slots[t] >= 0 and not own_token:
                    keep(law, row, marginals, model, b + row, slots[t])
                    log_contexts[model, b + row, slots[t]] = log_scale[row]
                scale, faint = weigh_and_settle(law, row, table, model, ids[model, b + row, t], floor[model])
                lost[model, b + row] |= faint
                if scale != 1:
                    log_scale[row] += math.log(scale)
                if slots[t] >= 0 and own_token:
                    keep(law, row, marginals, model, b + row, slots[t])
        for row in range(n):
            log_evidence[model, b + row] = log_scale[row] + log_total(law, row)
            keep(initial, model, start, model, b + row, 0)

        start_from_ones(n, law)
        log_scale[:n] = 0
        for t in range(ids.shape[2] - 1, -1, -1):
            for row in range(n):
                if slots[t] >= 0:
                    total = combine(law, row, marginals, model, b + row, slots[t])
                    lost[model, b + row] |= total < smallest_total
                    if not own_token:
                        log_contexts[model, b + row, slots[t]] += log_scale[row] + np.log(total)
                weigh(law, row, table, model, ids[model, b + row, t], law)
            advance(law, n, back, model, other)
            law, other = other, law
            for row in range(n):
                scale, faint = settle(law, row, floor[model])
                lost[model, b + row] |= faint
                if scale != 1:
                    log_scale[row] += math.log(scale)
        for row in range(n):
            lost[model, b + row] |= combine(law, row, start, model, b + row, 0) < smallest_total


@compiled
def messages(first, last, work, back, table, ids, floor, slots, kept, log_scales, lost):
    """Write the message after each row t, and the logarithm of its scale, at slot t + 1 (−1: not asked for)."""
    law, other = work[0], work[1]
    log_scale = np.empty(len(law))
    final = ids.shape[2]
    stop = 0
    while slots[stop] < 0:
        stop += 1
    for number in range(first, last):
        model, b, n = group(number, len(law), ids.shape[1])
        start_from_ones(n, law)
        log_scale[:n] = 0
        for t in range(final, stop - 1, -1):
            for row in range(n):
                if slots[t] >= 0:
                    if t < final:
                        log_scale[row] += np.log(normalise(law, row))
                    keep(law, row, kept, model, b + row, slots[t])
                    log_scales[model, b + row, slots[t]] = log_scale[row]
                if t > stop:
                    weigh(law, row, table, model, ids[model, b + row, t - 1], law)
            if t > stop:
                advance(law, n, back, model, other)
                law, other = other, law
                for row in range(n):
                    scale, faint = settle(law, row, floor[model])
                    lost[model, b + row] |= faint
                    if scale != 1:
                        log_scale[row] += math.log(scale)
