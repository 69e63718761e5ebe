"""Names of groups, dimensions, variables, verdicts and causes: spelled here and nowhere else."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """The answer to a question of recoverability."""

    RECOVERABLE = "recoverable"  # on every text
    SEPARATES = "separates these texts"  # which says nothing of others
    NOT_RECOVERABLE = "not recoverable"
    UNDECIDED = "undecided"


class Cause(StrEnum):
    """What decided a verdict. Advice and reports follow from it."""

    CONDITION_HOLDS = "condition holds"  # a theorem's sufficient condition
    CONDITION_FAILS = "condition fails"  # which proves nothing
    CONSTANT_LABEL = "constant label"  # every text has the same label
    WITNESS = "witness"  # texts that no head classifies
    REFUTATION = "refutation"  # texts that no prompt with any head classifies
    SEARCH = "search"  # weights were found that classify the texts that were given
    ROUNDING = "rounding"  # a head exists in exact arithmetic, and float64 cannot read what it reads
    TOO_LARGE = "too large"  # the condition was not computed
    CONTRADICTED = "contradicted"  # the texts that were read contradict the verdict, which is withdrawn

    @property
    def verdict(self) -> Verdict:
        """The verdict that it leads to."""
        if self in (Cause.CONDITION_HOLDS, Cause.CONSTANT_LABEL):
            return Verdict.RECOVERABLE
        if self is Cause.SEARCH:
            return Verdict.SEPARATES
        refuted = self in (Cause.WITNESS, Cause.REFUTATION)
        return Verdict.NOT_RECOVERABLE if refuted else Verdict.UNDECIDED

    @classmethod
    def of_condition(cls, holds: bool) -> Cause:
        """Return what a sufficient condition decides that holds, or fails."""
        return cls.CONDITION_HOLDS if holds else cls.CONDITION_FAILS


class Reader(StrEnum):
    """What a head reads of a text."""

    MASKED = "masked"  # conditionals at masks, of a masked language model
    CAUSAL = "causal"  # the law of the next token, of a causal one


class Remedy(StrEnum):
    """What an audit recommends."""

    NOTHING = "nothing"  # every text has the same label
    HEAD = "head"
    MASKS = "masks"  # a head on several masks
    PROMPT = "prompt"  # with a head
    ATTENTION = "attention"
    ATTENTION_PROMPT = "attention-prompt"
    CHANNEL = "channel"  # the likelihoods of prompts
    LOG_PROBABILITIES = "log-probabilities"  # a head on them
    BAG_OF_TOKENS = "bag-of-tokens"  # a head on how often each token occurs: no language model
    UNKNOWN = "unknown"  # nothing could be measured


class Basis(StrEnum):
    """What a recommendation rests on."""

    PROOF = "proof"  # a certificate, for every text
    MEASUREMENT = "measurement"  # accuracy on new texts
    NONE = "none"


class DrawsOf(StrEnum):
    """What the draws of a Bayesian fit are draws of."""

    CHAIN = "chain"  # whose limit is the posterior
    GUIDE = "guide"  # an approximation of it, which spreads too little

    @classmethod
    def of_method(cls, method: str) -> DrawsOf:
        """Return what a method of ``fit_bayes`` draws from."""
        return cls.GUIDE if method == "svi" else cls.CHAIN


class Flaw(StrEnum):
    """What is wrong with a proof that does not hold."""

    COVER = "cover"  # its cones are not known to hold every head
    WEIGHTS = "weights"  # a weight is negative, or no number
    LABEL = "label"  # a text's label is not the one that is claimed, by the margin that is claimed
    LEAF = "leaf"  # a weighted score is not negative for every prompt and every head of the cone


class Agreement(StrEnum):
    """What chains of draws say of each other."""

    MIXED = "mixed"  # all agree
    UNFINISHED = "unfinished"  # no two are far apart, and yet they do not agree
    MODES = "different modes"  # some stay where others do not come
    UNKNOWN = "unknown"  # too few draws to tell


class Control(StrEnum):
    """What a probe of beliefs is compared with: features that need no network."""

    RAW_TOKENS = "raw tokens"  # the last few, one-hot each
    MARKOV = "Markov"  # which the last few are, one-hot together
    NEXT_TOKEN = "next-token law"
    LOG_NEXT_TOKEN = "log next-token law"
    FUTURE = "k-token law"  # the joint law of the next few


class Outcome(StrEnum):
    """What came of one check of a language model."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"  # what it rests on failed, or does not apply


class Requirement(StrEnum):
    """What heads and prompts require of a language model."""

    MEMBERS = "members"
    SIZES = "sizes"  # vocabulary_size, batch_shape, prompt_shape and prompt_constraint
    LAWS = "laws"  # shape, dtype, no NaN, no logits, rows that sum to one
    REPEATABLE = "repeatable"  # the same call, the same laws
    POSITIONS = "positions"  # some positions are those of all
    LEAVE_ONE_OUT = "leave one out"  # the law at a position does not depend on its token
    CAUSAL = "causal"  # the law after a prefix does not depend on what follows
    LENGTHS = "lengths"  # no token past the end is read
    TEXTS_APART = "texts apart"  # a text has the same laws in any batch
    ENCODE = "encode"  # encoded text has the same laws
    SUFFIX = "suffix"  # tokens behind a text have the same law as a longer text
    PROMPT = "prompt"  # soft tokens are accepted, one or many prompts at a time, and change laws
    PROMPT_GRADIENT = "prompt gradient"


# Dimensions.
SEQUENCE = "sequence"
POSITION = "position"
TOKEN = "token"
STATE = "state"
STATE_NEXT = "state_next"
CELL = "cell"
MEMORY_VALUE = "memory_value"
OBSERVED_TOKEN = "observed_token"  # the V tokens, then the mask
FEATURE = "feature"  # V+1 blocks of V: what a head reads that sees the token hidden by its mask
MASK = "mask"  # the masks of a chain, in front of the text
CLASS = "class"
PROMPT_POSITION = "prompt_position"
APPROACH = "approach"
SEED = "seed"
N_STATES = "n_states"
MODEL = "model"
SCORE = "score"
CHAIN = "chain"
DRAW = "draw"
QUESTION = "question"
LENGTH = "length"  # tokens of a text that are read
QUANTILE = "quantile"
EXCESS = "excess"  # loss of a language model over the exact one, in nats
MATRIX = "matrix"
SINGULAR_VALUE = "singular_value"
RANK_TOLERANCE = "rank_tolerance"
OTHER_STATE = "other_state"
VIEW = "view"
WITNESS_TEXT = "witness_text"
REMEDY = "remedy"  # what may solve a task, the cheapest first; also the group of an audit's tree
NODE = "node"  # of a cover of all heads by cones
SPLIT = "split"  # of a cone: two generators, and the share of each
LEAF = "leaf"
LAYER = "layer"
CONTROL = "control"
PREFIX = "prefix"  # of a text: its first tokens, or none of them
FOLD = "fold"
N_TEXTS = "n_texts"  # labelled texts that are learned from
TARGET = "target"  # an accuracy to reach
STEP = "step"  # of training

MIXED_STATE = "mixed_state"  # a belief that some text leaves
BOUND = "bound"  # of an entropy: LOWER, UPPER

# Groups of a tree of beliefs; the model is in a group called MODEL.
MIXED_STATES = "mixed_states"
ENTROPIES = "entropies"

# Variables of mixed states.
BELIEF = "belief"
NEXT_TOKEN = "next_token"  # law of the token to come
SUCCESSOR = "successor"
DEPTH = "depth"
N_BELIEFS = "n_beliefs"

# Variables of entropies, and values of BOUND.
BLOCK_ENTROPY = "block_entropy"
MYOPIC_ENTROPY = "myopic_entropy"
MEAN_LOSS = "mean_loss"
ENTROPY_RATE = "entropy_rate"
EXCESS_ENTROPY = "excess_entropy"
LOWER, UPPER = "lower", "upper"
LAG = "lag"  # positions from one token to another
RUN_LENGTH = "run_length"
FREQUENT_TOKEN = "frequent_token"  # the most frequent tokens, then all others as one
FREQUENT_TOKEN_NEXT = "frequent_token_next"
CHECK = "check"
BASELINE = "baseline"
RESTART = "restart"

# Groups of a sample's tree; its model is in a group called MODEL.
OBSERVED_DATA = "observed_data"
LATENT = "latent"

# Groups of an audit's tree; heads and prompts are in groups named for their question.
EXACT_POSTERIOR = "exact_posterior"
FEATURES = "features"
TASK = "task"
RECOVERABILITY = "recoverability"
WITNESS = "witness"
REFUTATION = "refutation"
DIAGNOSTICS = "diagnostics"
DRAWS = "draws"

# An audit of labelled texts, which has no model and no task: its kind, groups of its diagnostics and variables.
AUDIT_OF_LABELS = "audit of labels"
LEARNED = "learned"
LEARNING_CURVE = "learning-curve"
SELECTIVITY = "selectivity"  # accuracy less that on random labels
CONTROL_ACCURACY = "control_accuracy"
TEXTS_NEEDED = "texts_needed"

# Groups of a probe's tree.
LAYERS = "layers"
CONTROLS = "controls"
PREFIXES = "prefixes"

# Variables of /layers and /controls.
R2 = "r2"
MSE = "mse"
FOLD_R2 = "fold_r2"
FOLD_MSE = "fold_mse"
PENALTY = "penalty"
SHUFFLED_R2 = "shuffled_r2"  # of beliefs that were dealt out to other prefixes
IN_SAMPLE_R2 = "in_sample_r2"
IN_SAMPLE_SHUFFLED_R2 = "in_sample_shuffled_r2"
PREDICTIONS = "predictions"
N_FEATURES = "n_features"
REACH = "reach"  # tokens of the past, or of the future, that a control tells of
# Variables of /prefixes.
BELIEFS = "beliefs"
WEIGHT = "weight"
# Groups of a fit's tree, and of the checks of a fitted model; its model is in a group called MODEL.
MODELS = "models"  # of all sizes
VOCABULARY = "vocabulary"
HELD_OUT = "held_out"
PERPLEXITY = "perplexity"  # its variable
RESTARTS = "restarts"
PREDICTIVE_CHECKS = "predictive_checks"
CHECKS = "checks"
POSTERIOR_PREDICTIVE = "posterior_predictive"

# Groups of a Bayesian fit's tree, as ArviZ names them; its draw of highest density is in a group called MODEL.
POSTERIOR = "posterior"
PRIOR = "prior"
SAMPLE_STATS = "sample_stats"
LOG_LIKELIHOOD = "log_likelihood"
# Variables of /posterior and /prior that do not depend on the order of states.
SIGMA_MIN = "sigma_min"  # the smallest singular value of the emission matrix
TRANSITION_TRACE_SQUARED = "transition_trace_squared"  # tr A²
LOG_EVIDENCE = "log_evidence"
# Variables of /sample_stats and /log_likelihood.
LP = "lp"  # log density of the prior times the evidence
DRAWS_OF = "draws_of"  # attribute of the tree: a DrawsOf
LOG_GUIDE = "log_guide"  # log density of the approximation that laws are drawn from
TEXT = "text"
# What Hamiltonian samplers say of a draw, in /sample_stats.
ACCEPTANCE_RATE = "acceptance_rate"
DIVERGING = "diverging"
ENERGY = "energy"
N_STEPS = "n_steps"  # of leapfrog
STEP_SIZE = "step_size"
TREE_DEPTH = "tree_depth"
# Group of a Bayesian fit's tree that says whether its chains agree; its dimensions and variables.
MIXING = "mixing"
QUANTITY = "quantity"  # that does not depend on the order of states
MODE = "mode"  # chains that agree
MODE_OF_CHAIN = "mode_of_chain"
RHAT = "rhat"
ESS_BULK = "ess_bulk"
ESS_TAIL = "ess_tail"
EVIDENCE_GAP = "evidence_gap"  # of a mode to the best one, in nats
N_DIVERGING = "n_diverging"

# Statistics of text that a fitted model is held to.
TOKEN_FREQUENCY = "token_frequency"
BIGRAM_FREQUENCY = "bigram_frequency"
RUN_LENGTH_FREQUENCY = "run_length_frequency"
MUTUAL_INFORMATION = "mutual_information"

# What a fitted model's held-out perplexity is compared with.
UNIGRAM, BIGRAM, TRIGRAM = "unigram", "bigram", "trigram"
BASELINES = (UNIGRAM, BIGRAM, TRIGRAM)

# Variables of /recoverability that decide what is said of a question.
VERDICT = "verdict"
CAUSE = "cause"
N_MASKS = "n_masks"
HALF_RANGE = "half_range"
RADIUS = "radius"
MEDIAN_RADIUS = "median_radius"
CONDITION_RADIUS = "condition_radius"
# Groups of the audit of a fit, a row for each draw of its posterior, or of its prior.
RECOVERABILITY_POSTERIOR = "recoverability_posterior"
RECOVERABILITY_PRIOR = "recoverability_prior"
CONVERGENCE = "convergence"  # of the fit's chains
# Their dimensions and variables, besides those of /recoverability.
BUDGET = "budget"  # half-ranges over ‖μ‖_∞ that are afforded
PROBABILITY = "probability"  # that the half-range is within the budget
PROBABILITY_ERROR = "probability_error"  # its Monte Carlo standard error
ANSWERED = "answered"  # whether the draw has the task
MASKS_NEEDED = "masks_needed"
MARGIN = "margin"
MAJORITY = "majority"  # share of the more frequent label
TRANSFER_BOUND = "transfer_bound"
CONSTRUCTED = "constructed"  # whether the head is, or else is learned
OWN_ACCURACY = "own_accuracy"  # of a draw's head, on text and labels of the draw itself
CROSS_DRAW_ACCURACY = "cross_draw_accuracy"  # on those of the other draws
CROSS_DRAW_SPREAD = "cross_draw_spread"  # standard deviation over the other draws
# Variables of /convergence, besides those of MIXING.
EFFECTIVE_DRAWS = "effective_draws"
PRIOR_DISTANCE = "prior_distance"  # Kolmogorov's, of the posterior from the prior
# Variables of /remedy.
RECOMMENDED = "recommended"
BASIS = "basis"
# Experiments of this package.
HEAD_VS_PROMPT = "head-vs-prompt"
MEMORY_VS_VANILLA = "memory-vs-vanilla"
KERNEL_VIEW = "kernel-view"
LOSS_VS_ERROR = "loss-vs-error"

# Dimensions and variables of fine-tuning, and values of STAGE.
STAGE = "stage"
STAGES = BEFORE, LINEAR, AFTER = "before", "linear", "after"  # LINEAR: the first-order expansion at where it went
LINEARIZATION = "linearization"
DISTANCE = "distance"
READOUT = "readout"  # what the network is read by
OPTIMIZER = "optimizer"
KERNEL = "kernel"
EXACT_KERNEL = "exact_kernel"
TARGET = "target"  # what a kernel is aligned with
SHOTS = "shots"  # examples of each class
RANK = "rank"
N_DIMENSIONS = "n_dimensions"
ARCHITECTURE = "architecture"
ARCHITECTURES = BIDIRECTIONAL, TRANSFORMER = "bidirectional", "transformer"
HEAD_VS_PROMPT_TRAINED = "head-vs-prompt-trained"

# Dimensions of loss against error, and their values.
OBJECTIVE = "objective"
LOSSES = ("tokens", "quad")
TEMPLATE = "template"  # also one of its values
NO_TEMPLATE = "none"
LAST_STATE, COMPLETION = "state", "completion"  # tasks
READ = FEATURES_READ, MEANS_READ, LAWS_READ, PROJECTION_READ = "f", "Φp", "p", "projection"  # along FEATURES
HEADS_OF = "heads_of"  # natural heads: any, or in the row space of the last layer
ANY_HEAD, HEAD_OF_LAYER = "any", "layer"
SIZE = "size"  # ‖v‖_∞ of a head
# Its variables, besides those of a training's log.
EXCESS_SAMPLED = "excess_sampled"  # of the tokens themselves
EXCESS_SAMPLED_ERROR = "excess_sampled_error"
EXCESS_FOR_LAYER = "excess_for_layer"  # over the best features for the last layer
ERROR = "error"
EXACT_ERROR = "exact_error"
EXACT_TAU = "exact_tau"
GUESS_ERROR = "guess_error"  # the share of the smaller class
NATURAL = (  # of a natural head: B, τ, bound, and its hinge loss and error on trained laws
    NATURAL_SIZE,
    NATURAL_TAU,
    NATURAL_BOUND,
    NATURAL_LOSS,
    NATURAL_ERROR,
) = ("natural_size", "natural_tau", "natural_bound", "natural_loss", "natural_error")
TRANSFER_ERROR = "transfer_error"
TRANSFER_CHOSEN = "transfer_chosen"  # the bound where the head was chosen
SLOPE = "slope"  # of log error in log ε

# Groups of an experiment's tree.
RESULTS = "results"
PUBLISHED = "published"
SETTINGS = "settings"
TIMINGS = "timings"
SECONDS = "seconds"

# Variables of /results.
ACCURACY = "accuracy"
SEPARABLE = "separable"
CONDITION = "condition"
UNDECIDABLE = "undecidable"
REDRAWS = "redraws"

# Approaches of the head-vs-prompt experiment.
HEAD = "head"
HEAD_LOG = "head-log"
PROMPT = "prompt"
PROMPT_THEOREM = "prompt-theorem"
PROMPT_THEOREM_THRESHOLD = "prompt-theorem-threshold"
HEAD_ON_MASKS = {2: "head-2-masks", 3: "head-3-masks", 4: "head-4-masks"}  # by how many it reads
# With a trained language model, beside the exact one.
HEAD_TRAINED = "head-trained"
PROMPT_TRAINED = "prompt-trained"
ON_BOTH_LANGUAGE_MODELS = (HEAD, PROMPT, HEAD_TRAINED, PROMPT_TRAINED)

# Approaches of the memory-vs-vanilla experiment.
ATTENTION_SOFTMAX = "attention-softmax"
ATTENTION_HARD = "attention-hard"
ATTENTION_THEOREM = "attention-theorem"
VANILLA_LINEAR = "vanilla-linear"

# Questions of an audit.
MASKS = "masks"
ATTENTION = "attention"
ATTENTION_PROMPT = "attention-prompt"
CHANNEL = "channel"

# Values of yes-or-no results; some questions are not asked of some methods.
NO, YES, NOT_ASKED = 0, 1, -1
FLAGS = {"flag_values": [NOT_ASKED, NO, YES], "flag_meanings": "not_asked no yes"}

# Variables of a training's log, beside EXCESS.
LOSS = "loss"
EXCESS_AT_READ_POSITION = "excess_at_read_position"
TOTAL_VARIATION = "total_variation"
