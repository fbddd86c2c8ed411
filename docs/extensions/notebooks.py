"""Offers each tutorial as a notebook, which jupytext makes of the page."""

import re

import jupytext
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

FOLDER = "tutorials/"

#: Says that cells are of Python; those of the shell get a line that says so.
HEADER = """---
jupyter:
  kernelspec: {display_name: Python 3, language: python, name: python3}
---

"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds a notebook beside each tutorial."""
    for file in files.documentation_pages():
        if file.src_uri.startswith(FOLDER):
            content = jupytext.writes(jupytext.reads(_cells(file.content_string), "md"), "ipynb")
            name = file.src_uri.removesuffix(".md") + ".ipynb"
            files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_) -> str:
    """Links the notebook below the title of a tutorial."""
    if not page.file.src_uri.startswith(FOLDER):
        return markdown
    name = page.file.src_uri.removeprefix(FOLDER).removesuffix(".md")
    title, rest = markdown.split("\n", 1)
    return f"{title}\n\n[Notebook]({name}.ipynb){{ .md-button }}\n{rest}"


def _cells(markdown: str) -> str:
    """Returns a page without what its examples print, as the notebook prints it; SQL is no cell."""
    bare = re.sub(r"(^```\n\n)```text\n.*?^```\n", r"\1", markdown, flags=re.M | re.S)
    return HEADER + re.sub(r"^```sql$", "```text", bare, flags=re.M)
