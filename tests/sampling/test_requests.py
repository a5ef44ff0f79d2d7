"""Codes and classes that are asked for, and the batches in which they are drawn."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genmodel.models.noise import Space, categorical, normal
from genmodel.sampling.requests import BATCH, codes, find_class, in_batches

SPACE = Space((normal(2), categorical(3)))


@given(st.integers(1, 200), st.integers(0, 200), st.integers(0, 2**64 - 1), st.sampled_from([(), (1, 5), (0, 3, 0)]))
def test_the_first_codes_are_the_same_for_any_number(n: int, more: int, seed: int, shares: tuple[int, ...]) -> None:
    drawn = codes(SPACE, shares, n, seed)
    assert drawn.dtype == torch.float32 and drawn.shape == (n, SPACE.width + bool(shares))
    assert torch.equal(codes(SPACE, shares, n + more, seed)[:n], drawn)
    if shares:
        assert {int(label) for label in drawn[:, -1]} <= {label for label, share in enumerate(shares) if share}
        asked = codes(SPACE, shares, n, seed, label=1)
        assert (asked[:, -1] == 1).all() and torch.equal(asked[:, :-1], drawn[:, :-1]), "the same noise"


@given(st.integers(1, 3 * BATCH + 1))
def test_batches_are_all_of_one_size(n: int) -> None:
    seen = []

    def draw(part: torch.Tensor) -> torch.Tensor:
        seen.append(len(part))
        return part * 2

    rows = torch.arange(2.0 * n).view(n, 2)
    assert torch.equal(in_batches(draw, rows), rows * 2)
    assert seen == [BATCH] * -(-n // BATCH)


NAMES = ["7", "cat", "caterpillar", "0", "dog", "5.0", "fish", "bird"]


@pytest.mark.parametrize(
    ("asked", "number"),
    [("cat", 1), ("7", 0), (7, 0), ("0", 3), ("1", 1), (4, 4), ("6", 6), ("5.0", 5)],
)
def test_a_class_is_found_by_its_name_and_then_by_its_number(asked: object, number: int) -> None:
    assert find_class(NAMES, asked) == number


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("catt", "it has no class 'catt'; did you mean 'cat'?"),
        ("Dog", "it has no class 'Dog'; did you mean 'dog'?"),
        ("quark", "it has no class 'quark': its classes are numbered 0 to 7"),
        ("8", "it has no class '8': its classes are numbered 0 to 7"),
        (-1, "it has no class '-1': its classes are numbered 0 to 7"),
        ("٣", "it has no class '٣': its classes are numbered 0 to 7"),
        ("x" * 10**6, "xxx': its classes are numbered 0 to 7"),
        (None, "it has no class 'None'"),
    ],
)
def test_a_class_that_is_not_there_is_told_with_near_names(asked: object, why: str) -> None:
    with pytest.raises(ValueError) as caught:
        find_class(NAMES, asked)
    assert why in str(caught.value) and len(str(caught.value)) < 200


def test_a_model_that_is_not_conditional_has_no_class() -> None:
    with pytest.raises(ValueError, match="it is not conditional: leave out the class"):
        find_class([], "0")
