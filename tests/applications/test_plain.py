"""What needs no model: a hole filled by diffusion, the median, bicubic enlargement."""

import numpy as np
import torch
from PIL import Image

from genmodel.applications import plain


def test_a_hole_in_a_slope_is_filled_with_the_slope() -> None:
    """The colours of a plane satisfy Laplace's equation: diffusion finds them."""
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(16.0), indexing="ij")
    slope = torch.stack([rows + 2 * columns, 50 - rows])[None]
    known = torch.ones(24, 16, dtype=torch.bool)
    known[4:20, 3:13] = False
    made = plain.filled(torch.where(known, slope, 1000.0), known)
    torch.testing.assert_close(made, slope, atol=0.01, rtol=0)


def test_a_hole_of_everything_is_grey() -> None:
    assert not plain.filled(torch.ones(1, 1, 8, 8), torch.zeros(8, 8, dtype=torch.bool)).any()


def test_the_median_takes_no_notice_of_single_pixels() -> None:
    images = torch.full((2, 3, 8, 9), 7.0)
    images[:, :, 3, 4] = 255
    assert torch.equal(plain.median(images), torch.full_like(images, 7))
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(1, 1, 8, 9, generator=rng)
    assert plain.median(images, 5)[0, 0, 4, 4] == images[0, 0, 2:7, 2:7].median()


def test_enlarging_is_pillow_s_bicubic() -> None:
    small = np.random.default_rng(0).integers(0, 256, (8, 10)).astype(np.float32)
    theirs = np.asarray(Image.fromarray(small).resize((30, 24), Image.Resampling.BICUBIC))
    ours = plain.enlarged(torch.from_numpy(small)[None, None], 3)[0, 0].numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
