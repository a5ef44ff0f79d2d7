"""The pages of docs/ become a site: no link leads nowhere, and nothing is fetched from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.commands import PAGES, ROOT


@pytest.mark.slow
def test_the_site_is_built(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    names = {"README": "index", "CONTRIBUTING": "contributing"}
    for page in PAGES:
        text = (tmp_path / f"{names.get(page.stem, page.stem)}.html").read_text()
        assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="?https?:', text), page.name
        for picture in re.findall(r'<img[^>]*src="([^"]+)"', text):
            assert (tmp_path / picture).exists(), f"{page.name}: {picture}"
    api = (tmp_path / "api.html").read_text()
    for name in ("open_block", "load_model", "evaluate", "Model", "Block", "Family"):
        assert re.search(rf'id="genmodel\.[\w.]*\b{name}"', api), name
    assert not list(tmp_path.rglob("*.py"))
