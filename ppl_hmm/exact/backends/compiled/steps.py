"""The steps of the recursions on a few sequences at a time, whose laws are the first rows of a small array.

``law`` (G,K) holds G rows padded with zeros to whole vectors: whole tiles, or no more than :data:`FEW`. A matrix is cut
into panels (P,N,K,W), one vector of columns each, so that the product with a panel reads memory in order.

A law is normalised one step late: it waits as it is while its total is summed, and the next weighing divides by that
total on the way. No step waits for a sum or a division. The totals of all steps make the evidence; :func:`count`
multiplies them up, as pairs of a logarithm and a factor within reach of a float.
"""

from __future__ import annotations

import numpy as np

from ppl_hmm.exact.backends.compiled.compiling import inlined
from ppl_hmm.exact.backends.compiled.logarithms import log
from ppl_hmm.exact.backends.compiled.registers import lanes
from ppl_hmm.exact.backends.compiled.vectors import (
    entry,
    fill,
    fma,
    load,
    load_first,
    plus,
    smaller_positive,
    store,
    store_first,
    times,
    total,
)

#: Sequences whose product with a vector of columns is kept in registers at once.
TILE = 8
#: So many are faster one by one.
FEW = 2
_FAR = 1e150  # factors are kept between this and its inverse


@inlined
def advance(law, n, panels, model, out):
    """Set out[g] = law[g] · matrix for the first n rows. The rest of the last tile is arbitrary."""
    for panel in range(panels.shape[1]):
        if n <= FEW:
            for row in range(n):
                _row_times_panel(law, row, panels, model, panel, out)
        else:
            for row in range(0, n, TILE):
                _tile_times_panel(law, row, panels, model, panel, out)


@inlined
def _tile_times_panel(law, row, panels, model, panel, out):
    c0 = c1 = c2 = c3 = c4 = c5 = c6 = c7 = fill(law, 0)
    for k in range(panels.shape[2]):
        columns = load(panels, (model, panel, k, 0))
        c0 = fma(entry(law, (row, k)), columns, c0)
        c1 = fma(entry(law, (row + 1, k)), columns, c1)
        c2 = fma(entry(law, (row + 2, k)), columns, c2)
        c3 = fma(entry(law, (row + 3, k)), columns, c3)
        c4 = fma(entry(law, (row + 4, k)), columns, c4)
        c5 = fma(entry(law, (row + 5, k)), columns, c5)
        c6 = fma(entry(law, (row + 6, k)), columns, c6)
        c7 = fma(entry(law, (row + 7, k)), columns, c7)
    j = panel * panels.shape[3]
    store(out, (row, j), c0)
    store(out, (row + 1, j), c1)
    store(out, (row + 2, j), c2)
    store(out, (row + 3, j), c3)
    store(out, (row + 4, j), c4)
    store(out, (row + 5, j), c5)
    store(out, (row + 6, j), c6)
    store(out, (row + 7, j), c7)


@inlined
def _row_times_panel(law, row, panels, model, panel, out):
    """For a row alone: four sums at a time, as each waits for its last product."""
    c0 = c1 = c2 = c3 = fill(law, 0)
    in_fours = panels.shape[2] // 4 * 4
    for k in range(0, in_fours, 4):
        c0 = fma(entry(law, (row, k)), load(panels, (model, panel, k, 0)), c0)
        c1 = fma(entry(law, (row, k + 1)), load(panels, (model, panel, k + 1, 0)), c1)
        c2 = fma(entry(law, (row, k + 2)), load(panels, (model, panel, k + 2, 0)), c2)
        c3 = fma(entry(law, (row, k + 3)), load(panels, (model, panel, k + 3, 0)), c3)
    for k in range(in_fours, panels.shape[2]):
        c0 = fma(entry(law, (row, k)), load(panels, (model, panel, k, 0)), c0)
    store(out, (row, panel * panels.shape[3]), plus(plus(c0, c1), plus(c2, c3)))


@inlined
def add_outer(left, right, n, out):
    """Add Σ_g left[g]ᵀ right[g] over the first n rows to out (K,K)."""
    for i in range(0, out.shape[0], TILE):
        for j in range(0, out.shape[1], lanes(out)):
            c0, c1, c2, c3 = load(out, (i, j)), load(out, (i + 1, j)), load(out, (i + 2, j)), load(out, (i + 3, j))
            c4, c5, c6, c7 = load(out, (i + 4, j)), load(out, (i + 5, j)), load(out, (i + 6, j)), load(out, (i + 7, j))
            for row in range(n):
                columns = load(right, (row, j))
                c0 = fma(entry(left, (row, i)), columns, c0)
                c1 = fma(entry(left, (row, i + 1)), columns, c1)
                c2 = fma(entry(left, (row, i + 2)), columns, c2)
                c3 = fma(entry(left, (row, i + 3)), columns, c3)
                c4 = fma(entry(left, (row, i + 4)), columns, c4)
                c5 = fma(entry(left, (row, i + 5)), columns, c5)
                c6 = fma(entry(left, (row, i + 6)), columns, c6)
                c7 = fma(entry(left, (row, i + 7)), columns, c7)
            store(out, (i, j), c0)
            store(out, (i + 1, j), c1)
            store(out, (i + 2, j), c2)
            store(out, (i + 3, j), c3)
            store(out, (i + 4, j), c4)
            store(out, (i + 5, j), c5)
            store(out, (i + 6, j), c6)
            store(out, (i + 7, j), c7)


@inlined
def start_from(initial, model, n, law):
    """Set the first n rows to the initial law."""
    for row in range(n):
        for j in range(0, law.shape[1], lanes(law)):
            store(law, (row, j), load(initial, (model, j)))


@inlined
def start_from_ones(n, law):
    """Set the first n rows to one for each state: the message after the last row."""
    for row in range(n):
        for j in range(0, law.shape[1], lanes(law)):
            store(law, (row, j), fill(law, 1))


@inlined
def weigh(law, row, table, model, likelihood, divisor, out):
    """Set out[row] = law[row] · table[likelihood] / divisor, state by state; return the total, and the smallest > 0."""
    whole, smallest = fill(law, 0), fill(law, np.inf)
    share = fill(law, 1 / divisor if divisor > 0 else 1)
    for j in range(0, law.shape[1], lanes(law)):
        weight = times(load(law, (row, j)), times(load(table, (model, likelihood, j)), share))
        whole, smallest = plus(whole, weight), smaller_positive(smallest, weight)
        store(out, (row, j), weight)
    return total(whole), smallest


@inlined
def smallest_positive(law, row):
    """Return the smallest positive weights of a row, one for each lane."""
    smallest = fill(law, np.inf)
    for j in range(0, law.shape[1], lanes(law)):
        smallest = smaller_positive(smallest, load(law, (row, j)))
    return smallest


@inlined
def row_total(law, row):
    """Return Σ_h law[row,h]."""
    whole = fill(law, 0)
    for j in range(0, law.shape[1], lanes(law)):
        whole = plus(whole, load(law, (row, j)))
    return total(whole)


@inlined
def scale(law, row, factor, out):
    """Set out[row] = factor · law[row]."""
    for j in range(0, law.shape[1], lanes(law)):
        store(out, (row, j), times(load(law, (row, j)), fill(law, factor)))


@inlined
def count(logs, factors, row, number):
    """Multiply exp(logs[row]) · factors[row] by a number."""
    product = factors[row] * number
    if 1 / _FAR < product < _FAR:
        factors[row] = product
    else:
        logs[row] += np.log(factors[row]) + np.log(np.float64(number))
        factors[row] = 1


@inlined
def log_row(numbers, row):
    """Replace a row of whole vectors of numbers in float64 by their logarithms."""
    for j in range(0, numbers.shape[1], lanes(numbers)):
        store(numbers, (row, j), log(load(numbers, (row, j))))


@inlined
def inner(law, row, other, index):
    """Return Σ_h law[row,h] · other[index,h]."""
    whole = fill(law, 0)
    for j in range(0, law.shape[1], lanes(law)):
        whole = plus(whole, times(load(law, (row, j)), load(other, (index, j))))
    return total(whole)


@inlined
def keep(law, row, out, model, sequence, slot):
    """Write a row, without its padding, to out[model,sequence,slot]."""
    for j in range(0, out.shape[3], lanes(out)):
        store_first(out, (model, sequence, slot, j), load(law, (row, j)), out.shape[3] - j)


@inlined
def keep_law(law, row, divisor, out, model, sequence, slot):
    """Write a row divided by its total, without its padding, to out[model,sequence,slot]; zeros where that is zero."""
    share = fill(law, 1 / divisor if divisor > 0 else 1)
    for j in range(0, out.shape[3], lanes(out)):
        store_first(out, (model, sequence, slot, j), times(load(law, (row, j)), share), out.shape[3] - j)


@inlined
def combine(law, row, out, model, sequence, slot):
    """Multiply what is kept by a row and normalise it; return the product's total."""
    n_states, whole = out.shape[3], fill(law, 0)
    for j in range(0, n_states, lanes(out)):
        kept = load_first(out, (model, sequence, slot, j), n_states - j)
        whole = plus(whole, times(load(law, (row, j)), kept))
    number = total(whole)
    share = fill(law, 1 / number if number > 0 else 0)
    for j in range(0, n_states, lanes(out)):
        kept = load_first(out, (model, sequence, slot, j), n_states - j)
        product = times(times(load(law, (row, j)), kept), share)
        store_first(out, (model, sequence, slot, j), product, n_states - j)
    return number
