import torch
from torch import nn

from genmodel.models.parts.improved_gan.history import History


def test_the_term_is_the_distance_to_the_mean_of_all_parameters_so_far() -> None:
    weights = [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(4))]
    history, past = History(weights), []
    for _ in range(5):
        with torch.no_grad():
            for weight in weights:
                weight.add_(torch.randn_like(weight))
        past.append(torch.cat([weight.detach().double().flatten() for weight in weights]))
        mean = torch.stack(past).mean(0)
        distance = history.distance(weights)
        torch.testing.assert_close(distance.double(), (past[-1] - mean).square().sum(), rtol=1e-4, atol=1e-5)
        slopes = torch.autograd.grad(distance, weights)
        expected = 2 * (past[-1] - mean)
        found = torch.cat([slope.flatten() for slope in slopes]).double()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert int(history.count) == 5


def test_at_first_it_is_nothing() -> None:
    weight = nn.Parameter(torch.randn(7))
    assert History([weight]).distance([weight]).item() == 0
