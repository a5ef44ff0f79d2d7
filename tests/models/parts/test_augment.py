import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as reference

from genmodel.models.contract import Noise
from genmodel.models.parts import augment as pipe
from genmodel.models.parts.augment import Augmentation, augment

EACH = {"flip": True, "rotate90": True, "translate": 0.25, "geometry": 1.0, "colour": 1.0, "cutout": 0.5}
ALL = Augmentation(probability=1.0, **EACH)  # type: ignore[arg-type]
SURE, NEVER = torch.tensor(1.0), torch.tensor(0.0)


def only(name: str) -> Augmentation:
    return Augmentation(probability=1.0, **{name: EACH[name]})  # type: ignore[arg-type]


def seeded(seed: int = 0) -> Noise:
    return Noise(torch.Generator().manual_seed(seed))


def pictures(count: int, channels: int = 3, height: int = 12, width: int = 12) -> Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def waves(y: Any, x: Any) -> Any:
    """A picture that is known between its pixels, too."""
    return np.sin(0.25 * y) * np.cos(0.2 * x - 1)


def drawn(monkeypatch: pytest.MonkeyPatch, uniform: dict[int, Any], normal: dict[int, Any]) -> None:
    """Give all images these numbers, by how many are asked for."""
    monkeypatch.setattr(pipe, "_uniform", lambda _, n, numbers: torch.tensor(uniform[numbers]).expand(n, -1).unbind(1))
    monkeypatch.setattr(pipe, "_normal", lambda _, n, numbers: torch.tensor(normal[numbers]).expand(n, -1).unbind(1))


def test_each_image_is_moved_whole_and_black_comes_in() -> None:
    images = torch.rand(50, 3, 8, 9)
    moved = augment(images, only("translate"), SURE, seeded())
    assert moved.shape == images.shape
    shifts = set()
    for before, after in zip(images, moved, strict=True):
        padded = torch.full((3, 12, 13), -1.0)
        padded[:, 2:10, 2:11] = before
        fits = [(y, x) for y in range(5) for x in range(5) if torch.equal(padded[:, y : y + 8, x : x + 9], after)]
        assert len(fits) == 1
        shifts.add(fits[0])
    assert len(shifts) > 15, "every image has a shift of its own"


@pytest.mark.parametrize(("name", "kinds"), [("flip", [0, 4]), ("rotate90", [0, 1, 2, 3])])
def test_flips_and_quarter_turns_are_numpys_and_equally_frequent(name: str, kinds: list[int]) -> None:
    images = pictures(400, height=6, width=6)
    found = augment(images, only(name), SURE, seeded())
    counts = dict.fromkeys(kinds, 0)
    for before, after in zip(images.numpy(), found.numpy(), strict=True):
        versions = {turns: np.rot90(before, turns, (1, 2)) for turns in range(4)} | {4: before[..., ::-1]}
        (kind,) = [kind for kind, version in versions.items() if np.array_equal(version, after)]
        counts[kind] += 1
    assert min(counts.values()) > 0.6 * 400 / len(kinds)


def test_images_that_are_not_square_are_turned_by_half_turns_alone() -> None:
    images = pictures(40, height=4, width=8)
    found = augment(images, only("rotate90"), SURE, seeded())
    turned = [torch.equal(after, before.rot90(2, (1, 2))) for before, after in zip(images, found, strict=True)]
    assert all(turned[i] or torch.equal(found[i], images[i]) for i in range(40)) and 8 < sum(turned) < 32


@pytest.mark.parametrize(
    ("scale", "stretch", "down", "right", "angles"),
    [
        (0.0, 0.0, 0.0, 0.0, (0.1, 0.0)),
        (0.8, 0.0, 0.0, 0.0, (0.0, 0.0)),
        (0.0, -0.7, 0.0, 0.0, (0.0, 0.0)),
        (0.0, 0.0, 0.3, -0.2, (0.0, 0.0)),
        (-0.5, 0.6, 0.2, 0.1, (-0.06, 0.15)),
    ],
)
def test_the_geometry_is_an_affine_map(
    scale: float,
    stretch: float,
    down: float,
    right: float,
    angles: tuple[float, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Around the middle, of numpy's matrices, where the map does not leave the image."""
    size, inner = 64, np.s_[20:44, 20:44]
    drawn(monkeypatch, {5: [0.0] * 5, 2: [0.5 + angle / 2 for angle in angles]}, {4: [scale, stretch, down, right]})
    places = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"))  # (y, x)
    image = waves(*places)
    given = torch.from_numpy(image)[None, None]
    found = augment(given, only("geometry"), SURE, seeded())[0, 0].numpy()
    first, second = (
        np.array([[math.cos(math.pi * a), -math.sin(math.pi * a)], [math.sin(math.pi * a), math.cos(math.pi * a)]])
        for a in angles
    )
    matrix = second @ np.diag([2 ** (0.2 * (scale + stretch)), 2 ** (0.2 * (scale - stretch))]) @ first
    centred = places - (size - 1) / 2 - 0.125 * size * np.array([down, right])[:, None, None]
    expected = waves(*(np.einsum("ij,jyx->iyx", matrix, centred) + (size - 1) / 2))
    assert np.abs(found - expected)[inner].max() < 0.005
    assert np.abs(image - expected)[inner].max() > 0.1, "or its agreement would say nothing"


def test_edges_are_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shift by whole pixels, of which every value is known."""
    images = pictures(3, height=8, width=16)
    drawn(monkeypatch, {5: [0.0] * 5, 2: [0.5, 0.5]}, {4: [0.0, 0.0, 3.0, -2.0]})  # 3 pixels down, 4 to the left
    found = augment(images, only("geometry"), SURE, seeded())
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (3, 0), (0, 4)), mode="reflect")
    np.testing.assert_array_equal(found.numpy(), padded[:, :, :8, 4:])


def test_warped_images_stay_sharp() -> None:
    """Turned by 30 degrees and back: twice as near to the image as by reading between its own pixels."""
    images = torch.nn.functional.interpolate(pictures(4, height=24, width=24), size=48, mode="bicubic")
    inner = np.s_[..., 14:34, 14:34]
    chances, zeros = [0.0] * 3 + [0.0, 1.0], [0.0] * 4

    def turned(given: Tensor, angle: float) -> Tensor:
        with pytest.MonkeyPatch.context() as patch:
            drawn(patch, {5: chances, 2: [0.5 + angle / 360, 0.5]}, {4: zeros})
            return augment(given, only("geometry"), torch.tensor(0.9), seeded())

    mine = (turned(turned(images, 30), -30) - images)[inner].square().mean()
    options = {"interpolation": reference.InterpolationMode.BILINEAR}
    plain = reference.rotate(reference.rotate(images, 30, **options), -30, **options)  # type: ignore[arg-type]
    assert mine < 0.5 * (plain - images)[inner].square().mean()


def test_colours_are_those_of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(5) / 4
    drawn(monkeypatch, {4: [0.0] * 4, 1: [0.5]}, {3: [0.4, 0.0, 0.0]})
    torch.testing.assert_close(augment(images, only("colour"), SURE, seeded()), images + 0.08)
    drawn(monkeypatch, {4: [0.0] * 4, 1: [0.5]}, {3: [0.0, -1.5, 0.0]})
    levels = images / 2 + 0.5  # contrast around mid-grey: brightness around 0
    found = augment(2 * levels - 1, only("colour"), SURE, seeded())
    torch.testing.assert_close(found, reference.adjust_brightness(images.abs(), 2**-0.75) * images.sign())
    drawn(monkeypatch, {4: [0.0] * 4, 1: [0.5]}, {3: [0.0, 0.0, 0.7]})
    grey = images.mean(1, keepdim=True)
    torch.testing.assert_close(augment(images, only("colour"), SURE, seeded()), grey + (images - grey) * 2**0.7)
    drawn(monkeypatch, {4: [0.0] * 4, 1: [0.5 + 1 / 3]}, {3: [0.0, 0.0, 0.0]})  # 120 degrees: red becomes green
    torch.testing.assert_close(augment(images, only("colour"), SURE, seeded()), images.roll(1, 1))


def test_grey_images_have_no_hue_and_alpha_stays() -> None:
    grey = pictures(30, channels=1)
    found = augment(grey, only("colour"), SURE, seeded())
    for before, after in zip(grey, found, strict=True):  # one line for all pixels of an image
        slope = (after.max() - after.min()) / (before.max() - before.min())
        torch.testing.assert_close(after - after.mean(), slope * (before - before.mean()), atol=1e-5, rtol=1e-4)
    clear = pictures(30, channels=4)
    found = augment(clear, only("colour"), SURE, seeded())
    assert torch.equal(found[:, 3], clear[:, 3]) and (found[:, :3] != clear[:, :3]).any()
    opaque = augment(clear[:, :3], only("colour"), SURE, seeded())
    assert torch.equal(found[:, :3], opaque)


def test_a_rectangle_is_cut_out_anywhere() -> None:
    images = pictures(300, height=8, width=16)
    holes = augment(images, only("cutout"), SURE, seeded()) == 0
    assert torch.equal(holes.all(1), holes.any(1))
    rows, columns = holes[:, 0].any(2), holes[:, 0].any(1)
    assert torch.equal(rows[:, :, None] & columns[:, None], holes[:, 0])
    assert rows.sum(1).max() == 4 and columns.sum(1).max() == 8  # half of both sides, less at the edges
    share = holes[:, 0].float().mean(0)
    assert share.min() > 0.05, "every pixel is cut out now and then"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "channels"), [*((name, 2) for name in EACH), ("colour", 3), ("colour", 4)])
def test_gradients_of_both_orders_are_those_of_differences(name: str, channels: int) -> None:
    """In float64. R1 and R2 are taken of images before augmentation: their gradient goes through it twice."""
    images = pictures(1, channels, 5, 4).double().requires_grad_()

    def through(given: Tensor) -> Tensor:
        return augment(given, only(name), SURE, seeded(4))

    assert torch.autograd.gradcheck(through, images)
    assert torch.autograd.gradgradcheck(lambda given: through(given).sin(), images)


def test_a_penalty_before_augmentation_is_that_of_its_matrix() -> None:
    """The pipe without cutout is x -> A x + b: the gradient of (sum of cubes) is A' 3 (A x + b)^2."""
    images = pictures(1, 1, 5, 5).double().requires_grad_()

    def through(given: Tensor) -> Tensor:
        return augment(given, ALL, SURE, seeded(2))

    matrix = torch.autograd.functional.jacobian(through, images).view(25, 25)
    (slopes,) = torch.autograd.grad(through(images).pow(3).sum(), images, create_graph=True)
    torch.testing.assert_close(slopes.flatten(), matrix.T @ (3 * through(images).flatten().square()))
    (twice,) = torch.autograd.grad(slopes.square().sum(), images)
    inner = 6 * through(images).flatten() * (matrix @ (2 * slopes.flatten()))
    torch.testing.assert_close(twice.flatten(), matrix.T @ inner)


def test_equal_noise_gives_equal_bits_and_processes_take_their_rows() -> None:
    images = pictures(8)
    half = torch.tensor(0.5)
    whole = augment(images, ALL, half, seeded(5))
    assert torch.equal(whole, augment(images, ALL, half, seeded(5)))
    assert not torch.equal(whole, augment(images, ALL, half, seeded(6)))
    parts = [
        augment(images[4 * rank : 4 * rank + 4], ALL, half, Noise(torch.Generator().manual_seed(5), rank, 2))
        for rank in range(2)
    ]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize(
    ("height", "width", "channels"), [(8, 8, 1), (28, 28, 1), (32, 32, 3), (16, 24, 4), (33, 9, 3)]
)
def test_never_is_the_identity(height: int, width: int, channels: int) -> None:
    images = pictures(50, channels, height, width)
    assert torch.equal(augment(images, ALL, NEVER, seeded()), images)


def test_what_is_switched_off_draws_nothing() -> None:
    noise, images = seeded(), pictures(3)
    before = noise.rng.get_state()
    for off in (Augmentation(), Augmentation(probability=0.5), replace(ALL, probability=0.0)):
        assert augment(images, off, SURE, noise) is images
    assert torch.equal(noise.rng.get_state(), before)


@pytest.mark.parametrize("name", ["geometry", "colour"])
def test_at_1_every_image_changes(name: str) -> None:
    images = pictures(200)
    assert (augment(images, only(name), SURE, seeded()) != images).flatten(1).any(1).all()


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_the_probability_is_that_of_each_transform(probability: float) -> None:
    """Of an image left as it is: rotation keeps its angle, and each of the other three its scale, with 1 - p."""
    images = pictures(4000, 1, 6, 6)
    given = torch.tensor(probability)
    untouched = {
        "flip": 1 - probability / 2,
        "rotate90": 1 - probability * 0.75,
        "geometry": (1 - probability) ** 4,
        "colour": (1 - probability) ** 2,
    }
    for name, expected in untouched.items():
        same = (augment(images, only(name), given, seeded()) == images).flatten(1).all(1).float().mean()
        assert float(same) == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 4000) + 1e-3), name


def test_nothing_waits_for_the_device() -> None:
    """With shapes alone: whatever reads a value, as a captured step cannot, raises on the meta device."""
    with torch.device("meta"):
        images, given = torch.empty(4, 3, 16, 16, requires_grad=True), torch.empty(())
    noise = Noise(torch.Generator())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipe, "_uniform", lambda _, n, numbers: torch.empty(n, numbers, device="meta").unbind(1))
        patch.setattr(pipe, "_normal", lambda _, n, numbers: torch.empty(n, numbers, device="meta").unbind(1))
        found = augment(images, ALL, given, noise)
    found.sum().backward()
    assert found.shape == images.shape and images.grad is not None


def test_autocast_rounds_nothing() -> None:
    images = pictures(4)
    with torch.autocast("cpu", torch.bfloat16):
        found = augment(images, ALL, SURE, seeded())
    assert torch.equal(found, augment(images, ALL, SURE, seeded()))
