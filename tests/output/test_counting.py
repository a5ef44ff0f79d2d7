"""A count and its noun agree."""

import pytest

from genmodel.output.counting import counted


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (0, "image", "0 images"),
        (1, "image", "1 image"),
        (1797, "image", "1,797 images"),
        (1, "class", "1 class"),
        (2, "process", "2 processes"),
        (2, "other file", "2 other files"),
    ],
)
def test_a_noun_follows_its_number(number: int, noun: str, words: str) -> None:
    assert counted(number, noun) == words
