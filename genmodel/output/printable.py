"""Makes text from outside (names of files, classes, models; another program's output) safe to show.

A control character moves the cursor or begins a line, a bidirectional one reverses the order of what follows, and an
invisible one makes two names look alike: a terminal, a log or a report would show what nobody wrote.
"""

import re

_HIDDEN = (
    r"\x00-\x1f\x7f-\x9f"  # control characters: C0, DEL, C1
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # bidirectional marks, overrides and isolates
    r"\u2028\u2029"  # separators of lines and paragraphs
    r"\xad\u180e\u200b\u2060-\u2065\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # invisible
    r"\ud800-\udfff"  # halves of surrogate pairs: bytes that are not UTF-8
)
# A joiner between two letters of another script, or two emoji, belongs to the text; next to ASCII it is hidden.
_JOINERS, _JOINED = r"\u200c\u200d", rf"[^\x00-\x7f\u200c\u200d{_HIDDEN}]"
_UNSAFE = re.compile(rf"[{_HIDDEN}]|(?<!{_JOINED})[{_JOINERS}]|[{_JOINERS}](?!{_JOINED})")
# Intraword underscores mean nothing to Markdown; bare addresses become links if they begin with http:// or www.
_MARKDOWN = re.compile(
    r"[\\`*\[\]<>|&~#]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.|@|^\s*[-+=]|(?<=\d)[.)](?=\s|$)", re.I
)


def printable(text: str) -> str:
    r"""The text on one line, with invisible and control characters written as \x1b, \n or \u202e.

    Letters of every script and emoji stay. Applying it twice changes nothing more.
    """
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def is_printable(text: str) -> bool:
    """Whether `printable` leaves the text as it is."""
    return _UNSAFE.search(text) is None


def markdown_text(text: str) -> str:
    """The text as Markdown (also in a table cell) that shows it literally: no markup, links or HTML."""
    return _MARKDOWN.sub(lambda found: found[0][:-1] + "\\" + found[0][-1], printable(text))


def markdown_code(text: str) -> str:
    """The text as Markdown code; a backtick, which would end it, becomes an apostrophe."""
    return f"`{printable(text).replace('`', chr(39))}`"
