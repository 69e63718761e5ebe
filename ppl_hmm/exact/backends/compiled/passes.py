"""The passes over a few sequences at a time, from first row to last and back.

All sequences of a group take each step together, so that a step is a small matrix product that stays in registers and
cache. Groups are independent: a pass computes groups ``first`` to ``last`` − 1, of ``size`` sequences each, and threads
share them. Arrays are padded as in :mod:`ppl_hmm.exact.backends.compiled.steps`; ``work`` is scratch.
"""

from __future__ import annotations

import numpy as np

from ppl_hmm.exact import underflow
from ppl_hmm.exact.backends.compiled.compiling import compiled, inlined
from ppl_hmm.exact.backends.compiled.registers import lanes
from ppl_hmm.exact.backends.compiled.steps import (
    advance,
    combine,
    count,
    keep,
    keep_law,
    log_row,
    row_total,
    scale,
    smallest_positive,
    start_from,
    start_from_ones,
    weigh,
)
from ppl_hmm.exact.backends.compiled.vectors import (
    any_below,
    entry,
    fill,
    larger,
    largest,
    load,
    smaller_positive,
    smallest,
)

#: Totals whose logarithms are taken at once: whole vectors.
_RECENT = 16
_floor_of = inlined(underflow.floor_of)


@inlined
def group(number, size, n_sequences):
    """Return a group's model, its first sequence, and how many it has."""
    per_model = (n_sequences + size - 1) // size
    first = number % per_model * size
    return number // per_model, first, min(size, n_sequences - first)


@inlined
def log_of(logs, factors, row):
    """Return the logarithm of what was counted."""
    return logs[row] + np.log(factors[row])


@compiled
def floors(forth, table, tiny, faintest):
    """Write for each model the weight below which one more step may lose an entry to underflow.

    As :class:`~ppl_hmm.exact.underflow.Floor`.
    """
    width = lanes(table)
    for model in range(len(table)):
        move, likelihood, most = fill(table, np.inf), fill(table, np.inf), fill(table, 1)
        for panel in range(forth.shape[1]):
            for k in range(forth.shape[2]):
                move = smaller_positive(move, load(forth, (model, panel, k, 0)))
        for row in range(table.shape[1]):
            for j in range(0, table.shape[2], width):
                entries = load(table, (model, row, j))
                likelihood, most = smaller_positive(likelihood, entries), larger(most, entries)
        faintest[model] = _floor_of(tiny, min(smallest(move), 1), min(smallest(likelihood), 1), largest(most))


@compiled
def evidence(first, last, work, initial, forth, table, ids, floor, log_evidence, lost):
    """Write log P(x)."""
    law, predicted = work[0], work[1]
    logs, factors, totals = np.empty(len(law)), np.empty(len(law)), np.empty(len(law), law.dtype)
    for number in range(first, last):
        model, b, n = group(number, len(law), ids.shape[1])
        start_from(initial, model, n, law)
        lost[model, b : b + n] = any_below(smallest_positive(initial, model), floor[model])
        logs[:n], factors[:n], totals[:n] = 0, 1, 1
        for t in range(ids.shape[2]):
            advance(law, n, forth, model, predicted)
            for row in range(n):
                total, smallest = weigh(predicted, row, table, model, entry(ids, (model, b + row, t)), totals[row], law)
                totals[row] = total
                count(logs, factors, row, total)
                if any_below(smallest, floor[model]):
                    lost[model, b + row] = True
        for row in range(n):
            log_evidence[model, b + row] = log_of(logs, factors, row)


@compiled
def filtered(first, last, work, initial, forth, table, ids, floor, slots, laws, log_prefix, lost):
    """Write the law after each row t, and the log-probability of the rows so far, at slot t + 1 (−1: not asked for)."""
    law, predicted = work[0], work[1]
    totals, recent, logs = np.empty(len(law), law.dtype), np.ones((len(law), _RECENT)), np.empty(len(law))
    stop = ids.shape[2]
    while slots[stop] < 0:
        stop -= 1
    for number in range(first, last):
        model, b, n = group(number, len(law), ids.shape[1])
        start_from(initial, model, n, law)
        lost[model, b : b + n] = any_below(smallest_positive(initial, model), floor[model])
        logs[:n], totals[:n] = 0, 1
        if slots[0] >= 0:
            for row in range(n):
                keep(law, row, laws, model, b + row, slots[0])
                log_prefix[model, b + row, slots[0]] = 0
        for t in range(stop):
            advance(law, n, forth, model, predicted)
            for row in range(n):
                total, smallest = weigh(predicted, row, table, model, entry(ids, (model, b + row, t)), totals[row], law)
                totals[row] = recent[row, t % _RECENT] = total
                if any_below(smallest, floor[model]):
                    lost[model, b + row] = True
                if slots[t + 1] >= 0:
                    keep_law(law, row, total, laws, model, b + row, slots[t + 1])
            if (t + 1) % _RECENT == 0 or t + 1 == stop:
                add_logs(recent, n, t // _RECENT * _RECENT, t + 1, slots, model, b, logs, log_prefix)


@inlined
def add_logs(totals, n, begin, end, slots, model, b, logs, log_prefix):
    """Add the logarithms of the totals of rows ``begin`` to ``end`` − 1, one after another, and write the sums."""
    for row in range(n):
        log_row(totals, row)
        for t in range(begin, end):
            logs[row] += entry(totals, (row, t - begin))
            if slots[t + 1] >= 0:
                log_prefix[model, b + row, slots[t + 1]] = logs[row]


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
    logs, factors, totals = np.empty(len(law)), np.empty(len(law)), np.empty(len(law), law.dtype)
    for number in range(first, last):
        model, b, n = group(number, len(law), ids.shape[1])
        start_from(initial, model, n, law)
        lost[model, b : b + n] = any_below(smallest_positive(initial, model), floor[model])
        logs[:n], factors[:n], totals[:n] = 0, 1, 1
        for t in range(ids.shape[2]):
            advance(law, n, forth, model, other)
            for row in range(n):
                if slots[t] >= 0 and not own_token:
                    keep(other, row, marginals, model, b + row, slots[t])
                    log_contexts[model, b + row, slots[t]] = log_of(logs, factors, row) - np.log(totals[row])
                total, smallest = weigh(other, row, table, model, entry(ids, (model, b + row, t)), totals[row], law)
                totals[row] = total
                count(logs, factors, row, total)
                if any_below(smallest, floor[model]):
                    lost[model, b + row] = True
                if slots[t] >= 0 and own_token:
                    keep(law, row, marginals, model, b + row, slots[t])
        for row in range(n):
            log_evidence[model, b + row] = log_of(logs, factors, row)
            keep(initial, model, start, model, b + row, 0)

        start_from_ones(n, law)
        logs[:n], factors[:n], totals[:n] = 0, 1, 1
        for t in range(ids.shape[2] - 1, -1, -1):
            for row in range(n):
                if slots[t] >= 0:
                    both = combine(law, row, marginals, model, b + row, slots[t])
                    if both < smallest_total:
                        lost[model, b + row] = True
                    if not own_token:
                        log_contexts[model, b + row, slots[t]] += log_of(logs, factors, row) + np.log(both)
                count(logs, factors, row, totals[row])
                totals[row], _ = weigh(law, row, table, model, entry(ids, (model, b + row, t)), totals[row], other)
            advance(other, n, back, model, law)
            for row in range(n):
                if any_below(smallest_positive(law, row), floor[model]):
                    lost[model, b + row] = True
        for row in range(n):
            if combine(law, row, start, model, b + row, 0) < smallest_total:
                lost[model, b + row] = True


@compiled
def messages(first, last, work, back, table, ids, floor, slots, kept, log_scales, lost):
    """Write the message after each row t, and the logarithm of its scale, at slot t + 1 (−1: not asked for)."""
    law, other = work[0], work[1]
    logs, factors, totals = np.empty(len(law)), np.empty(len(law)), np.empty(len(law), law.dtype)
    stop = 0
    while slots[stop] < 0:
        stop += 1
    for number in range(first, last):
        model, b, n = group(number, len(law), ids.shape[1])
        start_from_ones(n, law)
        logs[:n], factors[:n], totals[:n] = 0, 1, 1
        for t in range(ids.shape[2], stop - 1, -1):
            for row in range(n):
                if slots[t] >= 0:
                    total = row_total(law, row) if t < ids.shape[2] else 1
                    scale(law, row, 1 / total if total > 0 else 1, other)
                    keep(other, row, kept, model, b + row, slots[t])
                    log_scales[model, b + row, slots[t]] = log_of(logs, factors, row) + np.log(np.float64(total))
                if t > stop:
                    count(logs, factors, row, totals[row])
                    token = entry(ids, (model, b + row, t - 1))
                    totals[row], _ = weigh(law, row, table, model, token, totals[row], other)
            if t > stop:
                advance(other, n, back, model, law)
                for row in range(n):
                    if any_below(smallest_positive(law, row), floor[model]):
                        lost[model, b + row] = True
