"""Exact smoothing of text so long that its smoothed law should not be held at once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from torch import Tensor

from ppl_hmm.errors import at_least
from ppl_hmm.exact import segments
from ppl_hmm.inference.rows import LikelihoodRows
from ppl_hmm.models.kinds import Model, Prompt, Text

#: The shortest segments by default: shorter ones cost more calls and save nothing worth having.
SHORTEST_SEGMENT = 256


@dataclasses.dataclass(frozen=True, eq=False)
class SmoothedSegment:
    """The smoothed law of neighbouring positions.

    Attributes
    ----------
    start
        The first position, 0-based over the text.
    smoothed
        (P…,B,S,K): P(H_t=h | x) of S positions from ``start`` on, given all of the text.

    See Also
    --------
    ppl_hmm.smoothed_segments : Computes them.

    Examples
    --------
    >>> from ppl_hmm import HMM, smoothed_segments
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> last = next(smoothed_segments(model, [[0, 1, 1, 0, 1]], segment_length=2))
    >>> last.start, last.smoothed.shape
    (4, torch.Size([1, 1, 2]))
    """

    start: int
    smoothed: Tensor


def smoothed_segments(
    model: Model,
    tokens: Text,
    segment_length: int | None = None,
    *,
    prompt: Prompt | None = None,
    lengths: Text | None = None,
) -> Iterator[SmoothedSegment]:
    """Return an iterator over the smoothed law, segment by segment from the end of the text to its start.

    Together the segments are what :func:`~ppl_hmm.posterior` holds at once as ``smoothed``. Meant for few texts of
    millions of tokens, whose laws are summed up, written to disk or thinned out as they come.

    Parameters
    ----------
    segment_length
        Positions in a segment (the first of the text may be shorter with a prompt, the last one always); √T by default,
        or :data:`SHORTEST_SEGMENT` where that is more. Others are as in :func:`~ppl_hmm.posterior`.

    Raises
    ------
    InvalidInput, ImpossibleText
        Bad arguments; impossible text; a text whose weights come near underflow, also while the iterator is read: use
        ``posterior``, or float64 where parameters are float32 (nearly deterministic models come near it in float32).

    See Also
    --------
    ppl_hmm.posterior : The whole law at once.

    Notes
    -----
    The pass forth runs at the call, the pass back as the iterator is read. Cost O(B·T·K²) time, for one text three
    times that of ``posterior``, for many texts more; O(B·(√T·K + K²)) memory beyond the text, as each text holds a copy
    of the transition; with a memory m^N times both.

    Examples
    --------
    >>> from ppl_hmm import HMM, smoothed_segments
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> [segment.start for segment in smoothed_segments(model, [[0, 1, 1, 0, 1]], segment_length=2)]
    [4, 2, 0]
    """
    rows = LikelihoodRows.of(model, tokens, prompt, lengths)
    n_rows = rows.text.ids.shape[-1]
    if segment_length is None:
        segment_length = max(SHORTEST_SEGMENT, math.isqrt(n_rows - 1) + 1)
    log_evidence, found = segments.smooth_in_segments(rows.text, at_least("segment_length", segment_length, 1))
    rows.require_possible(log_evidence > -math.inf)
    return _of_text(rows, found)


def _of_text(rows: LikelihoodRows, found: Iterator[segments.Segment]) -> Iterator[SmoothedSegment]:
    for where, smoothed in found:
        in_prompt = max(0, rows.n_prompt - where.start)
        if in_prompt < smoothed.shape[2]:
            start = where.start + in_prompt - rows.n_prompt
            yield SmoothedSegment(start, rows.unflatten(smoothed[:, :, in_prompt:]))
