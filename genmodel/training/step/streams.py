"""The random numbers of a training: a separate stream for each step of each seed.

A GPU's generator (Philox) has a 64-bit key, which seed and step fill side by side. torch's CPU generator is a Mersenne
Twister whose `manual_seed` uses only the lowest 32 bits of a seed: there are only 2**32 such streams, and however seed
and step are hashed, two steps of a long training would soon share one. So its state is written here: 312 64-bit numbers
made from the same key. Each is a bijection of it (an odd factor, xor, splitmix64's finalizer), so that the states of
two keys differ in every number.
"""

import numpy as np
import torch

from genmodel.data.reading.order import mix

_STEP_BITS = 33  # the seed gets the 31 above them
_WORDS = slice(3, 3 + 624)  # of a CPU generator's state in 64-bit numbers: after seed, position and counter
_STREAM = np.array([0x73746570], np.uint64)  # keeps these bits apart from those of the images' order
_PLACES = mix(np.arange(312, dtype=np.uint64), _STREAM)


def begin_stream(rng: torch.Generator, seed: int, step: int) -> None:
    """Set `rng` to the start of a step's stream: unique to this (seed, step), on a device of the same kind.

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
