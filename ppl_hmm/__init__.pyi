# Every public name, and the module that defines it. Names are imported when they are first used.
from .audits.accessor import open_audit as open_audit
from .audits.audit import audit as audit
from .audits.of_language_model import (
    audit_features as audit_features,
    audit_language_model as audit_language_model,
)
from .audits.over_posterior.posterior import recoverability_posterior as recoverability_posterior
from .audits.texts_needed import TextsNeeded as TextsNeeded, texts_needed as texts_needed
from .base.tokens import MASK as MASK
from .corpus.files import read_text as read_text
from .corpus.vocabulary import Vocabulary as Vocabulary
from .errors import (
    ForeignFile as ForeignFile,
    ImpossibleText as ImpossibleText,
    InvalidInput as InvalidInput,
    PplHmmError as PplHmmError,
)
from .estimation.bayes.fit import fit_bayes as fit_bayes
from .estimation.checks import check_fit as check_fit
from .estimation.em import fit_em as fit_em
from .estimation.fit import EMFit as EMFit, Restarts as Restarts
from .estimation.relabelling import relabel as relabel
from .experiments.engine.store import open_results as open_results
from .experiments.figure3.head_vs_prompt import head_vs_prompt as head_vs_prompt
from .experiments.figure3.memory_vs_vanilla import memory_vs_vanilla as memory_vs_vanilla
from .experiments.fits.corpus import fit_corpus as fit_corpus
from .experiments.kernels.kernel_view import kernel_view as kernel_view
from .experiments.trained.head_vs_prompt import head_vs_prompt_trained as head_vs_prompt_trained
from .experiments.trained.loss_vs_error.loss_vs_error import loss_vs_error as loss_vs_error
from .experiments.trained.memory_vs_vanilla import memory_vs_vanilla_trained as memory_vs_vanilla_trained
from .fine_tuning.alignment import kernel_alignment as kernel_alignment, label_kernel as label_kernel
from .fine_tuning.dynamics import (
    fixed_features_score as fixed_features_score,
    linearization_score as linearization_score,
)
from .fine_tuning.exact import fisher_kernel as fisher_kernel, posterior_kernel as posterior_kernel
from .fine_tuning.kernel import tangent_kernel as tangent_kernel
from .fine_tuning.regression import (
    AsymmetricSVM as AsymmetricSVM,
    KernelLogistic as KernelLogistic,
    KernelRegression as KernelRegression,
)
from .fine_tuning.training import FineTuning as FineTuning, fine_tune as fine_tune
from .heads.attention import AttentionHead as AttentionHead
from .heads.belief_probe import belief_probe as belief_probe
from .heads.constructed import constructed_attention as constructed_attention, constructed_head as constructed_head
from .heads.linear import LinearHead as LinearHead
from .heads.probe_tree import probe_table as probe_table
from .inference.beliefs import Beliefs as Beliefs, beliefs as beliefs
from .inference.entropies import entropies as entropies
from .inference.mixed_states import mixed_states as mixed_states
from .inference.prefixes import Prefixes as Prefixes, prefixes as prefixes
from .inference.queries import (
    log_likelihood as log_likelihood,
    masked_conditionals as masked_conditionals,
    memory_posterior as memory_posterior,
    posterior as posterior,
    sample_posterior as sample_posterior,
    viterbi as viterbi,
)
from .inference.sampling import sample as sample
from .inference.segments import SmoothedSegment as SmoothedSegment, smoothed_segments as smoothed_segments
from .language_models.bidirectional import BidirectionalLM as BidirectionalLM
from .language_models.causal import CausalLM as CausalLM, next_token_features as next_token_features
from .language_models.causal_gru import CausalGRU as CausalGRU
from .language_models.causal_oracle import CausalOracleLM as CausalOracleLM
from .language_models.causal_transformer import CausalTransformer as CausalTransformer
from .language_models.check import check_language_model as check_language_model
from .language_models.checked import Checked as Checked, LanguageModelCheck as LanguageModelCheck
from .language_models.checkpoints import load_language_model as load_language_model
from .language_models.hugging_face_causal import from_causal_lm as from_causal_lm
from .language_models.hugging_face_masked import from_masked_lm as from_masked_lm
from .language_models.oracle import OracleLM as OracleLM
from .language_models.probe import (
    MaskedFeatures as MaskedFeatures,
    masked_features as masked_features,
    probe_features as probe_features,
)
from .language_models.protocol import MaskedLM as MaskedLM
from .language_models.training import Training as Training, train as train
from .language_models.transformer import TransformerLM as TransformerLM
from .models import (
    HMM as HMM,
    ConceptHMM as ConceptHMM,
    MealyHMM as MealyHMM,
    MemoryHMM as MemoryHMM,
    MemoryPrompt as MemoryPrompt,
    SoftPrompt as SoftPrompt,
)
from .programs.distribution import CategoricalHMM as CategoricalHMM
from .programs.guide import DirichletGuide as DirichletGuide
from .programs.hmm import hmm_program as hmm_program
from .programs.memory import memory_program as memory_program
from .programs.priors import HMMPrior as HMMPrior, MemoryHMMPrior as MemoryHMMPrior
from .prompts.constructed import constructed_prompt as constructed_prompt
from .prompts.fitted import PromptFit as PromptFit, fit_prompt as fit_prompt
from .recoverability.attending import MemoryCertificate as MemoryCertificate
from .recoverability.causal import causal_certificate as causal_certificate
from .recoverability.causal_prompt import causal_prompt_certificate as causal_prompt_certificate
from .recoverability.certificate import Certificate as Certificate, ConditionNotMet as ConditionNotMet
from .recoverability.channel import ChannelPrompts as ChannelPrompts, channel_prompts as channel_prompts
from .recoverability.conditioning import Spectrum as Spectrum, spectra as spectra
from .recoverability.constant import constant_certificate as constant_certificate
from .recoverability.decision import PromptDecision as PromptDecision, refute_prompts as refute_prompts
from .recoverability.exact_witness import ExactWitness as ExactWitness, exact_witness as exact_witness
from .recoverability.half_range import (
    SmallestHalfRange as SmallestHalfRange,
    smallest_half_range as smallest_half_range,
)
from .recoverability.head import head_certificate as head_certificate
from .recoverability.identifiability import (
    LawSpectrum as LawSpectrum,
    pair_spectrum as pair_spectrum,
    triple_spectrum as triple_spectrum,
)
from .recoverability.masks import chain_certificate as chain_certificate, masks_needed as masks_needed
from .recoverability.memory import (
    memory_certificate as memory_certificate,
    memory_prompt_certificate as memory_prompt_certificate,
)
from .recoverability.position import position_certificate as position_certificate
from .recoverability.prompt import prompt_certificate as prompt_certificate
from .recoverability.proof import Proof as Proof
from .recoverability.refutation import Refutation as Refutation
from .recoverability.restriction import restricting_prompt as restricting_prompt
from .recoverability.robustness import Robustness as Robustness, robustness as robustness
from .recoverability.search import FoundPrompt as FoundPrompt
from .recoverability.separation import Separability as Separability, separability as separability
from .recoverability.token_laws import pair_law as pair_law, triple_law as triple_law
from .recoverability.transfer import (
    Transfer as Transfer,
    TransferBounds as TransferBounds,
    law_ratio as law_ratio,
    transfer as transfer,
    transfer_bounds as transfer_bounds,
)
from .recoverability.twins import Twin as Twin, pairwise_twin as pairwise_twin
from .recoverability.views import TripleViews as TripleViews, triple_views as triple_views
from .recoverability.witness import (
    Witness as Witness,
    find_witness as find_witness,
)
from .regimes import random_hmm as random_hmm, random_memory_hmm as random_memory_hmm, random_task as random_task
from .regimes.examples import example as example
from .regimes.processes import process as process
from .storage.files import load as load, save as save
from .storage.layout import validate as validate
from .tasks import (
    MemoryTask as MemoryTask,
    PosteriorTask as PosteriorTask,
    document_class as document_class,
    latent_posterior as latent_posterior,
    next_token_class as next_token_class,
    state_of_word as state_of_word,
)

__version__: str
