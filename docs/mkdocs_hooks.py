"""What the pages of `make docs` have beside the files of docs/: the flags, and links into code.

mkdocs calls the functions by their names.
"""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

from make_reference import pages  # noqa: E402  # beside this file, which mkdocs loads by its path


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the pages of flags to the navigation, below `Reference`."""
    below = next(entry["Reference"] for entry in config.nav or [] if "Reference" in entry)
    names = ["index.md", *sorted(set(pages()) - {"index.md"})]
    below.append({"Flags": [f"reference/flags/{name}" for name in names]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of flags."""
    for name, text in pages().items():
        files.append(File.generated(config, f"reference/flags/{name}", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Makes a link that leaves docs/ the name of the file, which the site does not hold."""
    here = (DOCS / page.file.src_uri).parent

    def named(match: re.Match[str]) -> str:
        text, target = match[1], match[2].partition("#")[0]
        there = (here / target).resolve()
        if not target or "://" in target or there.is_relative_to(DOCS):
            return match[0]
        name = there.relative_to(DOCS.parent).as_posix()
        return text if name in text else f"{text} (`{name}`)"

    return re.sub(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)", named, markdown)
