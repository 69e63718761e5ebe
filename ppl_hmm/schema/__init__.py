"""Names of groups, dimensions, variables, verdicts and causes: spelled here and nowhere else."""

from .enumerations import (
    Agreement as Agreement,
    Basis as Basis,
    Cause as Cause,
    Control as Control,
    DrawsOf as DrawsOf,
    Flaw as Flaw,
    Outcome as Outcome,
    Reader as Reader,
    Remedy as Remedy,
    Requirement as Requirement,
    Verdict as Verdict,
)
from .fits import *  # noqa: F403

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

LAG = "lag"  # positions from one token to another
RUN_LENGTH = "run_length"
FREQUENT_TOKEN = "frequent_token"  # the most frequent tokens, then all others as one
FREQUENT_TOKEN_NEXT = "frequent_token_next"
CHECK = "check"
BASELINE = "baseline"
RESTART = "restart"

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

# Statistics of text that a fitted model is held to.
TOKEN_FREQUENCY = "token_frequency"
BIGRAM_FREQUENCY = "bigram_frequency"
RUN_LENGTH_FREQUENCY = "run_length_frequency"
MUTUAL_INFORMATION = "mutual_information"

# What a fitted model's held-out perplexity is compared with.
UNIGRAM, BIGRAM, TRIGRAM = "unigram", "bigram", "trigram"
BASELINES = (UNIGRAM, BIGRAM, TRIGRAM)

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
COMPARISON = "comparison"  # of a low-rank kernel with which
SAME_MATRICES = "same-matrices"  # adapters of matrices but embeddings, with the kernel of those matrices
ALL_PARAMETERS = "all-parameters"  # the same adapters, with the kernel of all parameters
EMBEDDINGS_TOO = "embeddings-too"  # adapters of embeddings as well, with the kernel of all parameters
SCORES_IN_FULL = "scores-in-full"  # adapters, weights of the words' scores in full, with the kernel of all parameters
N_DIMENSIONS = "n_dimensions"
ARCHITECTURE = "architecture"
ARCHITECTURES = BIDIRECTIONAL, TRANSFORMER = "bidirectional", "transformer"
REGIME = "regime"
WIDTH = "width"
OBJECTIVE = "objective"
TRAINING_STEPS = "training_steps"
HEAD_VS_PROMPT_TRAINED = "head-vs-prompt-trained"
MEMORY_VS_VANILLA_TRAINED = "memory-vs-vanilla-trained"

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
NATURAL = (  # of a natural head: B, τ, bound, and its hinge loss and error on a network
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
# With trained language models, beside the exact ones.
ATTENTION_TRAINED = "attention-trained"
VANILLA_TRAINED = "vanilla-trained"

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
