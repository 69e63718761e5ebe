"""Expected counts: the gradient of the log-evidence by one pass each way."""

from __future__ import annotations

import numpy as np

from ppl_hmm.exact.backends.compiled.compiling import compiled, inlined
from ppl_hmm.exact.backends.compiled.passes import group, log_of
from ppl_hmm.exact.backends.compiled.registers import lanes
from ppl_hmm.exact.backends.compiled.steps import (
    add_outer,
    advance,
    count,
    inner,
    scale,
    smallest_positive,
    start_from,
    start_from_ones,
    weigh,
)
from ppl_hmm.exact.backends.compiled.vectors import accumulate, any_below, entry, fill, load, store, times


@compiled
def gradient(
    first,
    last,
    work,
    checkpoints,
    filtered,
    predicted,
    moves,
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
    """Add Σ_b weight_b ∂ log P(x_b) to the gradients, which are in float64, and write log P(x_b).

    A group takes as many steps as its longest text; past their ends the others read the mask's row, uncounted. Laws
    are kept for one segment of the text at a time, and computed again from the law at its start: ``filtered`` from
    there to the segment's end, ``predicted`` for each of its rows.
    """
    law, message, after, weighted = work[0], work[1], work[2], work[3]
    length, totals = len(predicted), np.empty(len(law), law.dtype)
    logs, factors = np.empty(len(law)), np.empty(len(law))
    for number in range(first, last):
        model, b, n = group(number, len(law), ids.shape[1])
        longest = 0
        for row in range(n):
            longest = max(longest, entry(lengths, (model, b + row)))
        n_segments = (longest + length - 1) // length
        logs[:n], factors[:n] = 0, 1
        start_from(initial, model, n, law)
        lost[model, b : b + n] = any_below(smallest_positive(initial, model), floor[model])
        copy(law, n, checkpoints[0])
        totals[:n] = 1
        for t in range(length * (n_segments - 1)):
            advance(law, n, forth, model, after)
            for row in range(n):
                totals[row], _ = weigh(after, row, table, model, entry(ids, (model, b + row, t)), totals[row], law)
            if (t + 1) % length == 0:
                for row in range(n):
                    scale(law, row, 1 / totals[row] if totals[row] > 0 else 1, law)
                totals[:n] = 1
                copy(law, n, checkpoints[(t + 1) // length])

        start_from_ones(n, message)
        backward_totals = np.ones(n, law.dtype)
        for segment in range(n_segments - 1, -1, -1):
            begin = segment * length
            end = min(begin + length, longest)
            copy(checkpoints[segment], n, filtered[0])
            totals[:n] = 1
            for t in range(begin, end):
                advance(filtered[t - begin], n, forth, model, predicted[t - begin])
                law = filtered[t - begin + 1]
                for row in range(n):
                    token = entry(ids, (model, b + row, t))
                    totals[row], smallest = weigh(predicted[t - begin], row, table, model, token, totals[row], law)
                    if t < entry(lengths, (model, b + row)):
                        count(logs, factors, row, totals[row])
                        if any_below(smallest, floor[model]):
                            lost[model, b + row] = True

            for t in range(end - 1, begin - 1, -1):
                before, law = filtered[t - begin], predicted[t - begin]
                for row in range(n):
                    token, weight = entry(ids, (model, b + row, t)), entry(weights, (model, b + row))
                    divisor = backward_totals[row]
                    backward_totals[row], _ = weigh(message, row, table, model, token, divisor, after)
                    both, read = inner(after, row, law, row), t < entry(lengths, (model, b + row))
                    if read and both < smallest_total:
                        lost[model, b + row] = True
                    if not read or weight == 0 or not both > 0:
                        clear(before, row)
                        clear(weighted, row)
                        continue
                    share = weight / both
                    scale(after, row, share, weighted)
                    add_product(law, share, message, 1 / divisor, row, of_table, model, token)
                add_outer(before, weighted, n, moves)
                advance(after, n, back, model, message)
                for row in range(n):
                    if any_below(smallest_positive(message, row), floor[model]):
                        lost[model, b + row] = True
            flush(moves, of_transition, model)

        for row in range(n):
            log_evidence[model, b + row] = log_of(logs, factors, row)
            both, weight = inner(message, row, initial, model), entry(weights, (model, b + row))
            if both < smallest_total:
                lost[model, b + row] = True
            if weight == 0:  # it adds nothing
                lost[model, b + row] = False
            elif both > 0:
                for j in range(0, message.shape[1], lanes(message)):
                    accumulate(of_initial, (model, j), times(load(message, (row, j)), fill(message, weight / both)))


@inlined
def copy(law, n, out):
    """Copy the first n rows."""
    for row in range(n):
        scale(law, row, 1, out)


@inlined
def clear(law, row):
    """Set a row to zero."""
    for j in range(0, law.shape[1], lanes(law)):
        store(law, (row, j), fill(law, 0))


@inlined
def add_product(left, of_left, right, of_right, row, out, model, index):
    """Add (of_left · left[row]) · (of_right · right[row]), state by state, to out[model,index]: nothing underflows."""
    for j in range(0, left.shape[1], lanes(left)):
        scaled = times(load(left, (row, j)), fill(left, of_left))
        accumulate(out, (model, index, j), times(scaled, times(load(right, (row, j)), fill(right, of_right))))


@inlined
def flush(moves, out, model):
    """Move what has been added up, in the precision of the laws, to out[model], which has room for long sums."""
    for i in range(moves.shape[0]):
        for j in range(0, moves.shape[1], lanes(moves)):
            accumulate(out, (model, i, j), load(moves, (i, j)))
        clear(moves, i)
