"""How far a model's states can be told apart: spectra of its matrices, and distances between its rows.

Rank lies: in nearly deterministic models it is full where the smallest singular value is 1e-11, and a head that exists
on paper is beyond float64 and beyond any trained model. So ranks stand beside the singular values they come from.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.recoverability.arguments import require_model
from ppl_hmm.recoverability.entering import states_entered

#: Shares of the largest singular value below which singular values are not counted.
RANK_TOLERANCES = (1e-12, 1e-9, 1e-6, 1e-3)


class Spectrum(NamedTuple):
    """Singular values of n rows: they are independent iff the n-th is positive.

    See Also
    --------
    spectra : Those of a model's matrices.

    Examples
    --------
    >>> import torch
    >>> from ppl_hmm import Spectrum
    >>> found = Spectrum.of(torch.tensor([[1.0, 0.0], [0.0, 0.5]]))
    >>> found.sigma_min, found.condition_number, found.effective_rank(1e-9)
    (0.5, 2.0, 2)
    """

    singular_values: Tensor  # (min(n, columns),), from the largest
    n_rows: int

    @classmethod
    def of(cls, rows: Tensor) -> Spectrum:
        """Return the spectrum of rows (n,columns). Cost O(n·columns·min(n,columns))."""
        return cls(torch.linalg.svdvals(rows), len(rows))

    @property
    def sigma_min(self) -> float:
        """The n-th singular value: 0 for more rows than columns, and for no rows."""
        return float(self.singular_values[-1]) if 0 < self.n_rows == len(self.singular_values) else 0.0

    @property
    def condition_number(self) -> float:
        """The first over the n-th singular value; infinite where the rows are dependent."""
        return float(self.singular_values[0]) / self.sigma_min if self.sigma_min > 0 else float("inf")

    def effective_rank(self, tolerance: float) -> int:
        """Return how many singular values exceed ``tolerance`` times the largest."""
        if not len(self.singular_values):
            return 0
        return int((self.singular_values > tolerance * self.singular_values[0]).sum())


def spectra(model: HMM, prompt: SoftPrompt | None = None) -> dict[str, Spectrum]:
    """Return the spectra of a model's matrices, by name.

    ``emission`` W; ``emission_entered`` W[S], the rows of the states that enter the mask, after a prompt if there is
    one; ``emission_next`` AW, the laws of the next token; ``transition`` A.

    Raises
    ------
    InvalidInput
        No HMM, a batch, a prompt that does not fit.

    See Also
    --------
    head_certificate : Whether a head exists where rows are dependent.
    pair_spectrum : How far laws of tokens determine the model.

    Notes
    -----
    Cost O(K·V·min(K,V) + K³). Source: Wei, Xie & Ma (2021), Assumptions 3.1 and 3.5, in numbers.

    Examples
    --------
    >>> from ppl_hmm import HMM, spectra
    >>> model = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    >>> {name: round(spectrum.sigma_min, 2) for name, spectrum in spectra(model).items()}
    {'emission': 0.4, 'emission_entered': 0.4, 'emission_next': 0.2, 'transition': 0.5}
    """
    require_model("spectra", model, HMM)
    model = model.detach().to(torch.float64)
    entered = states_entered(model, prompt)
    return {
        "emission": Spectrum.of(model.emission),
        "emission_entered": Spectrum.of(model.emission[entered]),
        "emission_next": Spectrum.of(model.transition @ model.emission),
        "transition": Spectrum.of(model.transition),
    }


def total_variation(rows: Tensor) -> Tensor:
    """Return ½‖p_i − p_j‖₁ (n,n) between all pairs of distributions (n,columns): 0 for aliased states. Cost O(n²V)."""
    return torch.cdist(rows, rows, p=1) / 2
