import torch

from genmodel.models.contract import Batch, ImageSpec, Noise, Step
from genmodel.models.parts.improved_gan.labelled import LabelledMemory
from genmodel.sizes import Size


def batch(levels: list[int], labels: list[int]) -> Step:
    """Images of one level each, which tells them apart."""
    images = torch.tensor(levels).float().div(127.5).sub(1).view(-1, 1, 1, 1).expand(-1, 1, 4, 6)
    return Step(Batch(images, torch.tensor(labels)), noise(0))


def noise(seed: int) -> Noise:
    return Noise(torch.Generator().manual_seed(seed))


def memory(capacity: int = 4) -> LabelledMemory:
    return LabelledMemory(capacity, ImageSpec(Size(4, 6), channels=1, classes=5))


def held(part: LabelledMemory) -> list[tuple[int, int]]:
    assert (part.images == part.images[:, :1, :1]).all()
    return list(zip(part.images[:, 0, 0, 0].tolist(), part.labels.tolist(), strict=True))


def test_it_holds_the_latest_that_have_a_label() -> None:
    part = memory()
    part.add(batch([10, 20, 30], [-1, 3, -1]))
    assert held(part)[:1] == [(20, 3)] and part.labels.tolist()[1:] == [-1] * 3
    part.add(batch([40, 50, 60], [2, -1, 0]))
    assert held(part)[:3] == [(40, 2), (60, 0), (20, 3)]
    part.add(batch([70, 80], [1, 1]))
    assert held(part) == [(70, 1), (80, 1), (40, 2), (60, 0)], "the oldest is gone"
    part.add(batch([90, 91], [-1, -1]))
    assert held(part) == [(70, 1), (80, 1), (40, 2), (60, 0)]


def test_draws_are_of_those_that_it_holds_each_with_its_label() -> None:
    part = memory()
    assert part.draw(5, noise(0)).labels.tolist() == [-1] * 5, "none yet"
    part.add(batch([20, 40, 60], [3, 2, 0]))
    drawn = part.draw(300, noise(1))
    levels = ((drawn.images[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()
    pairs = list(zip(levels, drawn.labels.tolist(), strict=True))
    assert set(pairs) == {(20, 3), (40, 2), (60, 0)}
    assert all(60 < pairs.count(each) < 140 for each in set(pairs))
    assert part.draw(300, noise(2)).labels.tolist() != drawn.labels.tolist()


def test_processes_draw_the_rows_of_the_whole() -> None:
    part = memory()
    part.add(batch([20, 40, 60], [3, 2, 0]))
    whole = part.draw(8, noise(5)).labels.tolist()
    shares = [part.draw(4, Noise(torch.Generator().manual_seed(5), rank, 2)).labels.tolist() for rank in (0, 1)]
    assert shares[0] + shares[1] == whole
