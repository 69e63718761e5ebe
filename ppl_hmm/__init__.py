"""When do head tuning and prompt tuning recover a downstream label? Exact answers for hidden Markov models."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ppl_hmm._version import __version__ as __version__

if TYPE_CHECKING:
    from ppl_hmm.auditing import audit
    from ppl_hmm.errors import ForeignFile, ImpossibleText, InvalidInput, PplHmmError
    from ppl_hmm.examples import example
    from ppl_hmm.experiments.head_vs_prompt import head_vs_prompt
    from ppl_hmm.experiments.memory_vs_vanilla import memory_vs_vanilla
    from ppl_hmm.experiments.store import open_results
    from ppl_hmm.heads.attention import AttentionHead, constructed_attention
    from ppl_hmm.heads.linear import LinearHead, constructed_head
    from ppl_hmm.inference import (
        log_likelihood,
        masked_conditionals,
        memory_posterior,
        posterior,
        sample_posterior,
        viterbi,
    )
    from ppl_hmm.language_models.oracle import OracleLM
    from ppl_hmm.language_models.probe import MaskedFeatures, masked_features, probe_features
    from ppl_hmm.language_models.protocol import MaskedLM
    from ppl_hmm.layout import validate
    from ppl_hmm.long_text import SmoothedSegment, smoothed_segments
    from ppl_hmm.models.distribution import CategoricalHMM
    from ppl_hmm.models.hmm import hmm_program
    from ppl_hmm.models.memory import memory_program
    from ppl_hmm.parameters import HMM, ConceptHMM, MemoryHMM, MemoryPrompt, SoftPrompt
    from ppl_hmm.prompts import PromptFit, constructed_prompt, fit_prompt
    from ppl_hmm.recoverability.certificate import Certificate, ConditionNotMet
    from ppl_hmm.recoverability.conditioning import Spectrum, spectra
    from ppl_hmm.recoverability.constant import constant_certificate
    from ppl_hmm.recoverability.head import head_certificate
    from ppl_hmm.recoverability.identifiability import (
        LawSpectrum,
        TripleViews,
        Twin,
        pair_law,
        pair_spectrum,
        pairwise_twin,
        triple_law,
        triple_spectrum,
        triple_views,
    )
    from ppl_hmm.recoverability.memory import (
        MemoryCertificate,
        memory_certificate,
        memory_prompt_certificate,
        restricting_prompt,
    )
    from ppl_hmm.recoverability.position import position_certificate
    from ppl_hmm.recoverability.prompt import prompt_certificate
    from ppl_hmm.recoverability.transfer import (
        SmallestHalfRange,
        Transfer,
        TransferBounds,
        law_ratio,
        smallest_half_range,
        transfer,
        transfer_bounds,
    )
    from ppl_hmm.recoverability.witness import Separability, Witness, find_witness, separability
    from ppl_hmm.regimes import random_hmm, random_memory_hmm, random_task
    from ppl_hmm.sampling import sample
    from ppl_hmm.storage import load, save
    from ppl_hmm.tasks import MemoryTask, PosteriorTask, latent_posterior
    from ppl_hmm.text import MASK

# Where each public name lives: imported at first use, so that ``import ppl_hmm`` loads no library.
_MODULE_OF = {
    "auditing": ("audit",),
    "examples": ("example",),
    "layout": ("validate",),
    "long_text": ("SmoothedSegment", "smoothed_segments"),
    "recoverability.conditioning": ("Spectrum", "spectra"),
    "recoverability.constant": ("constant_certificate",),
    "recoverability.identifiability": (
        "LawSpectrum",
        "TripleViews",
        "Twin",
        "pair_law",
        "pair_spectrum",
        "pairwise_twin",
        "triple_law",
        "triple_spectrum",
        "triple_views",
    ),
    "recoverability.transfer": (
        "SmallestHalfRange",
        "Transfer",
        "TransferBounds",
        "law_ratio",
        "smallest_half_range",
        "transfer",
        "transfer_bounds",
    ),
    "errors": ("ForeignFile", "ImpossibleText", "InvalidInput", "PplHmmError"),
    "experiments.head_vs_prompt": ("head_vs_prompt",),
    "experiments.memory_vs_vanilla": ("memory_vs_vanilla",),
    "experiments.store": ("open_results",),
    "heads.attention": ("AttentionHead", "constructed_attention"),
    "heads.linear": ("LinearHead", "constructed_head"),
    "inference": (
        "log_likelihood",
        "masked_conditionals",
        "memory_posterior",
        "posterior",
        "sample_posterior",
        "viterbi",
    ),
    "language_models.oracle": ("OracleLM",),
    "language_models.probe": ("MaskedFeatures", "masked_features", "probe_features"),
    "language_models.protocol": ("MaskedLM",),
    "models.distribution": ("CategoricalHMM",),
    "models.hmm": ("hmm_program",),
    "models.memory": ("memory_program",),
    "parameters": ("HMM", "ConceptHMM", "MemoryHMM", "MemoryPrompt", "SoftPrompt"),
    "prompts": ("PromptFit", "constructed_prompt", "fit_prompt"),
    "recoverability.certificate": ("Certificate", "ConditionNotMet"),
    "recoverability.head": ("head_certificate",),
    "recoverability.memory": (
        "MemoryCertificate",
        "memory_certificate",
        "memory_prompt_certificate",
        "restricting_prompt",
    ),
    "recoverability.position": ("position_certificate",),
    "recoverability.prompt": ("prompt_certificate",),
    "recoverability.witness": ("Separability", "Witness", "find_witness", "separability"),
    "regimes": ("random_hmm", "random_memory_hmm", "random_task"),
    "sampling": ("sample",),
    "storage": ("load", "save"),
    "tasks": ("MemoryTask", "PosteriorTask", "latent_posterior"),
    "text": ("MASK",),
}
_HOME = {name: module for module, names in _MODULE_OF.items() for name in names}

__all__ = [
    "HMM",
    "MASK",
    "AttentionHead",
    "CategoricalHMM",
    "Certificate",
    "ConceptHMM",
    "ConditionNotMet",
    "ForeignFile",
    "ImpossibleText",
    "InvalidInput",
    "LawSpectrum",
    "LinearHead",
    "MaskedFeatures",
    "MaskedLM",
    "MemoryCertificate",
    "MemoryHMM",
    "MemoryPrompt",
    "MemoryTask",
    "OracleLM",
    "PosteriorTask",
    "PplHmmError",
    "PromptFit",
    "Separability",
    "SmallestHalfRange",
    "SmoothedSegment",
    "SoftPrompt",
    "Spectrum",
    "Transfer",
    "TransferBounds",
    "TripleViews",
    "Twin",
    "Witness",
    "audit",
    "constant_certificate",
    "constructed_attention",
    "constructed_head",
    "constructed_prompt",
    "example",
    "find_witness",
    "fit_prompt",
    "head_certificate",
    "head_vs_prompt",
    "hmm_program",
    "latent_posterior",
    "law_ratio",
    "load",
    "log_likelihood",
    "masked_conditionals",
    "masked_features",
    "memory_certificate",
    "memory_posterior",
    "memory_program",
    "memory_prompt_certificate",
    "memory_vs_vanilla",
    "open_results",
    "pair_law",
    "pair_spectrum",
    "pairwise_twin",
    "position_certificate",
    "posterior",
    "probe_features",
    "prompt_certificate",
    "random_hmm",
    "random_memory_hmm",
    "random_task",
    "restricting_prompt",
    "sample",
    "sample_posterior",
    "save",
    "separability",
    "smallest_half_range",
    "smoothed_segments",
    "spectra",
    "transfer",
    "transfer_bounds",
    "triple_law",
    "triple_spectrum",
    "triple_views",
    "validate",
    "viterbi",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ppl_hmm' has no attribute {name!r}")
    return getattr(import_module(f"ppl_hmm.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
