"""Tasks on a cell of a model's memory."""

from __future__ import annotations

import dataclasses
import typing
from typing import TYPE_CHECKING, ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.labels import Names
from ppl_hmm.errors import InvalidInput
from ppl_hmm.inference.queries import MemoryPosterior, Posterior, memory_posterior
from ppl_hmm.models import MemoryHMM
from ppl_hmm.tasks.base import Task


@typing.final
@dataclasses.dataclass(frozen=True, eq=False)
class MemoryTask(Task):
    """Classify a text by its posterior of one memory cell, P(M_{j*}|x).

    Parameters
    ----------
    weights
        (P…,C,m): w_c for each of C ≥ 2 classes; for two classes μ = w_1 − w_0.
    target_cell
        (P…) integer: j*, counted from 0.

    Raises
    ------
    InvalidInput
        Fewer than two classes, a non-finite weight, a difference of weights that overflows, a cell that is no integer
        or negative.

    See Also
    --------
    PosteriorTask : On a state.
    latent_posterior : The law that its labels are of.

    Examples
    --------
    >>> from ppl_hmm import MemoryTask, example, latent_posterior
    >>> model, _ = example("memory")
    >>> task = MemoryTask([[1, 0], [0, 1]], target_cell=0)  # is value 1 likelier than value 0?
    >>> task.labels(latent_posterior(model, task, [[0, 3], [0, 4]])).tolist()
    [0, 1]
    """

    target_cell: Tensor

    if TYPE_CHECKING:  # array-likes become tensors

        def __init__(
            self,
            weights: ArrayLike | torch.Tensor,
            target_cell: ArrayLike | torch.Tensor,
            *,
            names: Names = ...,
        ) -> None: ...

    dimensions: ClassVar[dict[str, tuple[str, ...]]] = {
        "weights": (schema.CLASS, schema.MEMORY_VALUE),
        "target_cell": (),
    }
    model_type = MemoryHMM
    value = "value"
    if_certain = "ask of another cell, or give the cell another memory_prior"
    integers: ClassVar[frozenset[str]] = frozenset({"target_cell"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.target_cell < 0).any():
            raise InvalidInput(
                "target_cell", "a cell counted from 0", str(int(self.target_cell.min())), "pass e.g. target_cell=0"
            )

    @property
    def n_memory_values(self) -> int:
        """The number m of values of a cell."""
        return self.n_values

    @property
    def latent(self) -> str:
        """``'memory cell 0'``, or another number."""
        return f"memory cell {int(self.target_cell)}"

    def _law_of(self, posterior: Posterior) -> Tensor:
        if not isinstance(posterior, MemoryPosterior):
            raise InvalidInput(
                "posterior of a MemoryTask",
                "that of a MemoryHMM",
                type(posterior).__name__,
                "pass posterior(memory_model, tokens)",
            )
        memory = posterior.memory  # (P…,B,N,m)
        if (self.target_cell >= memory.shape[-2]).any():
            raise InvalidInput(
                "target_cell",
                f"a cell in 0..{memory.shape[-2] - 1}",
                str(int(self.target_cell.max())),
                "use a model and a task with the same cells",
            )
        cell = self.target_cell.to(memory.device)[..., None, None, None]
        return torch.take_along_dim(memory, cell, dim=-2)[..., 0, :]

    def prior(self, model: MemoryHMM, tokens: ArrayLike | Tensor | None = None) -> Tensor:  # noqa: ARG002 (the same for all)
        """Return P(M_{j*}) (m,), whatever the text."""
        return model.memory_prior[int(self.target_cell)]

    def posterior(
        self, model: MemoryHMM, tokens: ArrayLike | Tensor, lengths: ArrayLike | Tensor | None = None
    ) -> Tensor:
        """Return P(M_{j*}|x) (B,m)."""
        return memory_posterior(model, tokens, lengths=lengths)[:, int(self.target_cell)]

    def possible(self, model: MemoryHMM) -> Tensor:
        """Return which values (m,) the cell can hold."""
        return self.prior(model) > 0

    def fits(self, model: MemoryHMM) -> bool:
        """Say whether the memory has the cell, and the task a weight for each of its values."""
        return self.n_values == model.n_memory_values and int(self.target_cell) < model.n_cells

    @classmethod
    def sizes_of(cls, model: MemoryHMM) -> str:
        """Return e.g. ``'2 values of a cell in 0..3'``."""
        return f"{model.n_memory_values} values of a cell in 0..{model.n_cells - 1}"
