import torch

from genmodel import pixels


def test_every_level_survives_the_way_there_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).repeat(1, 1, 1, 3)
    assert torch.equal(pixels.to_uint8(pixels.to_model(levels)), levels)


def test_range_and_layout() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).repeat(1, 4, 6, 3)
    floats = pixels.to_model(images)
    assert floats.shape == (2, 3, 4, 6)
    assert (floats[0] == -1).all() and torch.allclose(floats[1], torch.tensor(1.0))
    assert floats.is_contiguous(memory_format=torch.channels_last)


def test_outside_the_range_is_clamped() -> None:
    assert pixels.to_uint8(torch.tensor([-9.0, 9.0]).view(2, 1, 1, 1)).flatten().tolist() == [0, 255]
