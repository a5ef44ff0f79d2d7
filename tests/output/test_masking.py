import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genmodel.output.masking import masked

SECRET = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/'\"<>&;,@"), min_size=6).map(
    lambda word: f"Zq9{word}"
)
SCHEME = st.sampled_from(["http", "https", "postgresql+psycopg2", "mysql", "s3", "ssh", "redis", "mssql+pyodbc"])
AROUND = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="@:/='\""), max_size=20)


@given(scheme=SCHEME, secret=SECRET, before=AROUND, after=AROUND)
def test_no_password_of_a_uri_is_shown_and_the_rest_stays(scheme: str, secret: str, before: str, after: str) -> None:
    said = masked(f"{before} {scheme}://me:{secret}@db.example:5432/x?mode=ro {after}")
    assert secret not in said
    assert f"{scheme}://me:***@db.example:5432/x?mode=ro" in said
    assert masked(said) == said


@given(
    name=st.sampled_from(
        ["password", "AWSAccessKeyId", "Signature", "PREFECT_API_AUTH_STRING", "sig", "api_key", "token"]
    ),
    secret=SECRET,
)
def test_no_value_of_a_secret_s_name_is_shown(name: str, secret: str) -> None:
    assert secret not in masked(f"https://host/a?x=1&{name}={secret}&y=2")
    assert masked(f"https://host/a?x=1&{name}={secret}&y=2").endswith(f"{name}=***&y=2")


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:p@ss:w0rd@h/db",
        "https://u:pass/w0rd@h/db",
        "https://w0rd@github.com/a/b",
        "Authorization: Basic w0rdw0rdw0rd",
        "{'password': 'w0rd'}",
        "no access for AKIAW0RDW0RDW0RDW0RD here",
    ],
)
def test_what_people_write(text: str) -> None:
    assert "w0rd" not in masked(text).lower()


@given(AROUND)
def test_other_text_is_left_alone(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize("text", ["http://127.0.0.1:4200/api", "git@github.com:a/b", "ssh://git@host/a", "a: 1; b=2"])
def test_addresses_without_a_secret_are_left_alone(text: str) -> None:
    assert masked(text) == text


def test_an_error_line_shows_no_password(tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "MLFLOW_TRACKING_URI": "ftp://me:w0rd@host/x",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-m", "flows.registry", "history"]
    told = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert told.returncode == 2
    assert "MLFLOW_TRACKING_URI=ftp://me:***@host/x" in told.stderr
