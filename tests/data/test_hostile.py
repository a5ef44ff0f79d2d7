"""Over 500 hostile files: no crash, no hang, nothing written elsewhere, every member accepted or with its reason."""

import gzip
import io
import json
import os
import random
import stat
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Expected = tuple[str, bytes, int | None, bool]  # name, content, members if it is read, whether an error will do

MEMORY = (1024 + 200) << 20  # bytes, with one worker
SECONDS = 5

# Goes through everything in a process of its own without torch, whose memory can be told, and prints what happened.
SCRIPT = """
import json, resource, sys, time
from pathlib import Path
from genmodel.data.making import shards
from genmodel.data.making.make import prepare
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.opening import open_source
from genmodel.errors import SourceError
from genmodel.sizes import Size

log = open("times", "a")
real = shards._convert

def timed(job, member):
    began = time.monotonic()
    outcome = real(job, member)
    print(time.monotonic() - began, member.name.encode(), file=log, flush=True)
    return outcome

def archive(path):
    began = time.monotonic()
    try:
        source = open_source(path)
        members = listing_of(source).members
        job = shards.Job(source, Path("unused"), [Size(16, 16)])
        outcomes = [timed(job, member)[0] for member in members]
        reasons = [outcome[1] for outcome in outcomes if not shards.is_accepted(outcome)]
        found = {"members": len(members), "outcomes": len(outcomes), "reasons": reasons}
    except SourceError as error:
        found = {"error": str(error)}
    return found | {"seconds": time.monotonic() - began}

archives = {path: archive(path) for path in sorted(map(str, Path(sys.argv[1], "archives").iterdir()))}
shards._convert = timed
block = prepare(str(Path(sys.argv[1], "images")), Path("data"), [16, 64], workers=1, max_reject_share=1)
mine = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # ru_maxrss is the parent's, too
memory = max(int(mine.split()[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) << 10
facts = {"accepted": len(block), "rejects": block.rejects(), "problems": block.verify(False)}
print(json.dumps({"archives": archives, "memory": memory} | facts))
"""


def forms(encode: Callable[..., bytes], picture: Callable[..., Image.Image]) -> dict[str, bytes]:
    """Whole files of every kind that decoders know."""
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb = picture(0, 61, 47)
    deep = Image.fromarray(np.arange(2000, dtype=np.uint16).reshape(40, 50) * 30)
    gif = {"save_all": True, "append_images": [picture(i, 61, 47) for i in range(3)]}
    files = {f"{mode}.jpg": encode(picture(1, 61, 47, mode), "JPEG") for mode in ("RGB", "L", "CMYK")}
    files |= {f"{mode}.png": encode(picture(2, 61, 47, mode)) for mode in ("RGB", "L", "P", "RGBA", "LA", "1")}
    files |= {f"{mode}.tif": encode(rgb.convert(mode), "TIFF") for mode in ("RGB", "CMYK", "F", "I", "YCbCr")}
    files |= {"LAB.tif": encode(Image.new("LAB", (30, 20), (50, 100, 150)), "TIFF")}
    files |= {"progressive.jpg": encode(rgb, "JPEG", progressive=True), "deep.png": encode(deep)}
    files |= {"deep.tif": encode(deep, "TIFF"), "lzw.tif": encode(rgb, "TIFF", compression="tiff_lzw")}
    files |= {"animated.gif": encode(rgb.convert("P"), "GIF", **gif), "a.webp": encode(rgb, "WEBP")}
    files |= {"a.bmp": encode(rgb, "BMP"), "a.ppm": encode(rgb, "PPM")}
    files |= {"rotated.jpg": encode(rgb, "JPEG", exif=exif.tobytes())}
    files |= {"bad-exif.jpg": encode(rgb, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xee" * 40)}
    return files


def images(encode: Callable[..., bytes], picture: Callable[..., Image.Image]) -> Iterator[tuple[str, bytes]]:
    rng = random.Random(0)
    for name, content in forms(encode, picture).items():
        stem, _, extension = name.partition(".")
        yield f"whole-{name}", content
        yield f"named-{stem}-{extension}.{'png' if extension == 'jpg' else 'jpg'}", content
        yield f"longer-{name}", content + rng.randbytes(100)
        for i in range(7):
            yield f"cut{i}-{name}", content[: rng.randrange(1, len(content))]
            flipped = bytearray(content)
            for _ in range(1 + i * i):
                flipped[rng.randrange(min(len(content), 10_000 if i % 2 else 60))] ^= 1 << rng.randrange(8)
            yield f"flip{i}-{name}", bytes(flipped)
    for extension in ("jpg", "png", "gif", "tif", "webp", "bmp", "ppm"):
        yield f"empty.{extension}", b""
        yield f"noise.{extension}", rng.randbytes(3000)
        yield f"text.{extension}", b"<html>404 not found</html>"
    for width, height in ((1, 1), (1, 2), (1, 40_000), (40_000, 1), (3, 5000)):
        yield f"{width}x{height}.png", encode(Image.new("RGB", (width, height), "red"))
    yield "large.png", encode(Image.new("L", (9400, 9400)))  # just what Pillow takes
    yield "bomb.png", encode(Image.new("1", (20_000, 20_000)))
    yield "bomb.gif", b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;"
    yield "bomb.ppm", b"P6\n99999 99999\n255\n"
    yield "bomb.bmp", b"BM" + bytes(8) + b"\x36\0\0\0\x28\0\0\0\xff\xff\xff\x7f\xff\xff\xff\x7f\x01\0\x18\0" + bytes(24)


def tar_of(*members: tuple[str, bytes, dict[str, Any]]) -> bytes:
    """A tar of members (name, content, attributes of the header)."""
    handle = io.BytesIO()
    with tarfile.open(fileobj=handle, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content, facts in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in facts.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))
    return handle.getvalue()


def zip_of(*members: tuple[str, bytes, dict[str, Any]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    handle = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(handle, "w", method) as archive:
        for name, content, facts in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            for key, value in facts.items():
                setattr(info, key, value)
            archive.writestr(info, content)
    return handle.getvalue()


def archives(png: bytes) -> Iterator[Expected]:
    rng = random.Random(1)
    good: list[tuple[str, bytes, dict[str, Any]]] = [(f"{'ab'[i % 2]}/{i}.png", png, {}) for i in range(4)]
    whole = tar_of(*good)
    names = ["../up.png", "a/../../up.png", "/abs.png", "//abs.png", "a/..", "b/a\\..\\up.png", "a/\udcff.png"]
    names += ["x" * 300 + ".png", "a/\n.png", "a/" * 120 + "deep.png", "a/..png", " .png", "a//b.png", "./a/./c.png"]
    names += ["C:/a/w.png", "~/a.png"]
    no_images = {"a/..png"}  # a hidden file
    asked = {"a/" * 120 + "deep.png", " .png", "C:/a/w.png"}  # other depths than the others have
    for i, name in enumerate(names):
        yield f"name{i}.tar", tar_of(*good, (name, png, {})), 4 + (name not in no_images), name in asked
        if "\udcff" not in name:
            yield f"name{i}.zip", zip_of(*good, (name, png, {})), 4 + (name not in no_images), name in asked
    for target in ("/etc/passwd", "../../up", "a/0.png", ""):
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            link = tar_of(*good, ("a/link.png", b"", {"type": kind, "linkname": target}))
            yield f"link{len(target)}{kind!r}.tar", link, 5, False
    for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z", tarfile.GNUTYPE_SPARSE, tarfile.CONTTYPE):
        yield f"special{kind!r}.tar", tar_of(*good, ("a/d.png", b"", {"type": kind})), 5, True
    link = zip_of(*good, ("a/link.png", b"/etc/passwd", {"external_attr": (stat.S_IFLNK | 0o777) << 16}))
    yield "link.zip", link, 5, False
    yield "twice.tar", tar_of(*good, *good), 8, False
    yield "twice.zip", zip_of(*good, *good), 8, False
    for i in range(12):  # the last one cuts nothing but padding
        cut = (512 + -(-len(png) // 512) * 512) * (1 + i % 3) + rng.randrange(1, 511)
        yield f"cut-in-header{i}.tar", whole[:cut], None, True
        yield f"cut-anywhere{i}.tar", whole[: rng.randrange(1, (512 + len(png)) * 4)], None, True
        yield f"cut{i}.tgz", gzip.compress(whole)[: -rng.randrange(1, 900)], None, True
        yield f"cut{i}.zip", zip_of(*good)[: -rng.randrange(1, 900)], None, True
    for i in range(20):
        flipped = bytearray(whole)
        flipped[rng.randrange(512)] ^= 1 << rng.randrange(8)
        yield f"flip{i}.tar", bytes(flipped), 4, True
        packed = bytearray(gzip.compress(whole))
        packed[rng.randrange(len(packed))] ^= 1 << rng.randrange(8)
        yield f"flip{i}.tgz", bytes(packed), 4, True
    nested = whole
    for _ in range(40):
        nested = tar_of(("a/inner.tar", nested, {}))
    yield "nested.tar", nested, None, True
    bomb = gzip.compress(tar_of(*good, ("a/bomb.png", bytes(300 << 20), {})), 1)
    yield "bomb.tgz", bomb, 5, False
    yield "bomb-in-bomb.tar", tar_of(*good, ("a/bomb.tgz", bomb, {})), 4, False
    lies = zip_of(*good, ("a/bomb.png", bytes(64 << 20), {}))
    yield "bomb.zip", lies, 5, False
    yield "lies.zip", lies.replace((64 << 20).to_bytes(4, "little"), (1000).to_bytes(4, "little")), 5, False
    yield "pax.tar", tar_of(("x", b"9" * 4000, {"type": tarfile.XHDTYPE}), *good), None, True
    yield "endless-names.tar", tar_of(*[("n", b"x" * 500, {"type": tarfile.GNUTYPE_LONGNAME})] * 2000), None, True
    yield "noise.tar", rng.randbytes(5000), None, True
    yield "zeros.tar", bytes(10_240), None, True


@pytest.mark.slow
def test_hostile_files(encode: Callable[..., bytes], picture: Callable[..., Image.Image], tmp_path: Path) -> None:
    expected: dict[str, tuple[int | None, bool]] = {}
    for folder in ("in/archives", "in/images", "cwd"):
        (tmp_path / folder).mkdir(parents=True)
    for name, content, members, may_fail in archives(encode(picture(9, 20, 20))):
        (tmp_path / "in/archives" / name).write_bytes(content)
        expected[str(tmp_path / "in/archives" / name)] = (members, may_fail)
    made = 0
    for name, content in images(encode, picture):
        (tmp_path / "in/images" / name).write_bytes(content)
        made += 1
    assert made == len(list((tmp_path / "in/images").iterdir())) and made + len(expected) >= 500
    before = sorted(path for path in tmp_path.rglob("*"))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "HOME": str(tmp_path / "cwd")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "in")],
        cwd=tmp_path / "cwd",
        env=environment | {"TMPDIR": str(tmp_path / "cwd")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    inside = tmp_path / "cwd"
    after = sorted(path for path in tmp_path.rglob("*") if inside not in path.parents)
    assert after == [path for path in before if inside not in path.parents]
    assert {path.name for path in inside.iterdir()} == {"data", "times"}
    assert found["accepted"] + len(found["rejects"]["name"]) == made and found["accepted"] > 100
    assert all(found["rejects"]["reason"]) and len(set(found["rejects"]["reason"])) > 10
    assert found["problems"] == []
    assert found["memory"] < MEMORY, f"{found['memory'] >> 20} MiB"
    check_archives(found["archives"], expected)
    slowest = max((inside / "times").read_text().splitlines(), key=lambda line: float(line.split()[0]))
    assert float(slowest.split()[0]) < SECONDS, slowest
    print(f"{made} images, {len(expected)} archives, {found['memory'] >> 20} MiB, slowest {slowest}")


def check_archives(found: dict[str, Any], expected: dict[str, tuple[int | None, bool]]) -> None:
    assert found.keys() == expected.keys()
    for path, (members, may_fail) in expected.items():
        facts = found[path]
        assert facts["seconds"] < SECONDS, path
        if "error" in facts:
            assert members is None or may_fail, f"{path}: {facts['error']}"
            assert facts["error"].count("\n") == 0 and Path(path).name in facts["error"]
        else:
            assert facts["outcomes"] == facts["members"] and all(facts["reasons"]), path
            assert members is None or facts["members"] == members, f"{path}: {facts}"
    cuts = [facts for path, facts in found.items() if "cut-in-header" in path]
    assert len(cuts) == 12 and all("fetch it again" in facts["error"] for facts in cuts)


def test_the_worst_archives_through_the_whole_line(encode: Any, picture: Any, make: Any, tmp_path: Path) -> None:
    png = encode(picture(9, 20, 20))
    link = ("a/link.png", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})
    members = [(f"a/{i}.png", png, {}) for i in range(4)]
    (tmp_path / "s").write_bytes(tar_of(*members, link, ("../../up.png", png, {}), ("a/0.png", png, {})))
    block = make(str(tmp_path / "s"), tmp_path / "x/y/data", max_reject_share=1)
    assert len(block) == 3 and len(block.rejects()["name"]) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "x"]
