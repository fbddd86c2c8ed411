"""The folder of a run or a sweep, in which one training writes at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxhash.training.distributed import broadcast_from_host0
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import write_json


@contextlib.contextmanager
def open_folder(folder: Path, content: dict[str, Any]) -> Iterator[None]:
    """Make the folder, with its config.json, and keep other trainings out of it until the end.

    The system lets go of a folder whose training is killed. Where it knows no locks, as on some file
    systems that hosts share, nobody is kept out.

    Args:
        folder: the folder; it may be there, with the same content.
        content: of config.json.

    Raises:
        UserError: in all processes, if another training is writing there.
    """

    def enter() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
        held.callback(os.close, file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another training is writing into {folder}; choose another --run-dir, or wait"
            ) from None
        except OSError:
            pass  # no locks here
        write_json(folder / "config.json", content)

    with contextlib.ExitStack() as held:
        broadcast_from_host0(enter)
        yield
