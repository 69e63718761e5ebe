"""A guide for Pyro's SVI: every row of every law has a Dirichlet law of its own, independent of all others."""

from __future__ import annotations

import pyro
from pyro.distributions import Dirichlet, constraints
from pyro.nn import PyroModule, PyroParam

from ppl_hmm.base import foreign
from ppl_hmm.programs.priors import HMMPrior, MemoryHMMPrior, Prior


class DirichletGuide(PyroModule):
    """Mean-field guide of a program's parameters: q(θ) = Π Dirichlet(row; concentrations), which SVI learns.

    For :func:`~ppl_hmm.hmm_program` and :func:`~ppl_hmm.memory_program` with a prior and without groups, summed or
    enumerated. Rows are independent under q: it underestimates how far the parameters spread.

    Parameters
    ----------
    start
        Concentrations to start from, an :class:`~ppl_hmm.HMMPrior` or :class:`~ppl_hmm.MemoryHMMPrior`. Good ones are
        ``prior.updated(model, tokens)`` at the most likely model: a symmetric start gives symmetric states, between
        which SVI has to choose.

    Raises
    ------
    InvalidInput
        A start that is no prior.

    See Also
    --------
    HMMPrior : Priors, and where to start.
    fit_em : The most likely model.

    Examples
    --------
    >>> import pyro
    >>> from pyro.infer import SVI, Trace_ELBO
    >>> from ppl_hmm import DirichletGuide, HMMPrior, example, hmm_program, sample
    >>> model, _ = example("aliased")
    >>> tokens, prior = sample(model, 20, length=10, seed=0).tokens, HMMPrior.symmetric(3, 3)
    >>> pyro.clear_param_store()
    >>> guide = DirichletGuide(prior.updated(model, tokens))
    >>> svi = SVI(hmm_program, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    >>> svi.step(prior, tokens, summed=True) > 0  # minus the evidence's lower bound
    True
    >>> guide.prior.emission.shape
    torch.Size([3, 3])
    """

    def __init__(self, start: Prior) -> None:
        super().__init__()
        foreign.require(start, (HMMPrior, MemoryHMMPrior), "start of a DirichletGuide", "an HMMPrior")
        self._start = start
        for name, concentration in start.concentrations.items():
            setattr(self, f"{name}_concentration", PyroParam(concentration.clone(), constraint=constraints.positive))

    @property
    def prior(self) -> Prior:
        """The concentrations as they are now."""
        learned = {name: getattr(self, f"{name}_concentration").detach() for name in self._start.concentrations}
        return type(self._start)(**learned, **{name: getattr(self._start, name) for name in self._start.integers})

    def forward(self, *_: object, **__: object) -> None:
        """Sample the unknown parameters; the program's arguments are not needed."""
        for name in self._start.concentrations:
            concentration = getattr(self, f"{name}_concentration")
            if concentration.shape[-1] > 1:  # else the row is known
                pyro.sample(name, Dirichlet(concentration).to_event(concentration.ndim - 1))
