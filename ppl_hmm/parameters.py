"""Parameters of hidden Markov models and soft prompts: frozen, validated records.

Conventions (docs/conventions.md): a *silent* initial state H₀ emits nothing; row-stochastic ``transition`` and
``emission``; X₁ is emitted by H₁, after one transition from H₀.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from ppl_hmm import schema
from ppl_hmm.errors import InvalidInput
from ppl_hmm.records import Record
from ppl_hmm.text import as_tensor

if TYPE_CHECKING:
    from pyro.distributions import DiscreteHMM

# How far a row may sum from one: above the rounding of float32 rows, also once they are float64; below any mistake.
_ROW_SUM_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}


@dataclasses.dataclass(frozen=True, eq=False)
class HMM(Record):
    """A hidden Markov model over tokens, with a silent initial state.

    Parameters
    ----------
    initial
        π₀ (P…,K): law of H₀, which emits nothing.
    transition
        A (P…,K,K): A[h,h'] = P(H_{t+1}=h' | H_t=h).
    emission
        W (P…,K,V): W[h,x] = P(X_t=x | H_t=h).

    Raises
    ------
    InvalidInput
        A row that is not a distribution (which, its sum), a negative or non-finite entry, mismatched sizes.

    Notes
    -----
    Array-likes become float64 tensors unless all are float32. Leading batch dimensions P… hold several models of
    equal size. Source: Wei, Xie & Ma (2021), §2, whose A and W are column-stochastic (transposed here).
    """

    initial: torch.Tensor
    transition: torch.Tensor
    emission: torch.Tensor

    dimensions: ClassVar[dict[str, tuple[str, ...]]] = {
        "initial": (schema.STATE,),
        "transition": (schema.STATE, schema.STATE_NEXT),
        "emission": (schema.STATE, schema.TOKEN),
    }

    def __post_init__(self) -> None:
        self._convert()
        n_states = self.initial.shape[-1]
        if self.transition.shape[-2:] != (n_states, n_states) or self.emission.shape[-2] != n_states:
            raise InvalidInput(
                "sizes of HMM",
                "initial (K,), transition (K, K), emission (K, V)",
                f"initial {tuple(self.initial.shape)}, transition {tuple(self.transition.shape)}, "
                f"emission {tuple(self.emission.shape)}",
                "give all three the same number of states K",
            )
        for name in self.dimensions:
            _check_distributions(name, getattr(self, name))

    @property
    def n_states(self) -> int:
        """K."""
        return self.initial.shape[-1]

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self.emission.shape[-1]

    def to_hmmlearn(self) -> Any:
        """Return the ``hmmlearn.hmm.CategoricalHMM`` of the same law: its first state emits, so start = π₀A."""
        self._require_single("to_hmmlearn")
        from hmmlearn.hmm import CategoricalHMM

        model = CategoricalHMM(n_components=self.n_states, n_features=self.vocabulary_size, init_params="")
        model.startprob_ = (self.initial @ self.transition).detach().cpu().numpy()
        model.transmat_ = self.transition.detach().cpu().numpy()
        model.emissionprob_ = self.emission.detach().cpu().numpy()
        return model

    @classmethod
    def from_hmmlearn(cls, model: Any) -> HMM:
        """Return the exact equal of an hmmlearn ``CategoricalHMM``, with one silent start state added *last*.

        The start state K moves to state h with probability ``startprob_[h]`` and is never visited again, so states
        0..K−1 keep their indices. Its emission row is never used; it is set uniform.
        """
        if type(model).__name__ != "CategoricalHMM" or not hasattr(model, "emissionprob_"):
            raise InvalidInput(
                "from_hmmlearn",
                "a CategoricalHMM with parameters",
                type(model).__name__,
                "fit it, or set startprob_, transmat_ and emissionprob_",
            )
        start = as_tensor(model.startprob_).double()
        transition, emission = as_tensor(model.transmat_).double(), as_tensor(model.emissionprob_).double()
        n_states, vocabulary_size = emission.shape
        silent = start.new_zeros(n_states + 1)
        silent[-1] = 1.0
        padded = torch.cat([transition, start[None]])
        return cls(
            initial=silent,
            transition=torch.cat([padded, padded.new_zeros(n_states + 1, 1)], dim=1),
            emission=torch.cat([emission, emission.new_full((1, vocabulary_size), 1 / vocabulary_size)]),
        )

    def to_discrete_hmm(self, duration: int | None = None) -> DiscreteHMM:
        """Return Pyro's ``DiscreteHMM`` with these parameters (it has the same silent H₀).

        Log-probabilities are passed as ``logits``: ``probs`` would clamp exact zeros. ``duration`` is T, which
        ``DiscreteHMM`` needs in order to sample.
        """
        from pyro.distributions import Categorical, DiscreteHMM

        emission = self.emission.log()[..., None, :, :]
        return DiscreteHMM(
            self.initial.log(), self.transition.log()[..., None, :, :], Categorical(logits=emission), duration=duration
        )

    @classmethod
    def from_discrete_hmm(cls, distribution: DiscreteHMM) -> HMM:
        """Return the parameters of a homogeneous ``DiscreteHMM`` with categorical emissions.

        Raises
        ------
        InvalidInput
            The emissions are not categorical, or the model changes over time.
        """
        emission = getattr(distribution.observation_dist, "logits", None)
        if emission is None or not hasattr(distribution.observation_dist, "_num_events"):
            raise InvalidInput(
                "observation distribution of DiscreteHMM",
                "Categorical",
                type(distribution.observation_dist).__name__,
                "only tokens are supported",
            )
        transition = distribution.transition_logits
        # Without a time dimension the parameters are constant in time.
        transition, emission = (logits if logits.ndim > 2 else logits[None] for logits in (transition, emission))
        if transition.shape[-3] != 1 or emission.shape[-3] != 1:
            raise InvalidInput(
                "DiscreteHMM",
                "parameters constant in time (time dimension of size 1)",
                f"transition {tuple(transition.shape)}, emission {tuple(emission.shape)}",
                "pass a homogeneous model",
            )
        transition, emission = transition[..., 0, :, :].exp(), emission[..., 0, :, :].exp()
        initial = distribution.initial_logits.exp()
        batch_shape = torch.broadcast_shapes(initial.shape[:-1], transition.shape[:-2], emission.shape[:-2])
        return cls(
            initial.expand(*batch_shape, *initial.shape[-1:]),
            transition.expand(*batch_shape, *transition.shape[-2:]),
            emission.expand(*batch_shape, *emission.shape[-2:]),
        )

    def _require_single(self, method: str) -> None:
        if self.batch_shape:
            raise InvalidInput(
                method,
                "a single model",
                f"batch dimensions {self.batch_shape}",
                "convert the models one by one: [model[i] for i in range(n)]",
            )


@dataclasses.dataclass(frozen=True, eq=False)
class SoftPrompt(Record):
    """A soft prompt: L fake tokens put before the text, each given by its row.

    Parameters
    ----------
    rows
        (P…,L,K) for an HMM: the likelihood row u_l ≥ 0 of each prompt token. The language model that uses the
        prompt checks the trailing shape and the sign (a trained model takes real embeddings).

    Raises
    ------
    InvalidInput
        Fewer than two dimensions, no prompt token, or a non-finite entry.
    """

    rows: torch.Tensor

    dimensions: ClassVar[dict[str, tuple[str, ...]]] = {"rows": (schema.PROMPT_POSITION, schema.STATE)}

    def __post_init__(self) -> None:
        self._convert()
        if 0 in self.rows.shape:
            raise InvalidInput(
                "prompt",
                "at least one prompt token",
                f"shape {tuple(self.rows.shape)}",
                "pass prompt=None for no prompt",
            )


def prompt_rows(
    prompt: object,
    prompt_shape: tuple[int, ...],
    batch_shape: tuple[int, ...] = (),
    *,
    nonnegative: bool,
    like: torch.Tensor,
) -> torch.Tensor:
    """Return checked rows (L,*prompt_shape), or (P…,L,*prompt_shape), in the dtype and on the device of ``like``.

    Raises
    ------
    InvalidInput
        Not a prompt of this shape, or (for likelihood rows) a negative entry.
    """
    record = prompt if isinstance(prompt, SoftPrompt) else SoftPrompt(prompt)  # type: ignore[arg-type]
    rows = record.rows.to(dtype=like.dtype, device=like.device)
    if not torch.isfinite(rows).all() or ((rows == 0) & (record.rows.to(like.device) != 0)).any():
        raise InvalidInput(
            "prompt",
            f"entries in the range of {like.dtype}",
            "one too large or too small",
            "divide each row by its largest entry, or use a float64 model",
        )
    n_own = len(prompt_shape)
    if tuple(rows.shape[-n_own:]) != prompt_shape or tuple(rows.shape[: -n_own - 1]) not in ((), batch_shape):
        raise InvalidInput(
            "prompt",
            f"shape {('L', *prompt_shape)}",
            f"shape {tuple(rows.shape)}",
            "give one row for each prompt token",
        )
    if nonnegative and (rows < 0).any():
        where = (rows < 0).nonzero()[0].tolist()
        raise InvalidInput(
            f"prompt row entry {where}",
            "a non-negative likelihood",
            str(rows[tuple(where)].item()),
            "pass likelihoods, not embeddings or logarithms",
        )
    return rows


def _check_distributions(name: str, rows: torch.Tensor) -> None:
    if 0 in rows.shape:
        raise InvalidInput(name, "non-empty dimensions", f"shape {tuple(rows.shape)}", "pass at least one entry")
    if (rows < 0).any():
        where = (rows < 0).nonzero()[0].tolist()
        raise InvalidInput(
            f"{name}{where}", "a non-negative probability", str(rows[tuple(where)].item()), "remove negative entries"
        )
    sums = rows.detach().sum(-1)
    wrong = (sums - 1).abs() > _ROW_SUM_TOLERANCE[rows.dtype]
    if wrong.any():
        where = wrong.nonzero()[0].tolist()
        row = f" row {where[0] if len(where) == 1 else where}" if where else ""
        raise InvalidInput(
            f"{name}{row} is not a distribution",
            "entries that sum to 1",
            f"a sum of {sums[tuple(where)].item():.{7 if rows.dtype == torch.float32 else 10}g}",
            "divide the row by its sum",
        )
