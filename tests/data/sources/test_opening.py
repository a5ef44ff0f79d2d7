"""The same images with the same names from every kind of source; bad sources in one clear line."""

import gzip
import io
import os
import pickle
import stat
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from genmodel.data.sources import opening
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.members import Listing, Reject
from genmodel.data.sources.opening import Source, open_source
from genmodel.errors import SourceError

Pack = Callable[[str, dict[str, bytes]], str]


def contents(source: Source, listing: Listing) -> dict[str, bytes]:
    return {member.name: source.read(member) for member in listing.members}


def test_every_kind_gives_the_same(kind: str, images: dict[str, bytes], packed: Pack) -> None:
    files = images | {"ape/README.txt": b"hello", "bee/.hidden.jpg": b""}
    source = open_source(packed(kind, files))
    listing = listing_of(source)
    assert [member.name for member in listing.members] == sorted(images)
    assert [member.class_name for member in listing.members] == [name[:3] for name in sorted(images)]
    assert sum(each.files for each in listing.ignored.values()) == 2
    assert source.name == "source"
    assert contents(source, listing) == images
    assert contents(pickle.loads(pickle.dumps(source)), listing) == images


def test_a_flat_folder_is_one_class(packed: Pack) -> None:
    listing = listing_of(open_source(packed("folder", {"b.jpg": b"1", "a.png": b"2"})))
    assert [(m.class_name, m.name) for m in listing.members] == [("images", "a.png"), ("images", "b.jpg")]


def test_digits() -> None:
    source = open_source("digits")
    listing = listing_of(source)
    assert len(listing.members) == 1797
    assert listing.members[0].name == "0/0000.pgm" and listing.members[-1].class_name == "9"
    content = source.read(listing.members[0])
    assert content[:11] == b"P5\n8 8\n255\n" and len(content) == 11 + 64
    assert list(content[11:19]) == [0, 0, 80, 207, 143, 16, 0, 0]  # 0 0 5 13 9 1 0 0 of 16
    assert pickle.loads(pickle.dumps(source)).read(listing.members[5]) == source.read(listing.members[5])


def test_a_folder_called_digits_is_the_folder(
    images: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in images.items():
        (tmp_path / "digits" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "digits" / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    assert len(listing_of(open_source("digits")).members) == len(images)


def test_the_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    known, source = load_digits(), open_source("digits")
    members = listing_of(source).members
    assert len(members) == len(known.images)
    for member in members:
        levels = (known.images[member.locator[0]].astype("int64") * 255 + 8) // 16
        assert source.read(member).endswith(b"255\n" + levels.astype("uint8").tobytes())
        assert member.class_name == str(known.target[member.locator[0]])


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(SourceError, match="pip install scikit-learn"):
        open_source("digits")


def test_missing_empty_and_strange_sources(tmp_path: Path) -> None:
    def problem(content: bytes) -> str:
        (tmp_path / "s").write_bytes(content)
        with pytest.raises(SourceError) as caught:
            listing_of(open_source(str(tmp_path / "s")))
        assert "\n" not in str(caught.value) and str(tmp_path / "s") in str(caught.value)
        return str(caught.value)

    with pytest.raises(SourceError, match="there is no source at"):
        open_source(str(tmp_path / "nothing"))
    assert "is empty" in problem(b"")
    assert "is text" in problem(b"an old letter, no archive" * 100)
    assert "is compressed, and its content is text" in problem(gzip.compress(b"numbers" * 1000))
    assert "not a valid zip" in problem(b"PK\3\4" + bytes(100))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        open_source(str(tmp_path / "fifo"))


@pytest.mark.parametrize("packing", ["tar", "tar.gz", "tar of tars", "zip"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.85])
def test_a_cut_archive_is_an_error(packing: str, share: float, images: dict[str, bytes], packed: Pack) -> None:
    path = Path(packed(packing, images))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(SourceError, match="fetch it again"):
        listing_of(open_source(str(path)))


def test_a_cut_tar_inside_a_tar_is_an_error_that_names_it(tar_bytes: Callable[..., bytes], tmp_path: Path) -> None:
    inner = tar_bytes([("1.jpg", b"x" * 3000)])
    (tmp_path / "s").write_bytes(tar_bytes([("n01.tar", inner), ("n02.tar", inner[:2048])]))
    with pytest.raises(SourceError, match=r"n02\.tar in .*fetch it again"):
        listing_of(open_source(str(tmp_path / "s")))


def test_links_and_devices_in_a_tar_are_refused_unread(tmp_path: Path, tar_bytes: Callable[..., bytes]) -> None:
    with tarfile.open(tmp_path / "s", "w") as tar:
        for name, kind in (("a/l.jpg", tarfile.SYMTYPE), ("a/h.jpg", tarfile.LNKTYPE), ("a/d.jpg", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        info = tarfile.TarInfo("../../up.jpg")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
        inner = tar_bytes([("/abs.jpg", b"x")])
        for name in ("b.tar", "c.tar"):  # more than plain images
            info = tarfile.TarInfo(name)
            info.size = len(inner)
            tar.addfile(info, io.BytesIO(inner))
    reasons = {member.name: member.refused for member in listing_of(open_source(str(tmp_path / "s"))).members}
    assert reasons == {
        "a/l.jpg": "a link out of the archive",
        "a/h.jpg": "a link out of the archive",
        "a/d.jpg": "not a plain file",
        "../../up.jpg": "a path with ..",
        "b//abs.jpg": "an absolute path",
        "c//abs.jpg": "an absolute path",
    }


def test_names_in_zips_as_they_were_meant(tmp_path: Path) -> None:
    """.NET 4.5 writes backslashes; macOS writes UTF-8 without its flag, others code page 437."""
    with zipfile.ZipFile(tmp_path / "s", "w") as archive:
        for name in ("pets\\cat\\1.png", "pets\\dog\\2.png", "pets\\..\\up.png", "pets/a\\b/3.png"):
            archive.writestr(name, b"x")
    names = {member.name: member.refused for member in listing_of(open_source(str(tmp_path / "s"))).members}
    assert names == {"cat/1.png": "", "dog/2.png": "", "a\\b/3.png": "", "pets/../up.png": "a path with .."}
    for raw, meant in (("\u65e5".encode(), "\u65e5"), ("\xe9".encode("cp437"), "\xe9"), ("e\u0301".encode(), "\xe9")):
        with zipfile.ZipFile(tmp_path / "s", "w") as archive:
            archive.writestr("b/1.png", b"x")
            archive.writestr("#" * len(raw) + "/1.png", b"y")
        content = (tmp_path / "s").read_bytes().replace(b"#" * len(raw) + b"/", raw + b"/")
        (tmp_path / "s").write_bytes(content)
        classes = {member.class_name for member in listing_of(open_source(str(tmp_path / "s"))).members}
        assert classes == {"b", meant}


def test_zip_oddities_are_refused_or_rejected(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "s", "w") as archive:
        link = zipfile.ZipInfo("a/link.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("../up.jpg", b"x")
        archive.writestr("a/bz.jpg", b"x" * 99, zipfile.ZIP_BZIP2)
        archive.writestr("a/flipped.jpg", b"y" * 99)
        archive.writestr("a/whole.jpg", b"z" * 99, zipfile.ZIP_DEFLATED)
    content = (tmp_path / "s").read_bytes()
    (tmp_path / "s").write_bytes(content.replace(b"y" * 99, b"y" * 98 + b"x"))
    source = open_source(str(tmp_path / "s"))
    members = {member.name: member for member in listing_of(source).members}
    assert members["a/link.jpg"].refused == "a link"
    assert members["../up.jpg"].refused == "a path with .."
    assert "unsupported method" in members["a/bz.jpg"].refused
    assert source.read(members["a/whole.jpg"]) == b"z" * 99
    with pytest.raises(Reject, match="damaged in the zip"):
        source.read(members["a/flipped.jpg"])


def test_a_source_that_changes_is_an_error(packed: Pack) -> None:
    folder, tar = (Path(packed(kind, {"a/1.jpg": b"1" * 99})) for kind in ("folder", "tar"))
    sources = [open_source(str(path)) for path in (folder, tar)]
    members = [listing_of(source).members[0] for source in sources]
    (folder / "a/1.jpg").unlink()
    tar.write_bytes(b"")
    for source, member in zip(sources, members, strict=True):
        with pytest.raises(SourceError, match="changed while it was read"):
            source.read(member)


def test_imagenet_from_its_tar_of_tars(shared: Callable[[str], str]) -> None:
    source = open_source(shared("ILSVRC2012_img_train.sample.tar"))
    members = listing_of(source).members
    assert len(members) == 800 and len({member.class_name for member in members}) == 800
    assert all(member.name.startswith(f"{member.class_name}/{member.class_name}_") for member in members)
    assert all(source.read(member)[:2] == b"\xff\xd8" for member in members[::50])


@pytest.mark.slow
def test_cifar_from_its_tar_gz(shared: Callable[[str], str]) -> None:
    source = open_source(shared("cifar10-train.tar.gz"))
    members = listing_of(source).members
    assert len(members) == 50_000
    assert members[0].name == "airplane/0000.jpg" and members[-1].class_name == "truck"
    assert source.read(members[-1])[:2] == b"\xff\xd8" == source.read(members[3])[:2]


def test_images_are_not_opened_to_see_what_a_folder_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While they are, no worker has begun: 0.4 s for 10,000 of them."""
    (tmp_path / "cat").mkdir()
    for name in ("cat/1.jpg", "cat/2.png", "notes"):
        (tmp_path / name).write_bytes(b"x")
    opened, real = list[str](), opening._head
    monkeypatch.setattr(opening, "_head", lambda path: opened.append(path.name) or real(path))
    assert type(open_source(str(tmp_path))).__name__ == "Folder" and opened == ["notes"]
