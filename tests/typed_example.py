"""What a user writes: read by pyright in `make lint`, so that it stays clean for them; never run."""

import numpy as np

from ppl_hmm import (
    HMM,
    LinearHead,
    OracleLM,
    PosteriorTask,
    audit,
    fit_bayes,
    fit_em,
    fit_prompt,
    head_certificate,
    posterior,
    probe_features,
    sample,
)

model = HMM([0.4, 0.3, 0.3], np.full((3, 3), 1 / 3), np.eye(3))
task = PosteriorTask([[0, 1, 0], [0, 0, 1]])
texts = sample(model, 100, length=10, seed=0).tokens
labels = task.labels(posterior(model, texts))
lm = OracleLM(model)
features = probe_features(lm, texts)
head = LinearHead().fit(features.numpy(), labels.numpy())
score: float = float(head.score(features.numpy(), labels.numpy()))
fit = fit_prompt(lm, texts, labels, validation=(texts, labels), seed=0)
rows = fit.prompt.rows
verdict: str = head_certificate(model, task).verdict
tree = audit(model, task, seed=0)
report: str = tree.ppl_hmm.report()
learned: HMM = fit_em(texts, 3, seed=0).model
draws = fit_bayes(texts, 3, draws=10, tune=10, seed=0)
sigma = draws["posterior/sigma_min"].mean().item()
