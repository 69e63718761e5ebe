"""Paths of hidden states in compiled loops: backward through the text, keeping every message, then forward, choosing.

The same operations in the same order as :class:`~ppl_hmm.exact.backends.recursive.Recursive`.
"""

from __future__ import annotations

import numpy as np

from ppl_hmm.exact.backends.compiled.compiling import compiled, inlined
from ppl_hmm.exact.backends.compiled.passes import group, log_of
from ppl_hmm.exact.backends.compiled.registers import lanes
from ppl_hmm.exact.backends.compiled.steps import (
    advance,
    count,
    inner,
    smallest_positive,
    start_from_ones,
    weigh,
)
from ppl_hmm.exact.backends.compiled.vectors import (
    any_below,
    count_up_to,
    entry,
    fill,
    larger,
    largest,
    last as last_of,
    load,
    partial_sums,
    plus,
    store,
    times,
)


@compiled
def sample_paths(first, last, work, messages, initial, transition, back, table, ids, floor, uniforms, paths, lost):
    """Write draws from P(H₀..H_T | x), by inverse transform of the uniforms (T+1,P,B,D)."""
    length, totals = ids.shape[2], np.empty(work.shape[1], work.dtype)
    weights = np.empty(initial.shape[1], work.dtype)
    for number in range(first, last):
        model, b, n = group(number, work.shape[1], ids.shape[1])
        start_from_ones(n, messages[length])
        totals[:n] = 1
        for t in range(length - 1, -1, -1):
            for row in range(n):
                token = ids[model, b + row, t]
                totals[row], _ = weigh(messages[t + 1], row, table, model, token, totals[row], work[0])
            advance(work[0], n, back, model, messages[t])
            for row in range(n):
                if any_below(smallest_positive(messages[t], row), floor[model]):
                    lost[model, b + row] = True
        for row in range(n):
            for draw in range(paths.shape[2]):
                for h in range(len(weights)):
                    weights[h] = initial[model, h] * messages[0, row, h]
                state = _inverse_transform(weights, uniforms[0, model, b + row, draw])
                paths[model, b + row, draw, 0] = state
                for t in range(length):
                    token = ids[model, b + row, t]
                    for h in range(len(weights)):
                        forth = table[model, token, h] * messages[t + 1, row, h]
                        weights[h] = transition[model, state, h] * forth
                    state = _inverse_transform(weights, uniforms[t + 1, model, b + row, draw])
                    paths[model, b + row, draw, t + 1] = state


@inlined
def _inverse_transform(weights, uniform):
    """Return the first index whose cumulative weight exceeds uniform · total, 0 for no weight: as ``categorical``."""
    whole = 0.0
    for weight in weights:
        whole += weight
    threshold, cumulative, last = uniform * whole, 0.0, 0
    for h in range(len(weights)):
        if weights[h] > 0:
            last = h
            cumulative += weights[h]
            if cumulative > threshold:
                return h
    return last


@compiled
def path_counts(
    first,
    last,
    work,
    messages,
    initial,
    transition,
    back,
    table,
    ids,
    lengths,
    floor,
    smallest_total,
    uniforms,
    of_initial,
    of_transition,
    of_table,
    log_evidence,
    lost,
):
    """Write log P(x), and add the uses of one path of each text, as :func:`sample_paths` draws it, to the counts."""
    totals, logs, factors = np.empty(work.shape[1], work.dtype), np.empty(work.shape[1]), np.empty(work.shape[1])
    states, sums = np.empty(work.shape[1], np.int64), np.empty(work.shape[2], work.dtype)
    weights, n_states, n_padded, width = work[0], of_initial.shape[1], work.shape[2], lanes(work)
    for number in range(first, last):
        model, b, n = group(number, work.shape[1], ids.shape[1])
        longest = 0
        for row in range(n):
            longest = max(longest, lengths[model, b + row])
            lost[model, b + row] = any_below(smallest_positive(initial, model), floor[model])
        start_from_ones(n, messages[longest])
        totals[:n], logs[:n], factors[:n] = 1, 0, 1
        for t in range(longest - 1, -1, -1):
            for row in range(n):
                count(logs, factors, row, totals[row])
                token = ids[model, b + row, t]
                totals[row], _ = weigh(messages[t + 1], row, table, model, token, totals[row], work[0])
            advance(work[0], n, back, model, messages[t])
            for row in range(n):
                if any_below(smallest_positive(messages[t], row), floor[model]):
                    lost[model, b + row] = True
        for row in range(n):
            total = inner(messages[0], row, initial, model)
            log_evidence[model, b + row] = log_of(logs, factors, row) + np.log(np.float64(total))
            if total < smallest_total:
                lost[model, b + row] = True
            if not lost[model, b + row]:
                for j in range(0, n_padded, width):
                    store(weights, (row, j), times(load(initial, (model, j)), load(messages, (0, row, j))))
                states[row] = _drawn(weights, row, sums, n_states, uniforms[0, model, b + row, 0])
                of_initial[model, states[row]] += 1
        for t in range(longest):
            for row in range(n):
                if t < entry(lengths, (model, b + row)) and not entry(lost, (model, b + row)):
                    token, before = entry(ids, (model, b + row, t)), entry(states, (row,))
                    for j in range(0, n_padded, width):
                        forth = times(load(table, (model, token, j)), load(messages, (t + 1, row, j)))
                        store(weights, (row, j), times(load(transition, (model, before, j)), forth))
                    state = _drawn(weights, row, sums, n_states, entry(uniforms, (t + 1, model, b + row, 0)))
                    states[row] = state
                    of_transition[model, before, state] += 1
                    of_table[model, token, state] += 1


@inlined
def _drawn(weights, row, sums, n_states, uniform):
    """Return what :func:`_inverse_transform` does, but for the rounding of sums: vectors of partial sums, no branch."""
    width, whole = lanes(weights), fill(weights, 0)
    for j in range(0, weights.shape[1], width):
        whole = plus(partial_sums(load(weights, (row, j))), fill(weights, last_of(whole)))
        store(sums, (j,), whole)
    threshold, state = uniform * last_of(whole), 0
    for j in range(0, weights.shape[1], width):
        state += count_up_to(load(sums, (j,)), threshold)
    if state < n_states and weights[row, state] > 0:
        return state
    return _inverse_transform(weights[row, :n_states], uniform)  # a threshold within rounding of a sum


@compiled
def best_path(first, last, work, messages, initial, forth, back, table, ids, paths):
    """Write the path of largest log P(h₀..h_T, x), ties to the lowest state; arrays hold logarithms.

    ``forth`` is the transition as it is, ``back`` its transpose in panels.
    """
    for number in range(first, last):
        model, b, n = group(number, work.shape[1], ids.shape[1])
        for row in range(n):
            _best_path(work, messages, initial, forth, back, table, ids, model, b + row, paths)


@inlined
def _best_path(work, messages, initial, forth, back, table, ids, model, sequence, paths):
    length, n_padded, width = ids.shape[2], work.shape[2], lanes(work)
    messages[length, 0] = 0
    for t in range(length - 1, -1, -1):
        token = ids[model, sequence, t]
        for j in range(0, n_padded, width):
            store(work, (0, 0, j), plus(load(messages, (t + 1, 0, j)), load(table, (model, token, j))))
        top = fill(work, -np.inf)
        for panel in range(back.shape[1]):
            best = fill(work, -np.inf)
            for k in range(forth.shape[1]):
                best = larger(best, plus(fill(work, work[0, 0, k]), load(back, (model, panel, k, 0))))
            store(messages, (t, 0, panel * width), best)
            top = larger(top, best)
        offset = largest(top)
        if offset > -np.inf:
            for j in range(0, n_padded, width):
                store(messages, (t, 0, j), plus(load(messages, (t, 0, j)), fill(work, -offset)))

    n_states = forth.shape[1]
    top, state = -np.inf, 0
    for h in range(n_states):
        weight = initial[model, h] + messages[0, 0, h]
        if weight > top:
            top, state = weight, h
    paths[model, sequence, 0, 0] = state
    for t in range(length):
        token, before = ids[model, sequence, t], state
        top, state = -np.inf, 0
        for h in range(n_states):
            weight = forth[model, before, h] + (table[model, token, h] + messages[t + 1, 0, h])
            if weight > top:
                top, state = weight, h
        paths[model, sequence, 0, t + 1] = state
