"""Expected counts of laws that fit one vector, a text at a time: nothing but the text is read from far.

For few texts and states most of a step of :mod:`~ppl_hmm.exact.backends.compiled.gradient` is loops of one round.
"""

from __future__ import annotations

import numpy as np

from ppl_hmm.exact.backends.compiled.compiling import compiled, inlined
from ppl_hmm.exact.backends.compiled.gradient import flush
from ppl_hmm.exact.backends.compiled.passes import group
from ppl_hmm.exact.backends.compiled.vectors import (
    accumulate,
    any_below,
    entry,
    fill,
    fma,
    load,
    smaller_positive,
    store,
    times,
    total,
)

#: Totals of laws between this and its inverse are left as they are.
FAINT = 1e-6


@compiled
def narrow_gradient(
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
    """As :func:`~ppl_hmm.exact.backends.compiled.gradient.gradient`.

    A law is normalised only where its total is below :data:`FAINT` or above the inverse: most steps wait for no sum and
    no division.
    """
    scratch, length, n_states = work[0], len(predicted), forth.shape[2]
    for number in range(first, last):
        model, b, n = group(number, len(scratch), ids.shape[1])
        smallest = floor[model]
        for sequence in range(b, b + n):
            end, weight = entry(lengths, (model, sequence)), entry(weights, (model, sequence))
            n_segments = (end + length - 1) // length
            law = load(initial, (model, 0))
            gone = any_below(smaller_positive(fill(scratch, np.inf), law), smallest)
            store(checkpoints, (0, 0, 0), law)
            factor, whole = 1.0, 1.0
            for t in range(length * (n_segments - 1)):
                after = advanced(law, scratch, forth, model, n_states)
                row = times(load(table, (model, entry(ids, (model, sequence, t)), 0)), fill(scratch, factor))
                law = times(after, row)
                whole = total(law)
                factor = 1.0
                if not FAINT < whole < 1 / FAINT and whole > 0:
                    factor = 1 / whole
                if (t + 1) % length == 0:
                    if whole > 0:
                        law = times(law, fill(scratch, 1 / whole))
                    factor = 1.0
                    store(checkpoints, ((t + 1) // length, 0, 0), law)

            message, of_message, log_total = fill(scratch, 1), 1.0, 0.0
            for segment in range(n_segments - 1, -1, -1):
                begin = segment * length
                stop = min(begin + length, end)
                law = load(checkpoints, (segment, 0, 0))
                factor, whole = 1.0, 1.0
                for t in range(begin, stop):
                    store(filtered, (t - begin, 0, 0), law)
                    after = advanced(law, scratch, forth, model, n_states)
                    store(predicted, (t - begin, 0, 0), after)
                    row = times(load(table, (model, entry(ids, (model, sequence, t)), 0)), fill(scratch, factor))
                    law = times(after, row)
                    whole = total(law)
                    factor = 1.0
                    if not FAINT < whole < 1 / FAINT and whole > 0:
                        log_total += np.log(np.float64(whole))
                        factor = 1 / whole
                    if any_below(smaller_positive(fill(scratch, np.inf), law), smallest):
                        gone = True
                log_total += np.log(np.float64(whole * factor))

                for t in range(stop - 1, begin - 1, -1):
                    token = entry(ids, (model, sequence, t))
                    read = times(message, fill(scratch, of_message))
                    after = times(read, load(table, (model, token, 0)))
                    law = load(predicted, (t - begin, 0, 0))
                    both, whole = total(times(after, law)), total(after)
                    if both < smallest_total:
                        gone = True
                    if weight != 0 and both > 0:
                        share = fill(scratch, weight / both)
                        weighted = times(after, share)
                        accumulate(of_table, (model, token, 0), times(times(law, share), read))
                        for i in range(n_states):
                            products = load(moves, (i, 0))
                            store(moves, (i, 0), fma(entry(filtered, (t - begin, 0, i)), weighted, products))
                    message = advanced(after, scratch, back, model, n_states)
                    if any_below(smaller_positive(fill(scratch, np.inf), message), smallest):
                        gone = True
                    of_message = 1.0
                    if not FAINT < whole < 1 / FAINT and whole > 0:
                        of_message = 1 / whole
                flush(moves, of_transition, model)

            log_evidence[model, sequence] = log_total
            both = total(times(message, load(initial, (model, 0))))
            if both < smallest_total:
                gone = True
            if weight != 0 and both > 0:
                accumulate(of_initial, (model, 0), times(message, fill(scratch, weight / both)))
            lost[model, sequence] = gone and weight != 0  # without weight it adds nothing


@inlined
def advanced(law, scratch, panels, model, n_states):
    """Return law · matrix, whose columns are one vector."""
    store(scratch, (0, 0), law)
    products = fill(scratch, 0)
    for k in range(n_states):
        products = fma(entry(scratch, (0, k)), load(panels, (model, 0, k, 0)), products)
    return products
