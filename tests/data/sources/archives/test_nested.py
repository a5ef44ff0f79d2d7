"""Archives in archives, parts of archives, links in a tar."""

import bz2
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genmodel.data.block import Block
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.opening import open_source
from genmodel.errors import SourceError
from tests.data.sources.archives.packing import contents, zip_bytes

Pack = Callable[[str, dict[str, bytes]], str]


def by_class(files: dict[str, bytes]) -> dict[str, dict[str, bytes]]:
    classes: dict[str, dict[str, bytes]] = {}
    for name, content in files.items():
        top, _, rest = name.partition("/")
        classes.setdefault(top, {})[rest] = content
    return classes


def nests(tar_bytes: Any) -> dict[str, Callable[[dict[str, bytes]], bytes]]:
    """Ways to pack class folders one archive in the other."""

    def classes_in(outer: Any, inner: Any, ending: str) -> Callable[[dict[str, bytes]], bytes]:
        return lambda files: outer({f"{top}{ending}": inner(some) for top, some in by_class(files).items()})

    def tar(files: dict[str, bytes]) -> bytes:
        return bytes(tar_bytes(files.items()))

    def tgz(files: dict[str, bytes]) -> bytes:
        return bytes(tar_bytes(files.items(), "w:gz"))

    def deflated(files: dict[str, bytes]) -> bytes:
        return zip_bytes(files, zipfile.ZIP_DEFLATED)

    return {
        "zips in a zip": classes_in(zip_bytes, deflated, ".zip"),
        "zips in a deflated zip": classes_in(deflated, zip_bytes, ".zip"),
        "zips in a tar.gz": classes_in(tgz, deflated, ".zip"),
        "tar.gz in a zip": classes_in(zip_bytes, tgz, ".tar.gz"),
        "tar.gz in a tar": classes_in(tar, tgz, ".tgz"),
        "tar.xz in a tar": classes_in(tar, lambda files: lzma.compress(tar(files)), ".tar.xz"),
        "a tar of tars in a zip": lambda files: deflated({"train.tar": classes_in(tar, tar, ".tar")(files)}),
    }


NESTS = list(nests(None))


@pytest.mark.slow
@pytest.mark.parametrize("way", NESTS)
def test_archives_in_archives(
    way: str, images: dict[str, bytes], tar_bytes: Any, tmp_path: Path, make: Callable[..., Block]
) -> None:
    (tmp_path / "source").write_bytes(nests(tar_bytes)[way](images))
    assert contents(tmp_path / "source") == images
    first, second = (listing_of(open_source(str(tmp_path / "source"))) for _ in range(2))
    assert first == second, "places and all: what a kill leaves is taken up by them"
    one, two = (make(str(tmp_path / "source"), tmp_path / f"{n}", workers=n) for n in (1, 3))
    assert one.digest == two.digest and len(one) == len(images)


@pytest.mark.parametrize("ending", [".tar", ".zip", ".tar.gz", ".tar.bz2"])
def test_a_folder_of_class_archives(ending: str, images: dict[str, bytes], tar_bytes: Any, tmp_path: Path) -> None:
    """Case 16: ImageNet's train tar unpacked once; Kaggle's zips in a folder. What lies beside is accounted for."""
    folder = tmp_path / "source"
    folder.mkdir()
    for top, files in by_class(images).items():
        tar = tar_bytes(files.items())
        packed = {".tar": tar, ".zip": zip_bytes(files), ".tar.bz2": bz2.compress(tar)}
        packed[".tar.gz"] = tar_bytes(files.items(), "w:gz")
        (folder / f"{top}{ending}").write_bytes(packed[ending])
    (folder / "README.txt").write_text("hello")
    assert contents(folder) == images
    listing = listing_of(open_source(str(folder)))
    assert listing.ignored["not an image (.txt)"] == (1, "README.txt")


def test_kaggles_zip_of_zips(images: dict[str, bytes], tmp_path: Path) -> None:
    """dogs-vs-cats.zip: train.zip and test1.zip, each with one folder in it, and a CSV."""
    train = {f"train/cat.{i}.jpg": content for i, content in enumerate(list(images.values())[:20])}
    test = {f"test1/{i}.jpg": content for i, content in enumerate(list(images.values())[20:30])}
    outer = {"train.zip": zip_bytes(train), "test1.zip": zip_bytes(test), "sampleSubmission.csv": b"id,label\n1,0\n"}
    (tmp_path / "dogs-vs-cats.zip").write_bytes(zip_bytes(outer, zipfile.ZIP_DEFLATED))
    source = open_source(str(tmp_path / "dogs-vs-cats.zip"))
    listing = listing_of(source)
    assert {source.read(member) for member in listing.members} == set(train.values())
    assert sum(each.files for each in listing.ignored.values()) == 11


def test_archives_nest_no_deeper_than_is_said(tar_bytes: Any, tmp_path: Path) -> None:
    content = tar_bytes([("a/1.png", b"1")])
    for depth in range(4):
        content = tar_bytes([(f"{depth}.txt", b"1"), (f"{depth}.tar", content)])
    (tmp_path / "a.tar").write_bytes(content)
    found = open_source(str(tmp_path / "a.tar")).scan()
    assert not found.entries and found.ignored["an archive inside more than 2 others"] == (1, "3/2/1.tar")


def test_archives_beside_images_are_left_out_and_told(images: dict[str, bytes], tar_bytes: Any, tmp_path: Path) -> None:
    """From a folder and from its tar alike; a stray image does not make class archives superfluous."""
    files = images | {"copy.zip": zip_bytes(images)}
    for name, content in files.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    (tmp_path / "a.tar").write_bytes(tar_bytes(files.items()))
    (tmp_path / "a.zip").write_bytes(zip_bytes(files))
    for name in ("folder", "a.tar", "a.zip"):
        assert contents(tmp_path / name) == images
        assert listing_of(open_source(str(tmp_path / name))).ignored == {"an archive beside images": (1, "copy.zip")}
    stray = {f"{top}.tar": tar_bytes(some.items()) for top, some in by_class(images).items()}
    stray["preview.png"] = images["ape/000.png"]
    (tmp_path / "b.tar").write_bytes(tar_bytes(stray.items()))
    (tmp_path / "b").mkdir()
    for name, content in stray.items():
        (tmp_path / "b" / name).write_bytes(content)
    for name in ("b", "b.tar"):
        assert len(open_source(str(tmp_path / name)).scan().entries) == len(images) + 1


def test_what_only_looks_like_an_archive_is_no_error(images: dict[str, bytes], tar_bytes: Any, tmp_path: Path) -> None:
    files = images | {"ape/page.zip": b"<html>gone</html>", "ape/note.tar": b"see the other disk"}
    (tmp_path / "a.tar").write_bytes(tar_bytes(files.items()))
    listing = listing_of(open_source(str(tmp_path / "a.tar")))
    assert len(listing.members) == len(images) and sum(each.files for each in listing.ignored.values()) == 2


@pytest.mark.parametrize(
    "names", [("001", "002", "003"), ("aa", "ab", "ac"), ("part1", "part2", "part3"), ("0", "1", "2")]
)
@pytest.mark.parametrize("packing", ["zip", "tar.gz", "tar"])
def test_parts_of_an_archive_are_put_together(
    names: tuple[str, ...], packing: str, images: dict[str, bytes], packed: Pack, tmp_path: Path
) -> None:
    """As 7-Zip and `split` cut it. Whichever of them is given, or the folder."""
    content = Path(packed(packing, images)).read_bytes()
    folder = tmp_path / "parts"
    folder.mkdir()
    paths = [folder / f"set.{packing}.{name}" for name in names]
    cut = len(content) // 3
    for i, path in enumerate(paths):
        path.write_bytes(content[i * cut : (i + 1) * cut if i < 2 else len(content)])
    assert contents(paths[0]) == contents(paths[2]) == contents(folder) == images
    assert contents(folder / f"set.{packing}.*") == images
    paths[1].unlink()
    with pytest.raises(SourceError, match=f"{names[1]} beside it"):
        open_source(str(paths[2]))
    with pytest.raises(SourceError):
        listing_of(open_source(str(paths[0])))
    paths[0].unlink()
    with pytest.raises(SourceError, match=f"part .*({names[0]}|1) beside it"):
        open_source(str(paths[2]))


def links_tar(images: dict[str, bytes], links: list[tuple[str, str, bytes]]) -> bytes:
    handle = io.BytesIO()
    with tarfile.open(fileobj=handle, mode="w") as tar:
        for name, target, kind in links:
            info = tarfile.TarInfo(name)
            if kind:
                info.type, info.linkname = kind, target
                tar.addfile(info)
            else:
                info.size = len(images[target])
                tar.addfile(info, io.BytesIO(images[target]))
    return handle.getvalue()


def test_links_in_a_tar_are_followed(images: dict[str, bytes], tmp_path: Path) -> None:
    """Case 19: hard links; symbolic ones to files and folders; links to links, and links in front of what they mean."""
    first, second, *_ = images
    hard, soft = tarfile.LNKTYPE, tarfile.SYMTYPE
    links = [
        ("cat/front.png", "../dog/c.png", soft),
        ("cat/a.png", first, b""),
        ("cat/b.png", "cat/a.png", hard),
        ("dog/c.png", second, b""),
        ("dog/d.png", "c.png", soft),
        ("dog/e.png", "d.png", soft),
        ("eel", "cat", soft),
    ]
    (tmp_path / "a.tar").write_bytes(links_tar(images, links))
    one, two = images[first], images[second]
    expected = {"cat/a.png": one, "cat/b.png": one, "cat/front.png": two, "dog/c.png": two, "dog/d.png": two}
    assert contents(tmp_path / "a.tar") == expected | {"dog/e.png": two, "eel/a.png": one}


def test_links_that_lead_nowhere_are_rejected_with_the_reason(images: dict[str, bytes], tmp_path: Path) -> None:
    first, *_ = images
    hard, soft = tarfile.LNKTYPE, tarfile.SYMTYPE
    links = [("a/0.png", first, b""), ("a/1.png", "/etc/passwd", soft), ("a/2.png", "../../up.png", soft)]
    links += [("a/3.png", "a/none.png", hard), ("a/4.png", "4.png", soft), ("a/5.png", "../a/6.png", soft)]
    links += [("a/6.png", "5.png", soft), ("a/7.png", "../etc/passwd", hard)]
    (tmp_path / "a.tar").write_bytes(links_tar(images, links))
    reasons = {member.name: member.refused for member in listing_of(open_source(str(tmp_path / "a.tar"))).members}
    out, nowhere = "a link out of the archive", "a link to something that is not in the archive"
    assert reasons == {
        "a/0.png": "",
        **dict.fromkeys(["a/1.png", "a/2.png", "a/7.png"], out),
        **dict.fromkeys(["a/3.png", "a/4.png", "a/5.png", "a/6.png"], nowhere),
    }
