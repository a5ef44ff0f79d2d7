import pytest
import torch
from torch import Tensor

from genmodel.errors import ConfigError
from genmodel.models.contract import Batch, ImageSpec, Noise, Step
from genmodel.models.parts.logistics import draw
from genmodel.models.pixelcnn import PixelCNN, PixelCNNConfig
from genmodel.pixels import to_model, to_uint8
from genmodel.sampling.draw import Sampler
from genmodel.sampling.export import onnx_program
from genmodel.sampling.requests import BATCH, codes
from genmodel.sizes import Size


def toy(size: str = "8", channels: int = 3, classes: int = 0, halvings: int = 1, **settings: float) -> PixelCNN:
    """With weights as if it had been trained a little."""
    config = PixelCNNConfig(base_channels=6, blocks=1, halvings=halvings, conditional=classes > 0, **settings)  # type: ignore[arg-type]
    model = PixelCNN(config, ImageSpec(Size.of(size), channels, classes))
    model.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(value.numel())))
    return model.eval().requires_grad_(False)


def noise(model: PixelCNN, n: int) -> Tensor:
    return Noise(torch.Generator().manual_seed(1)).of(model.space, n)


def levels(n: int, channels: int, height: int = 8, width: int = 8) -> Tensor:
    rng = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (n, height, width, channels), generator=rng, dtype=torch.uint8)


def plainly(model: PixelCNN, noise: Tensor, labels: Tensor | None) -> Tensor:
    """Sampling without anything reused: the whole network for each pixel."""
    (uniforms,) = model.space.split(noise)
    images = uniforms.new_zeros(len(noise), model.spec.channels, *model.image_size)
    for y in range(model.image_size.height):
        for x in range(model.image_size.width):
            numbers = model.network(images, labels)[:, :, y : y + 1, x : x + 1]
            images[:, :, y, x] = draw(numbers, uniforms[:, :, y : y + 1, x : x + 1])[:, :, 0, 0]
    return images


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("size", "channels", "halvings", "classes"),
    [("8", 1, 0, 0), ("12x8", 3, 2, 0), ("8", 4, 1, 3), ("9x10", 3, 2, 3)],
)
def test_cached_sampling_is_plain_sampling_to_the_pixel(
    size: str, channels: int, halvings: int, classes: int, dtype: torch.dtype
) -> None:
    model = toy(size, channels, classes, halvings).to(dtype)
    labels = torch.tensor([0, 2]) if classes else None
    drawn = model.sample(noise(model, 2).to(dtype), labels)
    assert torch.equal(to_uint8(drawn), to_uint8(plainly(model, noise(model, 2).to(dtype), labels)))
    assert len(drawn.unique()) > 30


@pytest.mark.parametrize(("size", "halvings"), [("32", 2), ("30", 1), ("9", 0), ("16x12", 2), ("64x10", 1)])
def test_it_halves_as_often_as_both_sides_can_be(size: str, halvings: int) -> None:
    model = PixelCNN(PixelCNNConfig(base_channels=2, blocks=1, halvings=2), ImageSpec(Size.of(size)))
    assert model.network.halvings == halvings


@pytest.mark.slow
def test_what_is_known_stays_and_the_rest_depends_on_what_was_before() -> None:
    model, some = toy(channels=1), levels(2, 1)
    known = torch.zeros(2, 8, 8, dtype=torch.bool)
    unknown_class, z = torch.full((2,), -1), noise(model, 2)
    assert torch.equal(model.complete(some, known, z, unknown_class), model.sample(z)), "nothing is known"
    known[0, :4] = True
    known[1, :, ::2] = True
    made = model.complete(some, known, z, unknown_class)
    assert torch.equal(made[:, 0][known], to_model(some)[:, 0][known])
    assert not torch.equal(made[0, 0, 4:], model.sample(z)[0, 0, 4:])
    drawn = to_uint8(model.sample(z))  # its own image, half of it known, comes back
    assert torch.equal(to_uint8(model.complete(drawn, known, z, unknown_class)), drawn)


def test_a_class_counts_for_samples_and_bits_and_needs_classes() -> None:
    model, some = toy(classes=3), levels(1, 3).expand(3, -1, -1, -1)
    bits = model.bits(some, torch.tensor([0, 1, -1]))
    assert len(bits.unique()) == 3
    z = noise(model, 1).expand(2, -1)
    one, other = model.sample(z, torch.tensor([0, 1]))
    assert not torch.equal(one, other)
    with pytest.raises(ConfigError, match="the images have no classes; set"):
        PixelCNN(PixelCNNConfig(conditional=True), ImageSpec(Size.of(8)))


def test_bits_are_those_of_the_loss_in_parts_of_any_size() -> None:
    model, some = toy(channels=1), levels(70, 1)
    unknown = torch.full((70,), -1)
    bits = model.bits(some, unknown)
    torch.testing.assert_close(bits[66:67], model.bits(some[66:67], unknown[:1]))
    loss, told = model._loss(Step(Batch(to_model(some), unknown), Noise(torch.Generator())))
    assert float(told["loss/bits_per_dim"]) != pytest.approx(float(bits.mean()), abs=1e-4), "dropout was on"
    still = toy(channels=1, dropout=0.0)
    loss, _ = still._loss(Step(Batch(to_model(some), unknown), Noise(torch.Generator())))
    assert float(loss) == pytest.approx(float(bits.mean()), abs=1e-5)


def test_dropout_is_the_same_for_any_number_of_processes() -> None:
    model, some = toy(channels=1), to_model(levels(4, 1))

    def loss(images: Tensor, rank: int, size: int) -> Tensor:
        step = Step(Batch(images, torch.full((len(images),), -1)), Noise(torch.Generator().manual_seed(3), rank, size))
        return model._loss(step)[0]

    halves = torch.stack([loss(some[:2], 0, 2), loss(some[2:], 1, 2)])
    torch.testing.assert_close(halves.mean(), loss(some, 0, 1))


@pytest.mark.slow
def test_it_learns_which_images_there_are() -> None:
    """Two images, seen often, cost less and less."""
    model = toy(channels=1, dropout=0.0).requires_grad_()
    some, unknown = levels(2, 1), torch.full((2,), -1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    before = float(model.bits(levels(3, 1)[2:], unknown[:1]).detach())
    for _ in range(150):
        optimizer.zero_grad()
        loss, _ = model._loss(Step(Batch(to_model(some), unknown), Noise(torch.Generator())))
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.7 * before


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "classes", "halvings"), [(1, 3, 1), (3, 0, 0)])
def test_an_exported_graph_draws_the_same_images(channels: int, classes: int, halvings: int) -> None:
    """To the last bit, in a graph that holds one pixel and not all of them."""
    model = toy("8", channels, classes, halvings)
    sampler, example = Sampler(model).eval(), codes(model.space, [1.0] * classes, BATCH, seed=0)
    with torch.no_grad():
        program = torch.export.export(sampler, (example,), dynamic_shapes=({0: torch.export.Dim("n", min=1)},))
        assert torch.equal(program.module()(example), sampler(example))
        assert torch.equal(program.module()(example[:3]), sampler(example[:3]))
    assert sum(len(part.graph.nodes) for part in program.graph_module.modules() if hasattr(part, "graph")) < 3000


@pytest.mark.slow
def test_an_onnx_graph_draws_the_same_images() -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = toy("8", 1, 0, 0)
    sampler, example = Sampler(model).eval(), codes(model.space, [], 4, seed=0)
    session = runtime.InferenceSession(onnx_program(sampler, example), providers=["CPUExecutionProvider"])
    (images,) = session.run(["images"], {"codes": example.numpy()})
    same = torch.from_numpy(images) == sampler(example)
    assert same.float().mean() > 0.9  # another library's rounding may move a pixel, and all that follow it
