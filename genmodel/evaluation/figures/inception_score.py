"""The Inception score, from an extractor's class logits of the samples."""

import math

import torch
from torch import Tensor

from genmodel.evaluation.figures.bootstrap import Estimate


def inception_score(logits: Tensor, splits: int = 10) -> Estimate:
    """exp of the mean KL(p(y|x) || p(y)) of logits [N, K]: between 1 and K (Salimans et al. 2016, section 4).

    As there, the mean over `splits` parts of N / splits; small parts lower it, so compare at equal N only. A part is
    every splits-th row, so that images sorted by class give balanced parts too. NaN where logits are not numbers.
    """
    assert logits.ndim == 2 and len(logits) >= splits, logits.shape
    value, influence = 0.0, torch.zeros(len(logits), dtype=torch.float64)
    for start in range(splits):
        log_p = logits[start::splits].double().log_softmax(dim=1)
        log_marginal = log_p.logsumexp(dim=0) - math.log(len(log_p))
        divergences = (log_p.exp() * (log_p - log_marginal)).sum(dim=1)
        score = float(divergences.mean().exp())
        value += score / splits
        # the marginal's contribution to the derivative sums to 0
        influence[start::splits] = score * (divergences - divergences.mean()) * len(logits) / len(log_p) / splits
    return Estimate(value, influence)
