"""Removes secrets from text before it is shown: in error lines, logs, pages and Prefect's states."""

import re

_HIDDEN = "***"
# user:password@ after any scheme. Greedy up to the last @ before a slash or a space: passwords hold unescaped @ and :
_CREDENTIALS = re.compile(r"(?P<scheme>[A-Za-z][\w+.\-]*://)(?P<user>[^\s/:@'\"<>]*):(?P<password>[^\s/'\"<>]*)@")
# a password with a slash in it, which a URI may not contain but people write anyway
_SLASHED = re.compile(
    r"(?P<scheme>[A-Za-z][\w+.\-]*://)(?P<user>[^\s/:@'\"<>]*):(?P<password>[^\s'\"<>@]*)@(?=[\w.\[])"
)
_TOKEN_AS_USER = re.compile(r"(?P<scheme>https?://)(?P<user>[^\s/:@'\"<>]+)@")
_NAMES = (
    r"(?:[\w\-]*(?:password|passwd|pwd|secret|token|api[_\-]?key|auth[_\-]?string|access[_\-]?key(?:[_\-]?id)?"
    r"|account[_\-]?key|private[_\-]?key|credential|signature)|sig|X-Amz-(?:Credential|Signature|Security-Token))"
)
_ASSIGNED = re.compile(
    rf"(?<![A-Za-z0-9])(?P<name>{_NAMES})(?P<middle>\s*=\s*|['\"]\s*:\s*|:\s+)(?P<quote>['\"]?)"
    r"(?P<value>[^\s'\"&;,<>]+)",
    re.I,
)
_HEADER = re.compile(r"(?P<scheme>\b(?:Basic|Bearer)\s+)(?P<value>[A-Za-z0-9+/=_.~\-]{8,})")
_AWS_KEY = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")


def masked(text: str) -> str:
    """The text with every URI password, and every value whose name marks it as secret, replaced by ***.

    A URI keeps its scheme, user, host, path and the rest of its query, so that it is still clear which one is meant.
    Masking twice changes nothing more.
    """
    text = _CREDENTIALS.sub(rf"\g<scheme>\g<user>:{_HIDDEN}@", text)
    text = _SLASHED.sub(rf"\g<scheme>\g<user>:{_HIDDEN}@", text)
    text = _TOKEN_AS_USER.sub(rf"\g<scheme>{_HIDDEN}@", text)
    text = _ASSIGNED.sub(rf"\g<name>\g<middle>\g<quote>{_HIDDEN}", text)
    text = _HEADER.sub(rf"\g<scheme>{_HIDDEN}", text)
    return _AWS_KEY.sub(_HIDDEN, text)
