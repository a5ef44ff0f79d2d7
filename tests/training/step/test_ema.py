import pytest
import torch
from torch import nn

from genmodel.settings.schedule import Schedule
from genmodel.training.step.ema import EMA


def share(average: EMA, images_seen: int, batch_size: int) -> torch.Tensor:
    return torch.tensor(1 - average.decay(images_seen, batch_size))


def test_after_a_half_life_an_old_weight_counts_half() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    average = EMA(module, half_life=100)
    nn.init.ones_(module.weight)
    for step in range(10):
        average.update(module, share(average, 1_000_000 + 10 * step, 10))
    assert average.shadow["weight"].item() == pytest.approx(0.5)


def test_early_on_the_first_weights_are_soon_forgotten() -> None:
    average = EMA(nn.Linear(1, 1), half_life=10_000)
    assert average.decay(images_seen=64, batch_size=64) < 1e-5
    assert average.decay(images_seen=10_000_000, batch_size=64) == pytest.approx(0.5 ** (64 / 10_000))


def test_the_half_life_may_follow_a_schedule() -> None:
    average = EMA(nn.Linear(1, 1), half_life=Schedule(0, 10_000, over=2_000_000, shape="linear"))
    assert average.decay(images_seen=1_000_000, batch_size=64) == pytest.approx(0.5 ** (64 / 5_000))
    assert average.decay(images_seen=9_000_000, batch_size=64) == pytest.approx(0.5 ** (64 / 10_000))


def test_no_half_life_follows_the_module() -> None:
    module = nn.Linear(2, 2)
    average = EMA(module, half_life=0)
    nn.init.constant_(module.weight, 3.0)
    average.update(module, share(average, 10, 10))
    assert torch.equal(average.shadow["weight"], module.weight)


def test_running_statistics_are_averaged_and_counters_copied() -> None:
    module = nn.BatchNorm2d(2)
    average = EMA(module, half_life=100)
    module(torch.randn(4, 2, 3, 3) + 5)
    average.update(module, share(average, 10**9, 100))
    torch.testing.assert_close(average.shadow["running_mean"], module.running_mean * 0.5)
    assert average.shadow["num_batches_tracked"] == 1


def test_weights_are_lent_and_given_back() -> None:
    module = nn.Linear(2, 2)
    own = module.weight.detach().clone()
    average = EMA(module, half_life=100)
    average.shadow["weight"].fill_(7)
    with average.applied_to(module):
        assert (module.weight == 7).all()
        assert not module.training
    assert torch.equal(module.weight, own)
    assert module.training


def test_a_half_life_may_follow_a_schedule() -> None:
    average = EMA(nn.Linear(1, 1), half_life=Schedule(100.0, 1000.0, 1_000_000, "linear"))
    assert average.decay(images_seen=500_000, batch_size=64) == pytest.approx(0.5 ** (64 / 550))
    assert average.decay(images_seen=2_000_000, batch_size=64) == pytest.approx(0.5 ** (64 / 1000))
