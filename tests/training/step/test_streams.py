"""Random numbers of training: no two steps of any two seeds share a stream."""

import numpy as np
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from genmodel.models.contract import build_model
from genmodel.params import run_config
from genmodel.training.step.engine import Engine
from genmodel.training.step.streams import _PLACES, _STREAM, begin_stream

SEEDS = st.integers(0, 2**31 - 1)
STEPS = st.integers(0, 2**33 - 1)
WRAP = 2**64


def drawn(seed: int, step: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(7)
    torch.randn(3, generator=rng)  # nothing of what went before stays, least of all a normal number kept for later
    begin_stream(rng, seed, step)
    return torch.randn(8, generator=rng, dtype=torch.float64)


def unmixed(bits: int) -> int:
    """What `mix` made into `bits` with the key _STREAM: each of its moves undone."""
    bits ^= bits >> 31 ^ bits >> 62
    bits = bits * pow(0x94D049BB133111EB, -1, WRAP) % WRAP
    bits ^= bits >> 27 ^ bits >> 54
    bits = bits * pow(0xBF58476D1CE4E5B9, -1, WRAP) % WRAP
    bits ^= bits >> 30 ^ bits >> 60
    bits = (bits - int(_STREAM[0]) * 0xD1342543DE82EF95) * pow(0x9E3779B97F4A7C15, -1, WRAP)
    return (bits - 1) % WRAP


@given(SEEDS, STEPS, st.integers(0, 311))
@example(0, 1_000_003, 0)
@example(2**31 - 1, 2**33 - 1, 311)
def test_seed_and_step_can_be_read_back_from_any_place_of_the_state(seed: int, step: int, place: int) -> None:
    """So the map is injective: equal states are of one seed and one step."""
    rng = torch.Generator()
    begin_stream(rng, seed, step)
    words = rng.get_state().numpy().view(np.uint64)[3:627].astype(np.uint32)
    number = int(words.view(np.uint64)[place])
    assert unmixed(unmixed(number) ^ int(_PLACES[place])) == seed << 33 | step


@given(SEEDS, STEPS, SEEDS, STEPS)
@example(0, 1_000_003, 1, 0)  # the same number in seed * 1_000_003 + step
@example(0, 0, 0, 2**32)  # the same in the lowest 32 bits
@example(0, 0, 2, 0)
@example(0, 1, 1, 0)
def test_the_numbers_of_two_steps_differ(seed: int, step: int, other_seed: int, other_step: int) -> None:
    same = (seed, step) == (other_seed, other_step)
    assert torch.equal(drawn(seed, step), drawn(other_seed, other_step)) == same


def test_the_numbers_are_uniform_and_those_of_neighbours_are_independent() -> None:
    """64 numbers of each of 4,096 steps: their bits, and their correlation with those of the next step and seed."""
    rng = torch.Generator()

    def table(seed: int) -> torch.Tensor:
        rows = []
        for step in range(4096):
            begin_stream(rng, seed, step)
            rows.append(torch.rand(64, generator=rng, dtype=torch.float64))
        return torch.stack(rows) - 0.5

    mine, other = table(0), table(1)
    deviation = 1 / 12 / (4096 * 64) ** 0.5  # of the mean product of two independent ones
    assert abs(float(mine.mean())) < 5 * (1 / 12) ** 0.5 / (4096 * 64) ** 0.5
    for one, two in ((mine[1:], mine[:-1]), (mine, other), (mine[:, 1:], mine[:, :-1])):
        assert abs(float((one * two).mean())) < 5 * deviation


def test_the_engine_draws_each_step_s_noise_from_its_own_stream() -> None:
    def first_noise(seed: int, step: int) -> torch.Tensor:
        training = {"seed": seed, "batch_size": 8}
        values = {"family": "vae", "image_size": 8, "network": {"base_channels": 4}, "training": training}
        config = run_config(values, "toy")
        engine = Engine(build_model(config, 0), config.training, budget=80)
        engine._prepare(8 * step)
        return torch.randn(4, generator=engine.rng)

    assert not torch.equal(first_noise(0, 1_000_003), first_noise(1, 0))
    assert torch.equal(first_noise(1, 5), first_noise(1, 5))


def test_the_state_is_where_torch_keeps_it() -> None:
    """The first number that torch draws is the tempered twist of the words written: those of the Mersenne Twister."""
    rng = torch.Generator()
    begin_stream(rng, 5, 9)
    words = [int(word) for word in rng.get_state().numpy().view(np.uint64)[3:627]]
    theirs = np.random.RandomState()
    theirs.set_state(("MT19937", np.array(words, np.uint32), 624))
    drawn = torch.empty(8, dtype=torch.int32).random_(generator=rng)
    assert drawn.tolist() == [int(word) & 0x7FFFFFFF for word in theirs.randint(0, 2**32, 8, dtype=np.uint32)]
