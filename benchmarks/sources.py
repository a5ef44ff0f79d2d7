"""Class folders of JPEGs, as ImageFolder wants them: unpacked from an archive, or drawn here."""

import tarfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter


def unpacked(source: str | None, target: Path) -> Path:
    """Class folders of JPEGs for ImageFolder: from a tar of tars or of class folders, or drawn here without one."""
    if source is None:
        return draw(target)
    if Path(source).is_dir():
        return Path(source)
    with tarfile.open(source) as archive:
        for member in archive:
            handle = archive.extractfile(member)
            if member.name.endswith(".tar") and handle is not None:
                with tarfile.open(fileobj=handle) as inner:
                    inner.extractall(target / Path(member.name).stem, filter="data")
            elif member.isfile():
                archive.extract(member, target, filter="data")
    return target


def draw(target: Path, count: int = 400) -> Path:
    """JPEGs of ImageNet's usual size and weight (500 x 375, about 110 KB): noise at several scales."""
    noise = np.random.default_rng(0)
    for number in range(count):
        image = Image.fromarray(noise.integers(0, 256, (375, 500, 3), dtype=np.uint8))
        coarse = Image.fromarray(noise.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((500, 375))
        image = Image.blend(coarse, image.filter(ImageFilter.GaussianBlur(1)), 0.4)
        path = target / f"class{number % 10}" / f"{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=92)
    return target
