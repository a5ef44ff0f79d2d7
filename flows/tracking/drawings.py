"""The pictures of a training, and its sample grids as MLflow's UI shows them."""

import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

IMAGES = "images"  # where MLflow's image grid looks among a run's artifacts
_PICTURES = ("timeline.png", "curves.png", "replay.gif")


def pictures(folder: Path) -> list[Path]:
    """The pictures of a whole training that are in the folder of a model or of a record."""
    return [folder / name for name in _PICTURES if (folder / name).exists()]


def sample_grids(folder: Path) -> dict[int, Path]:
    """The sample grids in a folder by the images seen when they were drawn, in that order."""
    return {int(path.stem): path for path in sorted(folder.glob("*.png")) if path.stem.isdigit()}


def write_logged_images(grids: Mapping[int, Path], run_id: str, folder: Path) -> None:
    """Write sample grids and their thumbnails as MLflow's image grid expects them under a run's images/.

    Each as `samples` at its step, and the last one as `latest` at step 0 too: the grid compares runs at one step, and
    trainings of other lengths have no other in common. Named as by MlflowClient.log_image, but with a fixed name, so
    that a file that is sent again replaces the first. log_image takes a new name each time, and an upload that was cut
    off would stay.
    """
    for step, path in grids.items():
        same = uuid.uuid5(uuid.NAMESPACE_OID, f"{run_id} {step}")
        _write_logged_image(path, folder / f"samples+step+{step}+timestamp+{step}+{same}")  # a file's time would differ
    _write_logged_image(grids[max(grids)], folder / _latest(run_id))


def latest_samples(run_id: str) -> str:
    """The address, relative to MLflow's pages, of a run's last sample grid."""
    return f"get-artifact?path={quote(f'{IMAGES}/{_latest(run_id)}.png', safe='')}&run_uuid={run_id}"


def _latest(run_id: str) -> str:
    return f"latest+step+0+timestamp+0+{uuid.uuid5(uuid.NAMESPACE_OID, f'{run_id} latest')}"


def _write_logged_image(source: Path, stem: Path) -> None:
    from PIL import Image  # only where a grid is sent

    shutil.copyfile(source, stem.with_name(f"{stem.name}.png"))
    with Image.open(source) as image:
        image.thumbnail((256, 256))
        image.save(stem.with_name(f"{stem.name}+compressed.webp"))
