# Every public name, and the module that defines it. Names are imported when they are first used.
from .audits.audit import audit as audit
from .base.tokens import MASK as MASK
from .errors import (
    ForeignFile as ForeignFile,
)
from .errors import (
    ImpossibleText as ImpossibleText,
)
from .errors import (
    InvalidInput as InvalidInput,
)
from .errors import (
    PplHmmError as PplHmmError,
)
from .experiments.engine.store import open_results as open_results
from .experiments.figure3.head_vs_prompt import head_vs_prompt as head_vs_prompt
from .experiments.figure3.memory_vs_vanilla import memory_vs_vanilla as memory_vs_vanilla
from .heads.attention import AttentionHead as AttentionHead
from .heads.attention import constructed_attention as constructed_attention
from .heads.linear import LinearHead as LinearHead
from .heads.linear import constructed_head as constructed_head
from .inference.queries import (
    log_likelihood as log_likelihood,
)
from .inference.queries import (
    masked_conditionals as masked_conditionals,
)
from .inference.queries import (
    memory_posterior as memory_posterior,
)
from .inference.queries import (
    posterior as posterior,
)
from .inference.queries import (
    sample_posterior as sample_posterior,
)
from .inference.queries import (
    viterbi as viterbi,
)
from .inference.sampling import sample as sample
from .inference.segments import SmoothedSegment as SmoothedSegment
from .inference.segments import smoothed_segments as smoothed_segments
from .language_models.oracle import OracleLM as OracleLM
from .language_models.probe import (
    MaskedFeatures as MaskedFeatures,
)
from .language_models.probe import (
    masked_features as masked_features,
)
from .language_models.probe import (
    probe_features as probe_features,
)
from .language_models.protocol import MaskedLM as MaskedLM
from .models import (
    HMM as HMM,
)
from .models import (
    ConceptHMM as ConceptHMM,
)
from .models import (
    MemoryHMM as MemoryHMM,
)
from .models import (
    MemoryPrompt as MemoryPrompt,
)
from .models import (
    SoftPrompt as SoftPrompt,
)
from .programs.distribution import CategoricalHMM as CategoricalHMM
from .programs.hmm import hmm_program as hmm_program
from .programs.memory import memory_program as memory_program
from .prompts.fitted import PromptFit as PromptFit
from .prompts.fitted import constructed_prompt as constructed_prompt
from .prompts.fitted import fit_prompt as fit_prompt
from .recoverability.attending import MemoryCertificate as MemoryCertificate
from .recoverability.certificate import Certificate as Certificate
from .recoverability.certificate import ConditionNotMet as ConditionNotMet
from .recoverability.conditioning import Spectrum as Spectrum
from .recoverability.conditioning import spectra as spectra
from .recoverability.constant import constant_certificate as constant_certificate
from .recoverability.half_range import SmallestHalfRange as SmallestHalfRange
from .recoverability.half_range import smallest_half_range as smallest_half_range
from .recoverability.head import head_certificate as head_certificate
from .recoverability.identifiability import (
    LawSpectrum as LawSpectrum,
)
from .recoverability.identifiability import (
    TripleViews as TripleViews,
)
from .recoverability.identifiability import (
    pair_spectrum as pair_spectrum,
)
from .recoverability.identifiability import (
    triple_spectrum as triple_spectrum,
)
from .recoverability.identifiability import (
    triple_views as triple_views,
)
from .recoverability.masks import chain_certificate as chain_certificate
from .recoverability.masks import masks_needed as masks_needed
from .recoverability.memory import (
    memory_certificate as memory_certificate,
)
from .recoverability.memory import (
    memory_prompt_certificate as memory_prompt_certificate,
)
from .recoverability.position import position_certificate as position_certificate
from .recoverability.prompt import prompt_certificate as prompt_certificate
from .recoverability.restriction import restricting_prompt as restricting_prompt
from .recoverability.token_laws import pair_law as pair_law
from .recoverability.token_laws import triple_law as triple_law
from .recoverability.transfer import (
    Transfer as Transfer,
)
from .recoverability.transfer import (
    TransferBounds as TransferBounds,
)
from .recoverability.transfer import (
    law_ratio as law_ratio,
)
from .recoverability.transfer import (
    transfer as transfer,
)
from .recoverability.transfer import (
    transfer_bounds as transfer_bounds,
)
from .recoverability.twins import Twin as Twin
from .recoverability.twins import pairwise_twin as pairwise_twin
from .recoverability.witness import (
    Separability as Separability,
)
from .recoverability.witness import (
    Witness as Witness,
)
from .recoverability.witness import (
    find_witness as find_witness,
)
from .recoverability.witness import (
    separability as separability,
)
from .regimes import random_hmm as random_hmm
from .regimes import random_memory_hmm as random_memory_hmm
from .regimes import random_task as random_task
from .regimes.examples import example as example
from .storage.files import load as load
from .storage.files import save as save
from .storage.layout import validate as validate
from .tasks import MemoryTask as MemoryTask
from .tasks import PosteriorTask as PosteriorTask
from .tasks import latent_posterior as latent_posterior

__version__: str
