"""What is shown of text from outside: one line, nothing that acts, everything else as it was."""

import html
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genmodel.errors import SourceError, user_errors
from genmodel.output.printable import is_printable, markdown_code, markdown_text, printable
from genmodel.output.progress import say

BIDI = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
NASTY = "\x1b[2J\x07\x7f\x85\x9b31m\n\r\t\u2028\u2029\u202e\u2066\u200f\u061c\u200b\u200d\ufeff\xad\udcff\U000e0041"
ANY = st.text(
    st.one_of(
        st.characters(), st.sampled_from(NASTY + "aé日\u200c👩💻 _|`[]()<>\\*&#~:/.@1-+=!"), st.characters(codec=None)
    )
)


@given(ANY)
def test_printable_text_is_one_line_that_hides_nothing_and_does_nothing(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1 and is_printable(shown)
    shown.encode()  # no surrogates
    for character in shown:
        assert unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp"), repr(character)
        assert unicodedata.bidirectional(character) not in BIDI and character not in "\u200e\u200f\u061c\ufeff\u200b"
    assert printable(shown) == shown
    assert is_printable(text) == (shown == text)
    assert printable("".join(c for c in text if " " <= c <= "~")).isascii()


@given(st.text(st.characters(codec="utf-8", categories=("L", "M", "N", "P", "S", "Zs"))))
def test_what_is_printable_stays(text: str) -> None:
    assert printable(text) == text


def test_a_control_character_becomes_its_escape() -> None:
    assert printable("a\x1b[31m\nb\u202ec\udcff\x9b\0") == r"a\x1b[31m\nb\u202ec\udcff\x9b\x00"
    assert (
        printable("Zoë 日本語 naïve 👩‍💻 🇩🇪 می‌خواهم") == "Zoë 日本語 naïve 👩‍💻 🇩🇪 می‌خواهم"
    )  # joiners that are written
    assert printable("ad\u200dmin a\u200c") == r"ad\u200dmin a\u200c"  # and such that forge


@pytest.mark.parametrize("name", ["x\nerror: all is well", "\x1b[2J\x1b[H", "a\r\u202egnp", "\udcff.png"])
def test_the_terminal_gets_no_control_characters(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), user_errors():
        raise SourceError(f"{name} is gone: fetch it again")
    say(name)
    said = capfd.readouterr().err.splitlines()
    assert said == [f"error: {printable(name)} is gone: fetch it again", printable(name)]


HOSTILE = [
    "a|b",
    "`x`",
    "![p](http://x.y/z.png)",
    "[a](http://x.y)",
    "<script>alert(1)</script>",
    "**b** _i_ a_b ~~s~~",
]
HOSTILE += [
    "http://x.y",
    "www.x.y",
    "a@b.cd",
    "# h",
    "- x",
    "1. x",
    "&lt;",
    "<http://x.y>",
    "\\`",
    "a\n\n# h",
    "[a]: b",
]


def rendered(text: str) -> str:
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return str(markdown.render(text))


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_shows_a_hostile_name_as_it_is(name: str) -> None:
    shown = html.escape(printable(name))
    assert rendered(markdown_text(name)) == f"<p>{shown}</p>\n"
    assert f"<td>{shown}</td>" in rendered(f"| a |\n| --- |\n| {markdown_text(name)} |\n")
    assert (
        rendered(markdown_code(name))
        == f"<p><code>{shown.replace('`', '&#x27;').replace('&#x27;', chr(39))}</code></p>\n"
    )
    assert not re.search(r"https?://|www\.|\w@", markdown_text(name))  # which would become links


@given(ANY.filter(lambda text: text.strip()))
def test_markdown_shows_any_text_as_it_is(text: str) -> None:
    shown = " ".join(printable(text).split(" ")).strip()
    got = html.unescape(re.fullmatch(r"<p>(.*)</p>\n", rendered("x " + markdown_text(text)))[1])  # type: ignore[index]
    assert got == ("x " + printable(text)).rstrip(" ") or got.split() == ("x " + shown).split()
