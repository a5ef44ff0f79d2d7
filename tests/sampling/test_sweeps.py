import pytest
import torch

from genmodel.models.noise import Space, categorical, normal, uniform
from genmodel.sampling.sweeps import Meaning, codes_of

SPACE = Space((categorical(4, 2), uniform(1), normal(2)))


def test_the_codes_of_a_space_are_numbered_by_column() -> None:
    known = codes_of(SPACE)
    assert [code.column for code in known] == list(range(SPACE.width))
    assert [code.part.kind for code in known] == ["categorical"] * 2 + ["uniform"] + ["normal"] * 2


def test_a_sweep_goes_over_the_range_of_one_number_and_keeps_the_others() -> None:
    base = torch.arange(12.0).view(2, 6)  # a class behind the noise of a conditional model
    for code, values in zip(
        codes_of(SPACE), [[0, 1, 2, 3], [0, 1, 2, 3], [-1, 0, 1], [-2, 0, 2], [-2, 0, 2]], strict=True
    ):
        swept = code.sweep(base, 3)
        assert swept[:, :, code.column].tolist() == [values, values]
        rest = [column for column in range(6) if column != code.column]
        assert (swept[:, :, rest] == base[:, None, rest]).all()


def images(levels: list[list[int]]) -> torch.Tensor:
    """[N, F, 2, 2, 1] of one level each."""
    return torch.tensor(levels, dtype=torch.uint8)[:, :, None, None, None].expand(-1, -1, 2, 2, 1)


def test_change_and_evenness_of_known_images() -> None:
    category, _, number, *_ = codes_of(SPACE)
    even = Meaning.of(number.steps(images([[0, 10, 20, 30]])))
    assert even == (pytest.approx(10), pytest.approx(1))
    late = Meaning.of(number.steps(images([[0, 0, 0, 30], [0, 0, 0, 60]])))
    assert late == (pytest.approx(15), 0)
    assert Meaning.of(number.steps(images([[7, 7, 7]]))) == (0, 0)
    # of 4 categories two look alike, though they are not neighbours: 1 of 6 pairs
    steps = category.steps(images([[0, 100, 0, 200]]))
    assert sorted(steps.tolist()) == pytest.approx([0, 100, 100, 100, 200, 200])
    assert Meaning.of(steps).evenness == 0


def test_change_is_the_root_mean_square_over_pixels() -> None:
    pair = torch.zeros(1, 2, 2, 2, 3, dtype=torch.uint8)
    pair[0, 1, 0, 0] = torch.tensor([60, 0, 0])
    assert codes_of(SPACE)[2].steps(pair).tolist() == pytest.approx([60 / 12**0.5])
