"""Check a refutation that Refutation.save wrote: python check_refutation.py FILE. It uses json and fractions alone."""

import json
import sys
from fractions import Fraction


def exact(entry):
    return [exact(each) for each in entry] if isinstance(entry, list) else Fraction(float.fromhex(entry))


def product(rows, vector):
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in rows]


def check(path):
    """Return what is wrong with a proof, None if nothing is."""
    with open(path) as file:
        proof = json.load(file)
    initial, moves, emission, task = (exact(proof[name]) for name in ("initial", "transition", "emission", "task"))
    tolerance, margin, classes = exact(proof["tolerance"]), exact(proof["margin"]), proof["classes"]
    n_states, n_tokens = len(moves), len(emission[0])

    if tolerance < 0 or margin < 0 or any(entry < 0 for row in [initial, *moves, *emission] for entry in row):
        return "a number is negative that may not be"
    messages, signs = [], []  # f_i in units of 2^exponent, y_i
    texts = zip(proof["texts"], proof["labels"], proof["exponents"], strict=True)
    for number, (text, label, exponent) in enumerate(texts):
        message = [Fraction(2) ** exponent] * n_states
        for token in reversed(text):
            likelihoods = [row[token] if token >= 0 else 1 for row in emission]
            message = product(moves, [m * likelihood for m, likelihood in zip(message, likelihoods, strict=True)])
        joint = [p * m for p, m in zip(initial, message, strict=True)]
        scores, least = product(task, joint), tolerance * sum(joint)
        if label not in classes or any(scores[label] - s <= least for c, s in enumerate(scores) if c != label):
            return f"text {number} has another class"
        messages.append(message)
        signs.append(1 if label == classes[1] else -1)

    reached, states = [], {k for k in range(n_states) if initial[k] > 0}  # the states that prompts of each length leave
    while (states := {j for k in states for j in range(n_states) if moves[k][j] > 0}) not in reached:
        reached.append(states)
    cones = []
    for states in (each for each in reached if not any(each < other for other in reached)):
        for w in range(n_tokens):
            for one in (1, -1):
                units = [[int(v == u) for v in range(n_tokens)] for u in range(n_tokens) if u != w]
                cones.append((states, [*units, [one] * n_tokens]))
    cones.reverse()
    weights, leaf = iter(proof["weights"]), 0
    for i, j, s, t in proof["cover"]:
        if not cones:
            return "there are more cones than belong to a cover"
        states, cone = cones.pop()
        if s or t:
            if i == j or not {i, j} <= set(range(n_tokens)) or min(s, t) < 1:
                return "a cone is split at no point between two generators"
            between = [s * a + t * b for a, b in zip(cone[i], cone[j], strict=True)]
            for k in (j, i):
                cones.append((states, [between if n == k else g for n, g in enumerate(cone)]))
            continue
        alpha = {int(text): exact(weight) for text, weight in next(weights, {}).items()}
        total = [sum(a * messages[n][k] for n, a in alpha.items()) for k in range(n_states)]
        balance = [sum(a * signs[n] * messages[n][k] for n, a in alpha.items()) for k in range(n_states)]
        for g in cone:
            slack = margin * (sum(g) - n_tokens * min(g))
            sides = zip(balance, product(emission, g), total, map(sum, emission), strict=True)
            scores = product(moves, [d * read - slack * f * row for d, read, f, row in sides])
            if any(scores[k] >= 0 for k in states if product(moves, total)[k] > 0):
                return f"leaf {leaf} is not negative"
        if not alpha or min(alpha.values()) <= 0:
            return f"leaf {leaf} has no weights, or negative ones"
        leaf += 1
    return "the cones do not cover all heads" if cones or next(weights, None) is not None else None


if __name__ == "__main__":
    flaw = check(sys.argv[1])
    print(flaw or "the proof holds")
    sys.exit(bool(flaw))
