"""Real fine-tuning by SGD, sign-SGD and Adam, which remembers where it started."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot, softplus

from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.randomness import CPU, Seed, generator
from ppl_hmm.errors import InvalidInput, at_least, one_of, within
from ppl_hmm.fine_tuning.classes import class_labels
from ppl_hmm.fine_tuning.functions import Function, Read, ScoreFunction
from ppl_hmm.fine_tuning.subspaces import Parameters, Tensors
from ppl_hmm.heads.adam import Adam
from ppl_hmm.heads.logistic import decide

Optimizer = Literal["sgd", "sign", "adam"]
Loss = Literal["logistic", "squared"]

Gradients = Sequence[Tensor]


class Diverged(InvalidInput):
    """Fine-tuning left the finite numbers: its learning rate is too high."""


class _Descent:
    """Moves parameters against their gradients."""

    def __init__(self, parameters: Gradients, learning_rate: float) -> None:
        self._parameters, self._learning_rate = parameters, learning_rate

    @torch.no_grad()
    def step(self, gradients: Gradients) -> None:
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.sub_(gradient, alpha=self._learning_rate)


class _SignDescent(_Descent):
    """Moves parameters against the signs of their gradients."""

    def step(self, gradients: Gradients) -> None:
        super().step([gradient.sign() for gradient in gradients])


_OPTIMIZERS = {"sgd": _Descent, "sign": _SignDescent, "adam": Adam}


@dataclasses.dataclass(frozen=True, eq=False)
class FineTuning:
    """A fine-tuned network, and the one it was.

    Attributes
    ----------
    function
        The scores as a function of the tuned coordinates, and where these start.
    after
        The coordinates after fine-tuning.
    classes
        (C,): classes of the scores, in order.
    loss
        (steps,): of each batch before its step, in nats for ``'logistic'``.

    See Also
    --------
    ppl_hmm.fine_tune : Makes one, with an example.

    Examples
    --------
    >>> import torch
    >>> from ppl_hmm import fine_tune
    >>> linear = torch.nn.Linear(2, 1, bias=False)
    >>> run = fine_tune(linear, [[1.0, 0.0], [-1.0, 1.0]], ["a", "b"], learning_rate=1.0, steps=20)
    >>> bool(run.loss[-1] < run.loss[0])
    True
    """

    function: ScoreFunction
    after: Tensors
    classes: np.ndarray
    loss: Tensor

    def scores_before(self, inputs: ArrayLike | Tensor) -> Tensor:
        """Return f₀ (N,S) of the network as it was: S = 1, the logit difference, for two classes, C for more."""
        return self.function.scores(self.function.space.start, self.function.inputs(inputs))

    def scores(self, inputs: ArrayLike | Tensor) -> Tensor:
        """Return the scores (N,S) of the fine-tuned network."""
        return self.function.scores(self.after, self.function.inputs(inputs))

    def linear_scores(self, inputs: ArrayLike | Tensor) -> Tensor:
        """Return f₀ + ⟨∇f₀, z − z₀⟩ (N,S): the first-order expansion at the fine-tuned coordinates."""
        moved = {name: part - self.function.space.start[name] for name, part in self.after.items()}
        return self.scores_before(inputs) + self.function.along(moved, self.function.inputs(inputs))

    def predict(self, inputs: ArrayLike | Tensor) -> np.ndarray:
        """Return the class (N,) of inputs; ties go to the higher class."""
        return self.classify(self.scores(inputs))

    def classify(self, scores: Tensor) -> np.ndarray:
        """Return the class (N,) that scores (N,S) choose."""
        found = scores.detach().cpu().numpy()
        return decide(found[:, 0] if found.shape[1] == 1 else found, self.classes)

    def state(self) -> Tensors:
        """Return the fine-tuned parameters by name, for ``load_state_dict(…, strict=False)``."""
        return self.function.space.parameters(self.after)


def fine_tune(
    lm: Function,
    inputs: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    *,
    optimizer: Optimizer = "sgd",
    learning_rate: float,
    steps: int,
    batch_size: int | None = None,
    loss: Loss = "logistic",
    parameters: Parameters | Mapping[str, Tensor] = "all",
    read: Read | None = None,
    seed: Seed = 0,
) -> FineTuning:
    """Fine-tune a network on labelled examples; the network that is passed stays as it is.

    Parameters
    ----------
    lm, parameters, read
        As of :func:`~ppl_hmm.tangent_kernel`.
    inputs, labels
        Examples (N,…) and their classes (N,).
    optimizer
        ``'sgd'``; ``'sign'``, steps along the sign of the gradient, which clipping would not change; ``'adam'``.
    learning_rate, steps
        Constant; and how many steps.
    batch_size
        Drawn without replacement in each pass; all examples in each step by default.
    loss
        Mean of ``'logistic'`` (softmax for C > 2), or of ``'squared'``: ½(f − y)² with y = ±1.
    seed
        Of the batches.

    Raises
    ------
    InvalidInput
        Labels of one class, of another length, or of other classes than the network has; and as
        :func:`~ppl_hmm.tangent_kernel`.
    Diverged
        An :class:`InvalidInput`: the loss is not finite any more.

    See Also
    --------
    ppl_hmm.tangent_kernel : What small steps follow.
    ppl_hmm.linearization_score, ppl_hmm.fixed_features_score : How far these steps do.

    Notes
    -----
    Cost ``steps`` forward and backward passes of a batch. In evaluation mode: without dropout.

    Examples
    --------
    >>> import torch
    >>> from ppl_hmm import fine_tune
    >>> linear = torch.nn.Linear(2, 1, bias=False)
    >>> run = fine_tune(linear, [[1.0, 0.0], [-1.0, 1.0]], ["a", "b"], learning_rate=1.0, steps=20)
    >>> run.predict([[2.0, 0.0], [-2.0, 0.0]]).tolist()
    ['a', 'b']
    """
    one_of("optimizer", optimizer, _OPTIMIZERS)
    one_of("loss", loss, ("logistic", "squared"))
    rate = within("learning_rate", learning_rate, 0.0, 1e6)
    function = ScoreFunction.of(lm, read, parameters)
    examples = function.inputs(inputs)
    classes, numbers = _numbered(labels, len(examples))
    _require_classes(function, examples, classes)
    z = {name: part.clone().requires_grad_() for name, part in function.space.start.items()}
    stepping = _OPTIMIZERS[optimizer](list(z.values()), rate)
    losses = []
    for batch in _batches(len(examples), batch_size, at_least("steps", steps, 0), seed):
        value = _loss(function.apply(z, examples[batch]), numbers[batch], loss)
        if not value.requires_grad:
            remedy = "choose others: the scores do not depend on these"
            raise InvalidInput("parameters", "some that the scores depend on", ", ".join(z), remedy)
        if not torch.isfinite(value):
            raise Diverged(f"loss at step {len(losses)}", "a finite number", f"{value:g}", "lower learning_rate")
        losses.append(value.detach())
        stepping.step(torch.autograd.grad(value, list(z.values()), materialize_grads=True))
    after = {name: part.detach() for name, part in z.items()}
    return FineTuning(function, after, classes, torch.stack(losses) if losses else torch.zeros(0, device=CPU))


def _numbered(labels: ArrayLike | Tensor, n: int) -> tuple[np.ndarray, Tensor]:
    """Return the classes of labels (N,), of any names, and the number of each one's class."""
    classes, numbers = np.unique(class_labels(labels, n), return_inverse=True)
    if len(classes) < 2:
        raise InvalidInput("labels", "at least two classes", f"one class, {classes[0]}", "draw other examples")
    return classes, as_tensor(numbers)


def _require_classes(function: ScoreFunction, examples: Tensor, classes: np.ndarray) -> None:
    n_scores = function.scores(function.space.start, examples[:1]).shape[1]
    expected = 1 if len(classes) == 2 else len(classes)
    if n_scores != expected:
        got, wanted = f"{n_scores} scores", f"{expected} for {len(classes)} classes"
        raise InvalidInput("scores of the network", wanted, got, "use a head of as many classes as labels have")


def _batches(n: int, size: int | None, steps: int, seed: Seed) -> Iterator[slice | Tensor]:
    """Yield the examples of each step."""
    if size is None or at_least("batch_size", size, 1) >= n:
        yield from (slice(None) for _ in range(steps))
        return
    stream = generator(seed, "batches")
    order = torch.zeros(0, dtype=torch.int64, device=CPU)
    for _ in range(steps):
        if len(order) < size:
            order = torch.randperm(n, generator=stream, device=CPU)
        yield order[:size]
        order = order[size:]


def _loss(scores: Tensor, numbers: Tensor, loss: Loss) -> Tensor:
    """Return the mean loss of scores (N,S) for the numbers (N,) of classes."""
    n_scores = scores.shape[1]
    signs = 2.0 * numbers[:, None] - 1 if n_scores == 1 else 2.0 * one_hot(numbers, n_scores) - 1
    if loss == "squared":
        return 0.5 * (scores - signs.to(scores)).square().sum(1).mean()
    return softplus(-signs * scores).mean() if n_scores == 1 else cross_entropy(scores, numbers)
