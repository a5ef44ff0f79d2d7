"""The range coder by itself, against arithmetic of unlimited precision where that is the judge."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genmodel.compression.range_coder import TOTAL, Decoder, Encoder, cumulative


@st.composite
def messages(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    """Frequencies of each symbol's own distribution, [N, S + 1], and symbols, likely and unlikely ones."""
    count, n = draw(st.integers(2, 256)), draw(st.integers(0, 60))
    seed, peak = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0.0, 1.0, 30.0, 700.0]))
    rng = np.random.default_rng(seed)
    probabilities = np.exp(peak * rng.uniform(-1, 0, (n, count)))
    kind = draw(st.sampled_from(["any", "first", "last", "least", "likeliest"]))
    chosen = {
        "any": rng.integers(0, count, n),
        "first": np.zeros(n, int),
        "last": np.full(n, count - 1),
        "least": probabilities.argmin(axis=1) if n else np.zeros(0, int),
        "likeliest": probabilities.argmax(axis=1) if n else np.zeros(0, int),
    }
    return cumulative(probabilities), [int(symbol) for symbol in chosen[kind]]


def encoded(starts: np.ndarray, symbols: list[int]) -> bytes:
    encoder = Encoder()
    for row, symbol in zip(starts, symbols, strict=True):
        encoder.encode(int(row[symbol]), int(row[symbol + 1]))
    return encoder.finish()


@settings(deadline=None, max_examples=300)
@given(messages())
def test_what_is_encoded_comes_back_in_no_more_bytes_than_it_is_worth(told: tuple[np.ndarray, list[int]]) -> None:
    starts, symbols = told
    code = encoded(starts, symbols)
    decoder = Decoder(code)
    assert [decoder.decode(row) for row in starts] == symbols
    sizes = [int(row[symbol + 1] - row[symbol]) for row, symbol in zip(starts, symbols, strict=True)]
    bits = sum(math.log2(TOTAL / size) for size in sizes)
    assert 8 * len(code) < bits + 9 + 1e-6 * len(symbols)


@settings(deadline=None, max_examples=100)
@given(messages(), st.binary(max_size=100))
def test_any_bytes_decode_to_symbols_without_an_error(told: tuple[np.ndarray, list[int]], code: bytes) -> None:
    starts, _ = told
    decoder = Decoder(code)
    assert all(0 <= decoder.decode(row) < len(row) - 1 for row in starts)


def test_a_carry_runs_through_bytes_of_ones() -> None:
    """Symbols at the upper end give bytes of 255, until one lifts them all."""
    rng, carried = np.random.default_rng(0), 0
    for _ in range(300):
        starts = cumulative(np.ones((40, 3)) * [1, 1e-9, 2])
        symbols = [2] * 30 + [int(symbol) for symbol in rng.integers(0, 3, 10)]
        code = encoded(starts, symbols)
        decoder = Decoder(code)
        assert [decoder.decode(row) for row in starts] == symbols
        carried += b"\xff" in code or b"\0" in code
    assert carried


@settings(deadline=None)
@given(st.integers(2, 256), st.integers(0, 2**32 - 1), st.sampled_from([1.0, 100.0, 1e4]))
def test_frequencies_are_whole_and_none_is_zero(count: int, seed: int, peak: float) -> None:
    logits = peak * np.random.default_rng(seed).uniform(-1, 0, (5, count))
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    starts = cumulative(probabilities)
    assert starts.dtype == np.int64 and (starts[:, 0] == 0).all() and (starts[:, -1] == TOTAL).all()
    sizes = np.diff(starts, axis=1)
    assert sizes.min() >= 1
    shares = probabilities / probabilities.sum(axis=1, keepdims=True)
    assert np.abs(sizes / TOTAL - shares).max() < 2 * (count + 1) / TOTAL


def test_the_code_of_uniform_bytes_is_as_long_as_they_are() -> None:
    symbols = np.random.default_rng(0).integers(0, 256, 5000).tolist()
    code = encoded(cumulative(np.ones((5000, 256))), symbols)
    assert len(code) == pytest.approx(5000, abs=2)
