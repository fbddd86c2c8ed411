"""Makes the site show what lies outside of docs/: the pictures and figures of experiments/results.

Pages link to them as they lie in the repository, so that they are found there, too.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

RESULTS = Path(__file__).parents[2] / "experiments" / "results"
LINK = re.compile(r"\]\((?:\.\./)+experiments/results/([\w.-]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files of experiments/results that pages link to."""
    linked = {
        name for file in files.documentation_pages() for name in LINK.findall(file.content_string)
    }
    for name in sorted(linked):
        files.append(
            File.generated(config, f"results/files/{name}", abs_src_path=str(RESULTS / name))
        )
    return files


def on_page_markdown(markdown: str, page: Page, **_) -> str:
    """Points the links at the files that were added."""
    up = "../" * page.file.src_uri.count("/")
    return LINK.sub(rf"]({up}results/files/\1)", markdown)
