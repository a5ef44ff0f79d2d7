"""The size of a JPEG XL image, from its header: the plugin decodes the whole image before it reports the size."""

_STREAM, _BOXES = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_RATIOS = (0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1)  # of width to height
_BITS = 9, 13, 18, 30


def size(content: bytes) -> tuple[int, int] | None:
    """Width and height (ISO/IEC 18181-1, SizeHeader), or None if it is not a JPEG XL."""
    stream = content if content.startswith(_STREAM) else _in_boxes(content)
    if not stream.startswith(_STREAM):
        return None
    bits, at = int.from_bytes(stream[2:14], "little"), 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return bits >> at - count & (1 << count) - 1

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take(_BITS[take(2)]) + 1

    height = side()
    across, down = _RATIOS[take(3)]
    return (height * across // down if across else side()), height


def _in_boxes(content: bytes) -> bytes:
    """The start of the codestream in a file of boxes: jxlc has all of it, the first jxlp four bytes and a part."""
    at = 0
    while content.startswith(_BOXES) and at + 8 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        head = 16 if length == 1 else 8  # a 64-bit length after the kind
        if kind in (b"jxlc", b"jxlp"):
            return content[at + head + (4 if kind == b"jxlp" else 0) :][:16]
        length = int.from_bytes(content[at + 8 : at + 16], "big") if length == 1 else length
        if length < 8:
            break
        at += length
    return b""
