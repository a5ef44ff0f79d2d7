"""What makes a site of the pages (mkdocs.yml): README and CONTRIBUTING are pages of it, too, and what a page links to
outside of docs/ is named instead."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
BESIDE = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md"}  # page -> file of the root


def on_files(files: Files, config: Any) -> Files:
    for page, name in BESIDE.items():
        text = (ROOT / name).read_text().replace("](docs/", "](").replace('src="docs/', 'src="')
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to other pages and pictures stay; of one to the code the name is left."""

    def linked(found: re.Match[str]) -> str:
        text, target = found[1], found[2].partition("#")[0]
        for beside, name in BESIDE.items():
            if target.removeprefix("../") == name:
                return f"[{text}]({beside})"
        here = ROOT if page.file.src_uri in BESIDE else ROOT / "docs"
        if "://" in target or not target or files.get_file_from_path(target) or not (here / target).exists():
            return found[0]  # the build fails for one that leads nowhere
        return text if "/" in text else f"`{text}`"

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", linked, markdown)
