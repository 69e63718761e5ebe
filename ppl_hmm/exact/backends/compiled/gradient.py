"""Expected counts: the gradient of the log-evidence by one pass each way."""

from __future__ import annotations

from ppl_hmm.exact.backends.compiled.passes import group
from ppl_hmm.exact.backends.compiled.steps import (
    add_outer,
    advance,
    inner,
    settle,
    start_from,
    start_from_ones,
    weigh,
    weigh_and_settle,
)
from ppl_hmm.exact.backends.compiled.vectors import accumulate, compiled, fill, lanes, load, store, times


@compiled
def gradient(
    first,
    last,
    work,
    checkpoints,
    predicted,
    scales,
    moves,
    initial,
    forth,
    back,
    table,
    ids,
    floor,
    smallest_total,
    weights,
    of_initial,
    of_transition,
    of_table,
    lost,
):
    """Add Σ_b weight_b ∂ log P(x_b) to the gradients, which are in float64.

    Predictions are kept for one segment of the text at a time, and computed again from the law at its start.
    """
    law, message, after, before, weighted = work[0], work[1], work[2], work[3], work[4]
    length = len(predicted)
    for number in range(first, last):
        model, b, n = group(number, len(law), ids.shape[1])
        start_from(initial, model, n, law)
        copy(law, n, checkpoints[0])
        for t in range(length * (len(checkpoints) - 1)):
            advance(law, n, forth, model, after)
            copy(after, n, law)
            for row in range(n):
                weigh_and_settle(law, row, table, model, ids[model, b + row, t], floor[model])
            if (t + 1) % length == 0:
                copy(law, n, checkpoints[(t + 1) // length])

        start_from_ones(n, message)
        for segment in range(len(checkpoints) - 1, -1, -1):
            begin = segment * length
            end = min(begin + length, ids.shape[2])
            copy(checkpoints[segment], n, law)
            for t in range(begin, end):
                advance(law, n, forth, model, predicted[t - begin])
                copy(predicted[t - begin], n, law)
                for row in range(n):
                    scale, faint = weigh_and_settle(law, row, table, model, ids[model, b + row, t], floor[model])
                    scales[t - begin, row] = scale
                    lost[model, b + row] |= faint

            for t in range(end - 1, begin - 1, -1):
                for row in range(n):
                    token, weight = ids[model, b + row, t], weights[model, b + row]
                    weigh(message, row, table, model, token, after)
                    total = inner(after, row, predicted[t - begin], row)
                    if weight == 0 or not total > 0:
                        clear(before, row)
                        clear(weighted, row)
                    else:
                        share = weight / total
                        scaled(after, row, share, weighted)
                        add_product(predicted[t - begin], message, row, share, of_table, model, token)
                        if t == begin:
                            scaled(checkpoints[segment], row, 1, before)
                        else:
                            weigh(predicted[t - 1 - begin], row, table, model, ids[model, b + row, t - 1], before)
                            scaled(before, row, 1 / scales[t - 1 - begin, row], before)
                    lost[model, b + row] |= total < smallest_total
                add_outer(before, weighted, n, moves)
                advance(after, n, back, model, message)
                for row in range(n):
                    _, faint = settle(message, row, floor[model])
                    lost[model, b + row] |= faint
            flush(moves, of_transition, model)

        for row in range(n):
            total, weight = inner(message, row, initial, model), weights[model, b + row]
            lost[model, b + row] |= total < smallest_total
            if weight != 0 and total > 0:
                for j in range(0, law.shape[1], lanes(law)):
                    accumulate(of_initial, (model, j), times(load(message, (row, j)), fill(message, weight / total)))


@compiled
def copy(law, n, out):
    """Copy the first n rows."""
    for row in range(n):
        scaled(law, row, 1, out)


@compiled
def scaled(law, row, factor, out):
    """Set out[row] = factor · law[row]."""
    for j in range(0, law.shape[1], lanes(law)):
        store(out, (row, j), times(load(law, (row, j)), fill(law, factor)))


@compiled
def clear(law, row):
    """Set a row to zero."""
    for j in range(0, law.shape[1], lanes(law)):
        store(law, (row, j), fill(law, 0))


@compiled
def add_product(left, right, row, factor, out, model, index):
    """Add factor · left[row] · right[row], state by state, to out[model,index]."""
    for j in range(0, left.shape[1], lanes(left)):
        product = times(load(left, (row, j)), load(right, (row, j)))
        accumulate(out, (model, index, j), times(product, fill(left, factor)))


@compiled
def flush(moves, out, model):
    """Move what has been added up, in the precision of the laws, to out[model], which has room for long sums."""
    for i in range(moves.shape[0]):
        for j in range(0, moves.shape[1], lanes(moves)):
            accumulate(out, (model, i, j), load(moves, (i, j)))
        clear(moves, i)
