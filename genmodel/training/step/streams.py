"""The random numbers of a training: a stream of its own for each step of each seed.

A GPU's generator (Philox) has a key of 64 bits, which seed and step fill side by side. torch's generator on a CPU is a
Mersenne Twister whose `manual_seed` heeds the lowest 32 bits of a seed: there are no more than 2**32 such streams, and
whatever seed and step are hashed to, two steps of a long training would soon have the same. So its state is written
here, 312 numbers of 64 bits that are made of the same key. Each is a bijection of it (an odd factor, xor, splitmix64's
finalizer), so that two keys never give the same state, nor any number of it in the same place.
"""

import numpy as np
import torch

from genmodel.data.reading.order import mix

_STEP_BITS = 33  # the seed has the 31 above them
_WORDS = slice(3, 3 + 624)  # of a CPU generator's state in 64-bit numbers: behind seed, place and counter
_STREAM = np.array([0x73746570], np.uint64)  # keeps these bits apart from those of the images' order
_PLACES = mix(np.arange(312, dtype=np.uint64), _STREAM)


def begin_stream(rng: torch.Generator, seed: int, step: int) -> None:
    """Put `rng` at the start of the stream of a step: no other (seed, step) has it, on a device of the same kind.

    0 <= seed < 2**31, 0 <= step < 2**33.
    """
    assert 0 <= seed < 2**31 and 0 <= step < 2**_STEP_BITS
    key = seed << _STEP_BITS | step
    rng.manual_seed(key)
    if rng.device.type == "cpu":
        state = rng.get_state()
        numbers = mix(_PLACES ^ mix(np.array([key], np.uint64), _STREAM), _STREAM)
        state.numpy().view(np.uint64)[_WORDS] = numbers.view(np.uint32)
        rng.set_state(state)
