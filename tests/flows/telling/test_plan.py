"""A run is named by what it does."""

from collections.abc import Collection

import pytest

from flows.telling import plan


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "nothing changed"),
        (["train@vae", "evaluate@vae", "compare", "register"], "1 model changed"),
        (["train@vae", "evaluate@vae", "evaluate@dcgan", "train@dcgan", "reference"], "2 models changed"),
        (["reference", "evaluate@vae", "evaluate@dcgan", "compare"], "2 models judged again"),
        (["register", "compare"], "compare, register changed"),
    ],
)
def test_what_a_run_does_in_short(names: Collection[str], said: str) -> None:
    assert plan.in_short(names) == said
