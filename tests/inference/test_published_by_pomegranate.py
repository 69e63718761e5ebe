"""Numbers that pomegranate publishes in its tests and examples.

Inputs and numbers are theirs, read at 6793e53 (0.14.8) and e916273 (1.1.0); the code is ours. Their models end: a state
of its own says so, and a last token, which the probabilities include. Densities are emissions up to a factor.
"""

import dataclasses
import math

import pytest
from published import Example, check, observed, with_end

EVERY_BACKEND = True


def normal(mean, deviation):
    return lambda x: math.exp(-(((x - mean) / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))


def poisson(rate):
    return lambda x: rate**x * math.exp(-rate) / math.factorial(x)


def exponentials(*scales):
    """Independent exponential laws; a component that is None is missing."""
    return lambda x: math.prod(math.exp(-y / s) / s for y, s in zip(x, scales, strict=True) if y is not None)


RAINY_SUNNY = with_end(
    Example(
        name="pomegranate 0.14.8, examples/hmm_rainy_sunny.ipynb",
        start="0.6 0.4",
        transition="0.65 0.25 0.1; 0.35 0.55 0.1",
        emission="0.1 0.4 0.5; 0.6 0.3 0.1",
        alphabet="wsc",
        text="wscccwc",
        states="RS",
        published={"likelihood": "1.854526990800e-05", "likeliest": "SRRRRSR."},
    )
)
DENSE = Example(
    name="pomegranate 0.14.8, test_hmm.py, univariate_discrete_dense",
    start="0.1 0.3 0.2 0.4",
    transition="0.5 0.1 0.1 0.2 0.1; 0.2 0.1 0.4 0.2 0.1; 0.1 0.1 0.3 0.4 0.1; 0.2 0.2 0.1 0.4 0.1",
    emission="0.90 0.02 0.03 0.05; 0.02 0.90 0.03 0.05; 0.03 0.02 0.90 0.05; 0.05 0.02 0.03 0.90",
    alphabet="ABCD",
    text="ABDDC",
    states="0123",
    published={
        "log_likelihood": "-11.09251037",
        "log_forward": """-2.40794561 -5.11599581 -5.11599581 -3.91202301
            -6.89188193 -4.35987383 -8.09848286 -7.43200392
            -8.73634472 -9.47926612 -8.22377759 -5.87605232
            -10.28388158 -10.39501067 -10.80077009 -6.76858029
            -11.780373 -11.84820305 -9.00308599 -11.14654124""",
        # There the second is printed as -9.07513778778706; exact is -9.07513780778706. The test compares six digits.
        "log_backward": """-9.12055182 -9.0751378 -9.06112934 -8.51793449
            -6.95074368 -6.91820721 -6.31718499 -6.32822342
            -5.92623876 -5.83292352 -5.34321014 -5.35235126
            -4.47414192 -3.28341435 -3.54737989 -4.47414192""",
        "smoothed": """0.6466261 0.04511127 0.04574765 0.26251498
            0.06392049 0.83063013 0.03603886 0.06941051
            0.0281538 0.01470336 0.08420699 0.87293586
            0.02559104 0.07532715 0.03855615 0.86052566
            0.05026493 0.04696852 0.80802627 0.09474029""",
        "likeliest": "01332.",
        "path": "01332.",
    },
)
MISSING = dataclasses.replace(
    DENSE,
    name="pomegranate 0.14.8, test_hmm.py, univariate_discrete_dense_nan",
    text="A?D?C",
    published={
        "log_likelihood": "-7.53208902",
        "smoothed": """0.70387409 0.05696743 0.06029543 0.17886305
            0.3466015 0.09826857 0.18851078 0.36661915
            0.04866198 0.02580478 0.03086949 0.89466375
            0.14235469 0.41343118 0.18895729 0.25525684
            0.04074865 0.0224565 0.88794523 0.04884961""",
        "likeliest": "03312.",
        "path": "00312.",
    },
)
COUNTS = dataclasses.replace(
    DENSE,
    name="pomegranate 0.14.8, test_hmm.py, univariate_poisson_dense_nan",
    **observed([5, 8, 2, None, 7, None, 2], *map(poisson, (12.1, 8.7, 1, 5))),
    published={
        "log_likelihood": "-15.98581404",
        "log_smoothed": """-4.57617316 -1.97796947 -5.32345238 -0.16666868
            -2.12417036 -0.56894186 -10.24308433 -1.15738144
            -6.49597059 -4.36413816 -0.45484866 -1.04633997
            -2.06336683 -2.30159819 -1.4353218 -0.62579337""",
        "likeliest": "3123332.",
        "path": "3123312.",
    },
)
GAUSSIAN = dataclasses.replace(
    DENSE,
    name="pomegranate 0.14.8, test_hmm.py, univariate_gaussian_dense",
    **observed([3, 5, 8, 19, 13], normal(5, 1), normal(1, 1), normal(13, 2), normal(16, 0.5)),
    published={
        "log_likelihood": "-24.9076061677",
        "log_forward": """-5.2215236262 -4.1229113375 -15.7215236262 -339.1420820845
            -6.0451494763 -15.0567460072 -14.5712387210 -247.6704447620""",
        "log_smoothed": "-0.78887205 -0.60579496 -12.89687216 -335.62500351",
        "path": "10222.",
    },
)
DIMENSIONS = with_end(
    Example(
        name="pomegranate 1.1.0, test_dense_hmm.py: three exponential components",
        start="0.2 0.8",
        transition="0.1 0.8 0.1; 0.3 0.6 0.1",
        **observed(
            [(1, 2, 0), (0, 0, 1), (1, 1, 2), (2, 2, 2), (3, 1, 0)],
            exponentials(2.1, 0.3, 0.1),
            exponentials(1.5, 3.1, 2.2),
        ),
        states="01",
        published={
            "log_likelihood": "-22.8266",
            "log_forward": "-5.9877 -3.8603; -12.2607 -7.0036; -29.2507 -11.7311; -37.7895 -17.4549; -20.6561 -22.6136",
            "log_backward": "-18.8311 -19.1130; -15.5423 -15.8300; -10.8078 -11.0955; -6.1547 -5.3717; -2.3026 -2.3026",
            "smoothed": "0.1364 0.8636; 0.0069 0.9931; 3.283e-08 1.0000; 6.741e-10 1.0000; 0.8763 0.1237",
            "path": "11110.",
        },
    )
)
PARTLY_MISSING = with_end(
    Example(
        name="pomegranate 1.1.0, test_dense_hmm.py: components missing",
        start="0.2 0.8",
        transition="0.1 0.8 0.1; 0.3 0.6 0.1",
        **observed(
            [(1, 2, 0), (0, None, None), None, (2, 2, 2), (3, 1, 0)],
            exponentials(2.1, 0.3, 0.1),
            exponentials(1.5, 3.1, 2.2),
        ),
        states="01",
        published={
            "log_likelihood": "-15.4630",
            "log_forward": "-5.9877 -3.8603; -5.7673 -4.6291; -5.7316 -4.7842; -30.7211 -10.0912; -13.2925 -15.2500",
            "smoothed": "0.1143 0.8857; 0.2302 0.7698; 0.3408 0.6592; 5.018e-10 1.0000; 0.8763 0.1237",
            "path": "11110.",
        },
    )
)
DENSE, MISSING, COUNTS, GAUSSIAN = map(with_end, (DENSE, MISSING, COUNTS, GAUSSIAN))

EXAMPLES = [each for each in globals().values() if isinstance(each, Example)]


@pytest.mark.parametrize(
    ("example", "quantity"),
    [pytest.param(each, name, id=f"{each.name}: {name}") for each in EXAMPLES for name in each.published],
)
def test_every_printed_digit(example, quantity):
    check(example, quantity)
