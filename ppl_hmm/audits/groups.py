"""Diagnostics of a model, a task and texts as labelled datasets, one for each concept.

Names of dimensions are those of :mod:`ppl_hmm.schema`. A variable ``x`` that is an expectation over texts has its
standard error beside it, ``x_se``: 0 where all texts were read.
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.audits import arrays
from ppl_hmm.audits.arrays import Expectation, Weights
from ppl_hmm.audits.texts import Texts
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.models.kinds import Model, n_memories
from ppl_hmm.recoverability.conditioning import RANK_TOLERANCES, Spectrum, spectra, total_variation
from ppl_hmm.recoverability.identifiability import pair_spectrum, triple_spectrum, triple_views
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.recoverability.memory import MemoryCertificate, rows_met
from ppl_hmm.recoverability.transfer import transfer_bounds
from ppl_hmm.tasks import Answers, Task, latent_posterior, latent_prior

#: Probabilities at which quantiles are reported.
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
#: Losses over the exact language model, in nats, at which the transfer bound is reported.
EXCESSES = tuple(float(f"1e{exponent}") for exponent in range(-16, 1))
#: Lags whose laws of pairs are looked at.
LAGS = (1, 2, 3)
# Probabilities times parameters of the laws of triples, above which they are left out.
_IDENTIFIABILITY_LIMIT = 1 << 21
_NATS = {"units": "nats"}


def feature_dimension(certificate: HeadCertificate) -> str:
    """Return the dimension of what a head reads: tokens, or a block of them for each token that it may see."""
    return schema.FEATURE if certificate.sees_token else schema.TOKEN


def conditioning(model: Model, prompt: SoftPrompt | None = None) -> xr.Dataset:
    """Return the spectra of a model's matrices, ranks at several tolerances, and distances between states.

    With a memory, the rows W[a,h,:] of all values and states stand for W.
    """
    if isinstance(model, HMM):
        found = spectra(model)
        if prompt is not None:
            found["emission_entered_after_prompt"] = spectra(model, prompt)["emission_entered"]
    else:
        model = model.detach().to(torch.float64)
        found = {"emission": Spectrum.of(model.emission.flatten(0, 1)), "transition": Spectrum.of(model.transition)}
    longest = max(len(spectrum.singular_values) for spectrum in found.values())
    values = np.full((len(found), longest), np.nan)
    for row, spectrum in zip(values, found.values(), strict=True):
        row[: len(spectrum.singular_values)] = spectrum.singular_values.cpu()
    each = list(found.values())
    dataset = xr.Dataset(
        {
            "singular_values": ((schema.MATRIX, schema.SINGULAR_VALUE), values),
            "sigma_min": (schema.MATRIX, [spectrum.sigma_min for spectrum in each]),
            "condition_number": (schema.MATRIX, [spectrum.condition_number for spectrum in each]),
            "effective_rank": (
                (schema.MATRIX, schema.RANK_TOLERANCE),
                [[spectrum.effective_rank(tolerance) for tolerance in RANK_TOLERANCES] for spectrum in each],
            ),
            "n_rows": (schema.MATRIX, [spectrum.n_rows for spectrum in each]),
        },
        coords={schema.MATRIX: list(found), schema.RANK_TOLERANCE: list(RANK_TOLERANCES)},
    )
    if isinstance(model, HMM):
        distances = total_variation(model.emission.detach().double()).cpu().numpy()
        dataset["total_variation"] = ((schema.STATE, schema.OTHER_STATE), distances)
    return dataset


def margins(task: Task, answers: Answers, weights: Weights = None) -> xr.Dataset:
    """Return the law of |margin|, relative to ‖μ‖_∞, the classes' shares, and the share of undecidable texts."""
    sizes = (answers.margins.abs() / (float(task.scale) or 1.0)).cpu().numpy()
    labels = answers.labels.cpu().numpy()
    classes = np.arange(task.n_classes)
    return xr.Dataset(
        {
            "margin": (schema.QUANTILE, arrays.quantiles(sizes, np.array(QUANTILES), weights)),
            **_expected("class_share", schema.CLASS, arrays.expectation(labels[:, None] == classes, weights)),
            **_expected("undecidable", (), arrays.expectation(~answers.decidable.cpu().numpy(), weights)),
        },
        coords={schema.QUANTILE: list(QUANTILES)},
        attrs={"tolerance": float(task.tolerance)},
    )


def linear_map(
    features: np.ndarray, law: np.ndarray, task: Task, dimension: str, weights: Weights = None
) -> xr.Dataset:
    """Return the best linear map from features to the posterior, E‖P − CG‖², and the variance kept by value."""
    best, latent = arrays.best_linear_map(features, law, weights), task.latent_dimension
    return xr.Dataset(
        {
            "matrix": ((latent, dimension), best.matrix),
            "kept": (latent, best.kept),
            **_expected("squared_error", (), best.squared_error),
        }
    )


def by_length(model: Model, task: Task, texts: Texts) -> dict[str, xr.Dataset]:
    """Return ``information``, what texts tell of the latent, and ``forgetting``, what their ends add, by length read.

    Posteriors given the first t tokens for t = 1, 2, 4, … and T. Information in nats and the accuracy of the best guess
    of the latent; total variation to the posterior given all T tokens, and the share of texts whose answer, a label or
    that the margin is undecidable, is the same.
    Cost that of at most three posteriors.
    """
    n_tokens = texts.tokens.shape[1]
    lengths = sorted({*(2**k for k in range(n_tokens.bit_length()) if 2**k < n_tokens), n_tokens})
    position = task.place.position
    if position is not None:  # shorter beginnings lack the state, or end in another one
        lengths = [length for length in lengths if length == n_tokens or length > position >= 0]
    laws = [latent_posterior(model, task, texts.first(length)) for length in lengths]
    tolerance = task.tolerance_after(n_tokens, model.n_states)
    answers = [task.answers(law, tolerance) for law in laws]
    labels = [torch.where(each.decidable, each.labels, -1) for each in answers]  # the sign of rounding is no label
    distances = [0.5 * (law - laws[-1]).abs().sum(-1).cpu().numpy() for law in laws]
    same = [(each == labels[-1]).cpu().numpy() for each in labels]
    prior, *posteriors = (law.detach().cpu().numpy() for law in (latent_prior(model, task, texts.tokens), *laws))
    weights, priors = texts.weights, np.broadcast_to(prior, posteriors[-1].shape)

    def series(name: str, values: list[Expectation]) -> dict:
        return _expected(name, schema.LENGTH, Expectation(*map(np.array, zip(*values, strict=True))))

    transition = model.transition.detach().cpu().numpy()
    coords = {schema.LENGTH: lengths}
    information = xr.Dataset(
        {
            **series("information", [arrays.information(prior, law, weights) for law in posteriors]),
            **series("bayes_accuracy", [arrays.bayes_accuracy(law, weights) for law in posteriors]),
            "prior_entropy": ((), arrays.expectation(arrays.entropy(priors), weights).value),
        },
        coords=coords,
    )
    for name in ("information", "information_se", "prior_entropy"):
        information[name].attrs = dict(_NATS)
    forgetting = xr.Dataset(
        {
            **series("truncation_distance", [arrays.expectation(each, weights) for each in distances]),
            **series("same_label", [arrays.expectation(each, weights) for each in same]),
            "dobrushin_coefficient": ((), arrays.dobrushin_coefficient(transition)),
            "second_eigenvalue": ((), arrays.second_eigenvalue(transition)),
        },
        coords=coords,
    )
    return {"information": information, "forgetting": forgetting}


def transfer(features: np.ndarray, head: np.ndarray, weights: Weights = None) -> xr.Dataset:
    """Return what error a head (V,), or (C,V), can have on a language model of given loss over the exact one."""
    bounds = transfer_bounds(features, head, EXCESSES, weights)
    return xr.Dataset(
        {
            "bound": (schema.EXCESS, bounds.bound.numpy()),
            "sharp_bound": (schema.EXCESS, bounds.sharp_bound.numpy()),
            "threshold": (schema.EXCESS, bounds.threshold.numpy()),
            "half_range": ((), bounds.half_range),
        },
        coords={schema.EXCESS: (schema.EXCESS, list(EXCESSES), dict(_NATS))},
    )


def identifiability(model: HMM) -> xr.Dataset:
    """Return how far the laws of pairs and triples of tokens determine the model, to first order.

    The spectra of the Jacobians are left out, and the nullities −1, where they would take more than some two
    million entries (K = 30 states of V = 10 tokens take 1.2 million).
    """
    views = triple_views(model)
    dataset = xr.Dataset(
        {
            "sigma_min": (schema.VIEW, list(views.sigma_min)),
            "k_rank": (schema.VIEW, list(views.k_ranks)),
            "identifies": ((), np.int8(views.identifies), dict(schema.FLAGS)),
            "pair_nullity": ((), -1),
            "triple_nullity": ((), -1),
        },
        coords={schema.VIEW: ["previous", "own", "next"]},
        attrs={"lags": list(LAGS)},
    )
    n_states, n_tokens = model.n_states, model.vocabulary_size
    n_parameters = n_states * (n_states + n_tokens - 1) - 1
    if n_parameters * n_tokens**3 > _IDENTIFIABILITY_LIMIT:
        return dataset
    pair, triple = pair_spectrum(model, LAGS), triple_spectrum(model)
    return dataset.assign(
        pair_nullity=((), pair.nullity),
        triple_nullity=((), triple.nullity),
        pair_singular_values=(schema.SINGULAR_VALUE, pair.singular_values.numpy()),
        triple_singular_values=(schema.SINGULAR_VALUE, triple.singular_values.numpy()),
    )


def memory(certificate: MemoryCertificate, texts: Texts) -> xr.Dataset:
    """Return what Theorem M asks of a memory model, and how far its texts meet it.

    ``smallest_angle`` (radians) between the span of the rows of H* and that of all others; ``theta_norm`` ‖Θ‖₂;
    ``coverage`` E max_i P(H_i∈H*|x) and ``covered``, the share of texts where it is 1 up to δ; and how many columns the
    conditions ask for: Theorem M for H*, all rows being independent, and the flattened model.
    """
    model, states = certificate.model, list(certificate.recoverable_states)
    every_value = torch.ones(model.n_memory_values, dtype=torch.bool, device=model.device)
    met = rows_met(model, int(certificate.task.target_cell), every_value)  # rows that no text meets do not matter
    of_states = torch.zeros_like(met)
    of_states[:, states] = True
    own, others = (model.emission[met & chosen].cpu().numpy() for chosen in (of_states, ~of_states))
    theta = certificate.weights.flatten(0, 1).cpu().numpy()
    coverage = certificate.coverage(texts.tokens, texts.lengths).cpu().numpy()
    covered = coverage >= 1 - certificate.attention_tolerance
    others_rank = int(np.linalg.matrix_rank(others)) if len(others) else 0
    return xr.Dataset(
        {
            "smallest_angle": ((), arrays.smallest_angle(own, others), {"units": "radians"}),
            "theta_norm": ((), float(np.linalg.norm(theta, 2)) if theta.size else 0.0),
            **_expected("coverage", (), arrays.expectation(coverage, texts.weights)),
            **_expected("covered", (), arrays.expectation(covered, texts.weights)),
            "columns_of_theorem": ((), len(own) + others_rank),
            "columns_of_rows": ((), model.n_memory_values * model.n_states),
            "columns_of_flattened": ((), n_memories(model) * model.n_states),
            "recoverable": (schema.STATE, np.isin(np.arange(model.n_states), states).astype(np.int8)),
        }
    )


def _expected(name: str, dims: str | tuple, found: Expectation) -> dict[str, tuple]:
    return {name: (dims, found.value), f"{name}_se": (dims, found.standard_error)}
