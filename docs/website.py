"""What MkDocs needs to make a site of documents that are read in the repository as well.

Pages that lie outside `docs` become pages of the site, and links lead to where they are there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "license.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""Files of the repository, and what they are called as pages."""

LINK: Final = re.compile(r"(!?)\[([^]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what lies outside `docs`."""
    for path, page in PAGES.items():
        text = (ROOT / path).read_text()
        files.append(File.generated(config, page, content=f"# Licence\n\n{text}" if path == "LICENSE" else text))
    for path in sorted((ROOT / "deploy").rglob("*")):
        if path.is_file():
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to pages and files of the site; a folder is only named."""
    of = {name: path for path, name in PAGES.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def there(link: re.Match[str]) -> str:
        mark, text, target, anchor = link.groups(default="")
        path = (ROOT / of).parent.joinpath(target).resolve()
        if path.is_dir():
            return text
        if not path.is_relative_to(ROOT):
            return link[0]
        name = path.relative_to(ROOT).as_posix()
        return f"{mark}[{text}]({PAGES.get(name, name.removeprefix('docs/'))}{anchor})"

    return LINK.sub(there, markdown)
