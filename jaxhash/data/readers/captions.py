"""Reads captions of images: a text file with one caption per line."""

from pathlib import Path

from jaxhash.utils.errors import UserError


def read_captions(path: Path) -> tuple[list[str], list[str]]:
    """Reads the name of the image and the text of each caption of a file.

    Args:
        path: text file in UTF-8; a line is the name of the image, a tab and the caption. Whatever
            follows a # in the name is the number of the caption, and is dropped.

    Raises:
        UserError: if the file cannot be read, is empty, or has a line of another form.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a caption may hold other breaks
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"`captions={path}`: {error}") from error
    names, captions = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, tab, caption = line.partition("\t")
        name = name.partition("#")[0].strip()
        if not tab or not name or not caption.strip():
            raise UserError(f"{path}, line {number}: expected IMAGE, a tab and a caption")
        names.append(name)
        captions.append(caption.strip())
    if not names:
        raise UserError(f"{path}: there are no captions")
    return names, captions
