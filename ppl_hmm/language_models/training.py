"""One trainer for all language models of this package: AdamW, clipped gradients, a cosine schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar, cast

import torch
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.base.randomness import generator
from ppl_hmm.errors import InvalidInput, at_least, one_of, within
from ppl_hmm.language_models.corpora import Corpus
from ppl_hmm.language_models.objectives import Objective
from ppl_hmm.language_models.resuming import Checkpoint
from ppl_hmm.language_models.run import Plan, Run
from ppl_hmm.language_models.trained import TrainedLM
from ppl_hmm.models.kinds import Model, Text

Kind = TypeVar("Kind", bound=TrainedLM)
Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True, eq=False)
class Training(Generic[Kind]):
    """A trained language model, and how it went.

    Attributes
    ----------
    lm
        The trained copy of the language model that was given.
    log
        By ``step``: ``loss`` on held-out text in nats a token; where the text is a model's, ``excess`` over the best
        loss, ``excess_at_read_position``, and ``total_variation`` to the exact law there.
    objective
        What it was trained on: ``'tokens'``, ``'exact'`` or ``'quad'``.

    See Also
    --------
    ppl_hmm.train : Returns one, with an example.

    Examples
    --------
    >>> from ppl_hmm import BidirectionalLM, example, train
    >>> model, _ = example("aliased")
    >>> found = train(BidirectionalLM(model.vocabulary_size, width=4, seed=0), model, steps=2, length=5, seed=0)
    >>> found.log.attrs["objective"]
    'tokens'
    """

    lm: Kind
    log: xr.Dataset
    objective: str


def train(
    lm: Kind,
    source: Model | Text,
    *,
    objective: str = "tokens",
    steps: int = 2000,
    batch_size: int = 64,
    length: int = 40,
    learning_rate: float = 4e-3,
    warm_up: float | None = None,
    lengthening: float = 0.0,
    seed: int,
    lengths: Text | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Training[Kind]:
    """Train a language model on samples of a model, or on texts.

    Parameters
    ----------
    lm
        :class:`~ppl_hmm.BidirectionalLM`, :class:`~ppl_hmm.TransformerLM` or a causal one; a copy of it is trained.
    source
        An HMM, with or without memory, of which every batch is a fresh sample; or tokens (B,T), a tenth of which are
        held out.
    objective
        ``'tokens'``: cross-entropy of the text. ``'exact'``: cross-entropy against the model's exact laws, another
        problem than learning from text. ``'quad'``: the quadratic loss of Saunshi, Malladi & Arora.
    steps, batch_size
        Batches, and texts in each.
    length
        Tokens of sampled texts; given texts have their own.
    learning_rate
        At its peak; it falls to zero on a cosine.
    warm_up
        Share of the steps in which the learning rate rises to its peak, at least 50 steps. By default a tenth for
        transformers, else 0.
    lengthening
        Share of the steps in which texts grow: at first their beginnings of ten tokens are read, then more and more of
        them. A half helps transformers to learn from texts of forty tokens or more.
    lengths
        (B,), of given texts: what lies past them is not read.
    seed
        Same seed, same batches and, on the CPU with as many threads, the same parameters.
    out
        Directory for the state of training. The same call continues from what is there, to the same numbers bit by bit.
    progress
        Called with (steps done, steps in all).

    Raises
    ------
    InvalidInput
        A language model that is not trained here, another vocabulary, an exact objective without a model, a size below
        one, held-out text of masks alone.
    ForeignFile
        An ``out`` that cannot be used, is damaged, or is of another training (what differs).

    See Also
    --------
    ppl_hmm.load_language_model : Reads a trained model that was saved.
    ppl_hmm.fit_prompt, ppl_hmm.LinearHead : What a trained model is used with.

    Notes
    -----
    AdamW with β₂ = 0.98, gradients clipped to norm one. ``excess`` is a mean divergence from the exact laws: never
    negative, and free of the noise of the tokens drawn. Source: Wei, Xie & Ma (2021), §5; Saunshi, Malladi & Arora
    (2021), §5, for the quadratic loss; Devlin et al. (2019), §A.2, who train on short sequences first.

    Examples
    --------
    >>> from ppl_hmm import BidirectionalLM, example, train
    >>> model, _ = example("aliased")
    >>> lm = BidirectionalLM(model.vocabulary_size, width=8, seed=0)
    >>> found = train(lm, model, objective="exact", steps=40, batch_size=16, length=5, seed=0)
    >>> bool(found.log["excess"][-1] < found.log["excess"][0])
    True
    """
    if not isinstance(lm, TrainedLM):
        expected = "a BidirectionalLM, TransformerLM, CausalGRU or CausalTransformer"
        raise InvalidInput("language model to train", expected, type(lm).__name__, "build one of these")
    one_of("objective", objective, list(Objective))
    plan = Plan(
        Objective(objective),
        at_least("steps", steps, 1),
        at_least("batch_size", batch_size, 1),
        at_least("length", length, 2),
        within("learning_rate", learning_rate, 0.0, 1.0),
        _integer_seed(seed),
        lm.warm_up if warm_up is None else within("warm_up", warm_up, 0.0, 1.0),
        within("lengthening", lengthening, 0.0, 1.0),
    )
    corpus = Corpus.of(source, lm.vocabulary_size, plan.batch_size, plan.length, plan.seed, lengths)
    if plan.objective is Objective.EXACT and corpus.model is None:
        remedy = "train on objective='tokens', or pass the model"
        raise InvalidInput("source of objective 'exact'", "a model, whose laws are exact", "tokens", remedy)
    run = Run(lm, corpus, plan)
    checkpoint = None if out is None else Checkpoint(out, lm, corpus, plan)
    if checkpoint is not None:
        checkpoint.restore(run)
    while run.step < plan.steps:
        run.advance()
        if checkpoint is not None and plan.measures(run.step):
            checkpoint.write(run)
        if progress is not None:
            progress(run.step, plan.steps)
    return Training(cast(Kind, run.lm), _log(run), str(plan.objective))


def _log(run: Run) -> xr.Dataset:
    """Return what was measured along training, by step."""
    columns = {name: [row[name] for row in run.log] for name in run.log[0]}
    steps = [int(step) for step in columns.pop(schema.STEP)]
    log = xr.Dataset({name: (schema.STEP, values) for name, values in columns.items()}, coords={schema.STEP: steps})
    log.attrs = {"language_model": type(run.lm).__name__, **run.lm.configuration, **run.plan.as_attributes()}
    return log


def _integer_seed(seed: object) -> int:
    generator(seed, "training")  # type: ignore[arg-type]  # checks it
    if isinstance(seed, torch.Generator):
        raise InvalidInput("seed of training", "an integer", "a torch.Generator", "pass e.g. seed=0")
    return int(seed)  # type: ignore[call-overload]
