"""A range coder (Martin 1979): symbols into bytes, as many as their probabilities are worth, and back.

Probabilities are whole frequencies out of TOTAL, as the coder and the decoder must agree on them to the last bit.
"""

import numpy as np

_BITS = 24
TOTAL = 1 << _BITS
_MASK = (1 << 64) - 1
_SHIFT = 56  # the next byte is the highest of 64 bits; a range is above 2**56, so that 24 bits divide it finely


def cumulative(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities float64 [N, S] of S < TOTAL symbols -> int64 [N, S + 1], where each symbol's frequencies begin.

    From 0 to TOTAL, with at least 1 for every symbol: whatever comes can be coded.
    """
    sums = probabilities.cumsum(axis=1)
    count = probabilities.shape[1]
    shares = np.floor(sums / sums[:, -1:] * (TOTAL - count)).astype(np.int64)
    starts = np.concatenate([np.zeros_like(shares[:, :1]), shares], axis=1)
    found: np.ndarray = starts + np.arange(count + 1)
    return found


class Encoder:
    """The code is a number within a range that each symbol narrows to its share."""

    def __init__(self) -> None:
        self._low, self._range = 0, 1 << 64
        self._bytes = bytearray()

    def encode(self, start: int, stop: int) -> None:
        """A symbol with the frequencies start .. stop - 1 of TOTAL."""
        step = self._range >> _BITS
        self._low += start * step
        self._range = (stop - start) * step
        self._carry()
        while self._range <= 1 << _SHIFT:
            self._shift()
            self._range <<= 8

    def finish(self) -> bytes:
        """The code; zeros after its end are left out."""
        self._low += (1 << _SHIFT) - 1  # the number within the range that ends in zeros
        self._carry()
        self._shift()
        return bytes(self._bytes.rstrip(b"\0"))

    def _carry(self) -> None:
        if self._low > _MASK:
            self._low &= _MASK
            place = len(self._bytes) - 1
            while self._bytes[place] == 0xFF:
                self._bytes[place] = 0
                place -= 1
            self._bytes[place] += 1

    def _shift(self) -> None:
        self._bytes.append(self._low >> _SHIFT)
        self._low = (self._low << 8) & _MASK


class Decoder:
    def __init__(self, code: bytes) -> None:
        self._code, self._next = code, 8
        self._value, self._range = int.from_bytes(code[:8].ljust(8, b"\0")), 1 << 64  # above the range's lower end

    def decode(self, starts: np.ndarray) -> int:
        """The next symbol, of those that begin at `starts`, a row of what `cumulative` gives."""
        step = self._range >> _BITS
        place = min(self._value // step, TOTAL - 1)  # a damaged code may lie above the last symbol
        symbol = int(np.searchsorted(starts, place, side="right")) - 1
        start, stop = int(starts[symbol]), int(starts[symbol + 1])
        self._value -= start * step
        self._range = (stop - start) * step
        while self._range <= 1 << _SHIFT:
            self._value = (self._value << 8 | self._byte()) & _MASK
            self._range <<= 8
        return symbol

    def _byte(self) -> int:
        self._next += 1
        return self._code[self._next - 1] if self._next <= len(self._code) else 0
