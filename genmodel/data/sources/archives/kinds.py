"""A file's kind, by its first bytes and not by its name; and what to do with one that cannot be read."""

import re
from collections.abc import Callable
from pathlib import Path

from genmodel.data.sources.archives.content import Bytes
from genmodel.data.sources.members import has_image_magic
from genmodel.errors import SourceError

HEAD = 512  # bytes that tell what a file is
PACKINGS = "gzip", "bzip2", "xz", "zstd"  # of one stream, usually a tar
ARCHIVES = "tar", "zip", *PACKINGS
_TAIL = 22 + (64 << 10)  # bytes: a zip's end record and its comment
_BLOCK = 512
_MAGIC = (
    (b"PK\3\4", "zip"),
    (b"PK\5\6", "zip"),  # an empty one
    (b"PK\7\x08", "split zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\7", "rar"),
    (b"\x1f\x9d", "compress"),
    (b"LZIP", "lzip"),
    (b"\4\x22\x4d\x18", "lz4"),
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow file"),
    (b"\xff\xff\xff\xff", "arrow"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\x93NUMPY", "npy"),
    (b"\0\0\x08\x03", "idx images"),
    (b"\0\0\x08\x01", "idx labels"),
    (b"MATLAB 5.0 MAT-file", "matlab"),
    (b"%PDF", "pdf"),
    (b"version https://git-lfs", "lfs pointer"),
    (b"MZ", "program"),
    (b"\x7fELF", "program"),
    (b"#!", "program"),
)
_UNPACK = "unpack it first ({}), and give the folder"
_SAVE = "save its images as PNG, or with numpy.savez(file, images=..., labels=...)"
_TOLD = {
    "7z": "is a 7z archive, which is not supported: " + _UNPACK.format("7z x"),
    "rar": "is a RAR archive, which is not supported: " + _UNPACK.format("unrar x"),
    "compress": "is packed with compress, which is not supported: " + _UNPACK.format("uncompress"),
    "lzip": "is packed with lzip, which is not supported: " + _UNPACK.format("lzip -d"),
    "lz4": "is packed with LZ4, which is not supported: " + _UNPACK.format("lz4 -d"),
    "split zip": "is one part of a split zip: join them with `zip -s 0 NAME.zip --out whole.zip`, and give whole.zip",
    "hdf5": "is an HDF5 file, which is not supported: " + _SAVE,
    "matlab": "is a MATLAB file, which is not supported: " + _SAVE,
    "arrow file": "is a single Arrow file: give a folder written by save_to_disk, or Parquet files",
    "arrow": "is an Arrow stream: give the folder that it is in",
    "pdf": "is a PDF: give a folder or an archive of image files",
    "lfs pointer": "is a Git LFS pointer, not the file itself: run `git lfs pull` in its repository",
    "program": "is a program or a script: give a folder or an archive of image files",
    "image": "is a single image: give the folder or the archive that holds the images",
    "web page": "is a web page, not an archive (a quota or login page?): open its address in a browser and fetch "
    "it again",
    "json": "is JSON: give the folder or the archive that holds the images",
    "text": "is text: give the folder or the archive that holds the images",
    "pickle": "is a pickle, which can run any code, and is not a CIFAR batch: " + _SAVE,
    "idx labels": "holds MNIST's labels, not its images: give the file beside it whose name has images-idx3-ubyte",
}


def kind_of(head: bytes) -> str:
    """The kind of a file that begins with these bytes (HEAD of them, or all); empty if unknown."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if _is_tar(head):
        return "tar"
    if has_image_magic(head):
        return "image"
    if head[16:20] == b"\xde\xc0\xef\xbe":
        return "lmdb"
    if re.match(rb"\x80[\2-\5][\x95}](?s:.)", head) or head.startswith(
        (b"\x80\2c", b"\x80\3c", b"\x80\2]", b"\x80\3]")
    ):
        return "pickle"
    if head[:1] == b"\x50" or head[1:4] == b"\x2a\x4d\x18":
        return "zstd" if re.match(rb"[\x50-\x5f]\x2a\x4d\x18", head) else ""
    return _text_kind(head)


def _text_kind(head: bytes) -> str:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if re.match(rb"<(!doctype|html|head|body|script|\?xml|!--)", text):
        return "web page"
    if re.match(rb"[{\[]\s*[\"{\[\d\]}tfn-]", text):
        return "json"
    printed = bytes(range(32, 127)) + b"\t\r\n" + bytes(range(128, 256))
    return "text" if text and not head.translate(None, printed) else ""


def _is_tar(head: bytes) -> bool:
    """Whether it begins with a tar header: the checksum is right, in any version of tar."""
    if len(head) < _BLOCK or not head[0]:
        return False
    told = head[148:156].strip(b"\0 ")
    if not re.fullmatch(rb"[0-7]+", told):
        return head[257:262] == b"ustar"
    return head[257:262] == b"ustar" or int(told, 8) == sum(head[:148]) + 8 * ord(" ") + sum(head[156:_BLOCK])


def has_zip_end(content: Bytes) -> bool:
    """Whether a file ends like a zip, whatever it begins with: a self-extracting program."""
    size = content.length
    return b"PK\5\6" in content.read_at(max(0, size - _TAIL), min(size, _TAIL))


def refusal(kind: str, where: object) -> SourceError:
    """Why a file of this kind cannot be a source, and what to do about it."""
    return SourceError(f"{where} {told_of(kind)}")


def told_of(kind: str) -> str:
    """The same, worded to follow the file's name."""
    return _TOLD.get(kind, "is damaged or of an unsupported kind: give a folder or an archive of image files")


_SPLIT = re.compile(r"(?P<base>.+?)(?P<mark>[._-](?:part[._-]?)?)(?P<number>\d{1,5}|[a-z]{2,3})", re.IGNORECASE)
_PACKED = re.compile(r"\.(zip|tar|tgz|tar\.\w+)$", re.IGNORECASE)


def parts_beside(path: Path, exists: Callable[[Path], bool] = Path.is_file) -> list[Path]:
    """The parts, in order, of the split archive that `path` is a part of: NAME.zip.001, ..., NAME.tar.gz.aa, ...

    Empty if it is not a part. SourceError if the first is missing; a missing last part shows in the archive itself.
    """
    match = _SPLIT.fullmatch(path.name)
    if not match:
        return []
    base, mark, number = match["base"], match["mark"], match["number"]

    def part(count: int) -> Path:
        return path.with_name(base + mark + _numbered(count, number))

    first = 0 if not number.isdecimal() or exists(part(0)) else 1
    if not exists(part(first)):
        if _PACKED.search(base) and (number.isdecimal() or number[0] in "aA"):  # not .gz, not .old
            raise SourceError(f"{path} is a part of a split archive: put part {part(first).name} beside it")
        return []
    parts = [part(first)]
    while exists(part(first + len(parts))):
        parts.append(part(first + len(parts)))
    if path not in parts:
        missing = part(first + len(parts)).name
        raise SourceError(f"{path} is a part of a split archive: put part {missing} beside it")
    return parts if len(parts) > 1 or _PACKED.search(base) else []


def _numbered(count: int, like: str) -> str:
    """The number of a part as `split` or 7-Zip writes it."""
    if like.isdecimal():
        return str(count).zfill(len(like))
    letters = ""
    for _ in like:
        count, letter = divmod(count, 26)
        letters = chr(ord("A" if like.isupper() else "a") + letter) + letters
    return letters
