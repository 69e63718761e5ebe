"""Expected counts of chains of few states, many texts at a time: a vector holds one state of as many texts.

Where a law is shorter than a vector, most of a step of :mod:`~ppl_hmm.exact.backends.compiled.gradient` is sums across
vectors, divisions and comparisons, text by text. Here laws are columns (K,W) of W texts: sums over states are sums of
vectors, and what is done once a text is done for W texts at once. Only likelihood rows are read, and their counts
added up, text by text.
"""

from __future__ import annotations

import numpy as np

from ppl_hmm.exact.backends.compiled.compiling import compiled, inlined
from ppl_hmm.exact.backends.compiled.passes import group
from ppl_hmm.exact.backends.compiled.registers import lanes
from ppl_hmm.exact.backends.compiled.vectors import (
    add_to,
    any_below,
    entry,
    fill,
    fma,
    load,
    multiply_add,
    plus,
    put,
    quotient,
    smaller,
    smaller_positive,
    store,
    times,
    total,
    without,
)

#: Columns are padded to so many states, whose sums are kept in registers at once.
STATES_AT_ONCE = 4
#: Places of ``work``: columns, and vectors of one number a text.
_MESSAGE, _AFTER, _OF_ROWS, _WEIGHTS, _NUMBERS, _SMALLEST, _LEAST = range(7)
PLACES = 7


@compiled
def gradient_by_columns(
    first,
    last,
    work,
    checkpoints,
    filtered,
    predicted,
    rows,
    initial,
    forth,
    back,
    table,
    ids,
    lengths,
    floor,
    smallest_total,
    weights,
    of_initial,
    of_transition,
    of_table,
    log_evidence,
    lost,
):
    """As :func:`~ppl_hmm.exact.backends.compiled.gradient.gradient`, with likelihood ``rows`` as columns, too."""
    length, n_states, width = len(predicted), work.shape[1], lanes(work)
    logs = np.empty(width)
    one, nothing = fill(work, 1), fill(work, 0)
    for number in range(first, last):
        model, b, n = group(number, width, ids.shape[1])
        longest, shortest = 0, ids.shape[2]
        for lane in range(width):  # lanes without a text repeat the last one, without weight
            sequence = b + min(lane, n - 1)
            end = entry(lengths, (model, sequence))
            longest, shortest = max(longest, end), min(shortest, end)
            put(work, (_WEIGHTS, 0, lane), entry(weights, (model, sequence)) if lane < n else 0)
        n_segments = (longest + length - 1) // length
        logs[:], factors = 0, one
        smallest = fill(work, np.inf)
        for k in range(n_states):
            start = fill(work, entry(initial, (model, k)))
            smallest = smaller_positive(smallest, start)
            store(checkpoints, (0, k, 0), start)
        for segment in range(n_segments - 1):
            read_rows(table, model, ids, b, n, segment * length, length, rows)
            copy(checkpoints, segment, filtered, 0, one)
            totals = one
            for t in range(length):
                totals, _ = step(filtered, t, forth, model, rows, totals, predicted)
            copy(filtered, length, checkpoints, segment + 1, quotient(one, totals))

        for k in range(n_states):
            store(work, (_MESSAGE, k, 0), one)
        backward_totals, least = one, fill(work, np.inf)
        for segment in range(n_segments - 1, -1, -1):
            begin = segment * length
            n_steps = min(length, longest - begin)
            read_rows(table, model, ids, b, n, begin, n_steps, rows)
            copy(checkpoints, segment, filtered, 0, one)
            totals = one
            for t in range(n_steps):
                totals, smallest_now = step(filtered, t, forth, model, rows, totals, predicted)
                read = who_reads(work, begin + t, shortest, lengths, model, b, n)
                smallest = smaller_positive(smallest, times(smallest_now, read))
                factors = count(logs, factors, plus(times(totals, read), without(read)), work)

            for t in range(n_steps - 1, -1, -1):
                read = who_reads(work, begin + t, shortest, lengths, model, b, n)
                share = quotient(one, backward_totals)
                both, backward_totals = nothing, nothing
                for k in range(n_states):
                    after = times(times(load(work, (_MESSAGE, k, 0)), share), load(rows, (t, k, 0)))
                    store(work, (_AFTER, k, 0), after)
                    backward_totals = plus(backward_totals, after)
                    both = plus(both, times(after, load(predicted, (t, k, 0))))
                least = smaller(least, plus(both, without(read)))
                weight = times(quotient(load(work, (_WEIGHTS, 0, 0)), both), read)
                for k in range(n_states):
                    law, after = load(predicted, (t, k, 0)), load(work, (_AFTER, k, 0))
                    message = times(load(work, (_MESSAGE, k, 0)), share)
                    store(work, (_OF_ROWS, k, 0), times(times(law, weight), message))
                    store(predicted, (t, k, 0), times(after, weight))  # what each move into the state counts
                add_rows(work, of_table, model, ids, b, n, begin + t)
                advance(work, _AFTER, back, model, work, _MESSAGE)
                for k in range(n_states):
                    smallest = smaller_positive(smallest, load(work, (_MESSAGE, k, 0)))
            add_moves(filtered, predicted, n_steps, of_transition, model)

        add_logs(logs, factors, work)
        both = nothing
        for k in range(n_states):
            both = plus(both, times(load(work, (_MESSAGE, k, 0)), fill(work, entry(initial, (model, k)))))
        least = smaller(least, both)
        share = quotient(load(work, (_WEIGHTS, 0, 0)), both)
        for k in range(n_states):
            of_initial[model, k] += total(times(load(work, (_MESSAGE, k, 0)), share))
        store(work, (_SMALLEST, 0, 0), smallest)
        store(work, (_LEAST, 0, 0), least)
        for lane in range(n):
            log_evidence[model, b + lane] = logs[lane]
            faint = entry(work, (_SMALLEST, 0, lane)) < floor[model]
            cancels = entry(work, (_LEAST, 0, lane)) < smallest_total
            lost[model, b + lane] = (faint or cancels) and entry(work, (_WEIGHTS, 0, lane)) != 0


@inlined
def advance(columns, index, panels, model, out, place):
    """Set out[place] = matrixᵀ · columns[index], four states at a time; panels are padded to whole fours."""
    for j in range(0, out.shape[1], STATES_AT_ONCE):
        c0 = c1 = c2 = c3 = fill(columns, 0)
        panel, column = j // lanes(panels), j % lanes(panels)
        for i in range(panels.shape[2]):
            law = load(columns, (index, i, 0))
            c0 = fma(entry(panels, (model, panel, i, column)), law, c0)
            c1 = fma(entry(panels, (model, panel, i, column + 1)), law, c1)
            c2 = fma(entry(panels, (model, panel, i, column + 2)), law, c2)
            c3 = fma(entry(panels, (model, panel, i, column + 3)), law, c3)
        store(out, (place, j, 0), c0)
        store(out, (place, j + 1, 0), c1)
        store(out, (place, j + 2, 0), c2)
        store(out, (place, j + 3, 0), c3)


@inlined
def copy(source, index, out, place, factor):
    """Set out[place] = factor · source[index]."""
    for k in range(source.shape[1]):
        store(out, (place, k, 0), times(load(source, (index, k, 0)), factor))


@inlined
def read_rows(table, model, ids, b, n, begin, n_steps, rows):
    """Write the likelihood rows of a group's texts as columns."""
    for lane in range(rows.shape[2]):
        sequence = b + min(lane, n - 1)
        for t in range(n_steps):
            token = entry(ids, (model, sequence, begin + t))
            for k in range(rows.shape[1]):
                put(rows, (t, k, lane), entry(table, (model, token, k)))


@inlined
def step(filtered, t, forth, model, rows, totals, predicted):
    """Set predicted[t] and filtered[t+1]; return the totals, and the smallest positive weights."""
    whole, smallest, share = fill(rows, 0), fill(rows, np.inf), quotient(fill(rows, 1), totals)
    advance(filtered, t, forth, model, predicted, t)
    for k in range(rows.shape[1]):
        weight = times(load(predicted, (t, k, 0)), times(load(rows, (t, k, 0)), share))
        store(filtered, (t + 1, k, 0), weight)
        whole, smallest = plus(whole, weight), smaller_positive(smallest, weight)
    return whole, smallest


@inlined
def who_reads(work, t, shortest, lengths, model, b, n):
    """Return one for each text that has a row t, else zero."""
    if t < shortest:
        return fill(work, 1)
    for lane in range(work.shape[2]):
        put(work, (_NUMBERS, 0, lane), 1 if t < entry(lengths, (model, b + min(lane, n - 1))) else 0)
    return load(work, (_NUMBERS, 0, 0))


@inlined
def count(logs, factors, numbers, work):
    """Multiply exp(logs) · factors by numbers, and return the factors, within reach of a float."""
    far = 1e150 if work.itemsize == 8 else 1e15
    products = times(factors, numbers)
    if any_below(products, 1 / far) or any_below(times(fill(work, -1), products), -far):
        add_logs(logs, factors, work)
        add_logs(logs, numbers, work)
        return fill(work, 1)
    return products


@inlined
def add_logs(logs, numbers, work):
    """Add the logarithms of a vector's numbers."""
    store(work, (_NUMBERS, 0, 0), numbers)
    for lane in range(work.shape[2]):
        logs[lane] += np.log(np.float64(entry(work, (_NUMBERS, 0, lane))))


@inlined
def add_rows(work, of_table, model, ids, b, n, t):
    """Add what row t of each text counts to its token's."""
    for lane in range(n):
        token = entry(ids, (model, b + lane, t))
        for k in range(work.shape[1]):
            add_to(of_table, (model, token, k), entry(work, (_OF_ROWS, k, lane)))


@inlined
def add_moves(before, after, n_steps, out, model):
    """Add Σ_t Σ_texts before[t,i] · after[t,j] to out[model,i,j], four j at a time."""
    for i in range(before.shape[1]):
        for j in range(0, before.shape[1], STATES_AT_ONCE):
            c0 = c1 = c2 = c3 = fill(before, 0)
            for t in range(n_steps):
                law = load(before, (t, i, 0))
                c0 = multiply_add(law, load(after, (t, j, 0)), c0)
                c1 = multiply_add(law, load(after, (t, j + 1, 0)), c1)
                c2 = multiply_add(law, load(after, (t, j + 2, 0)), c2)
                c3 = multiply_add(law, load(after, (t, j + 3, 0)), c3)
            out[model, i, j] += total(c0)
            out[model, i, j + 1] += total(c1)
            out[model, i, j + 2] += total(c2)
            out[model, i, j + 3] += total(c3)
