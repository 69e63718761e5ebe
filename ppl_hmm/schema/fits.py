"""Names of the trees of models fitted to text."""

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
