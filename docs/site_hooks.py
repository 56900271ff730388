"""What mkdocs needs to know about this repository: pages that are made of other files, and links out of ``docs/``.

Texts stay where they are read on their own (a method's README in its folder, a key's explanation beside its default)
and are built into pages from there.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # mkdocs puts the path back once this module is loaded

from docs.config_page import config_page  # noqa: E402

# Pages whose text is another file of the repository.
SOURCES = {
    "methods/masktrack_rcnn.md": "projects/masktrack_rcnn/README.md",
    "methods/seq_mask_rcnn.md": "projects/seq_mask_rcnn/README.md",
    "methods/ctvis.md": "projects/ctvis/README.md",
    "methods/vmt.md": "projects/vmt/README.md",
    "methods/vmt-training.md": "projects/vmt/TRAINING.md",
    "datasets.md": "datasets/README.md",
}
NOTEBOOK = "docs/quickstart.ipynb"
CODE_FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]\n]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of other files."""
    pages = {page: (ROOT / source).read_text(encoding="utf-8") for page, source in SOURCES.items()}
    pages["quickstart.md"] = notebook_markdown((ROOT / NOTEBOOK).read_text(encoding="utf-8"))
    pages["configuration.md"] = config_page()
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page, **_) -> str:
    """Point links between files of the repository to their pages; files that have none are named instead."""
    page_name = page.file.src_uri
    source = PurePosixPath(SOURCES.get(page_name, f"docs/{page_name}"))
    parts = CODE_FENCE.split(markdown)
    parts[::2] = [LINK.sub(lambda found: _link(found, source, page_name), part) for part in parts[::2]]
    return "".join(parts)


def _link(found: re.Match, source: PurePosixPath, page_name: str) -> str:
    text, (target, _, anchor) = found[1], found[2].partition("#")
    if not target or "://" in target or target.startswith("mailto:"):
        return found[0]
    path = os.path.normpath(source.parent / target).replace(os.sep, "/")  # from the root of the repository
    if not (ROOT / path).exists() and f"{path.removeprefix('docs/')}" not in ("configuration.md", "quickstart.md"):
        raise PluginError(f"{source}: link to {target}, which is not there")
    to_page = _page_of(path)
    if to_page is None:
        return f"`{path}`"
    here = PurePosixPath(page_name).parent
    return f"[{text}]({os.path.relpath(to_page, here).replace(os.sep, '/')}{'#' + anchor if anchor else ''})"


def _page_of(path: str) -> str | None:
    """The page or picture that a file of the repository is on the site; None if it is not on it."""
    if path == "README.md":
        return "index.md"
    built_in = {source: page for page, source in SOURCES.items()}
    built_in |= {str(PurePosixPath(source).parent): page for source, page in built_in.items() if "README" in source}
    return built_in.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)


def notebook_markdown(text: str) -> str:
    """A notebook's cells, without outputs, as Markdown."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    return "\n\n".join(parts)
