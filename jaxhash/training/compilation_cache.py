"""Compiled programs kept on disk, so that a run that goes on does not compile again."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache as jax_cache


@contextlib.contextmanager
def compilation_cache(folder: Path | None) -> Iterator[None]:
    """Keep the programs that are compiled within in this folder, and take them from there.

    Where JAX has a folder for them already, by ``JAX_COMPILATION_CACHE_DIR`` or otherwise, it stays.

    Args:
        folder: made if it is not there; None to keep nothing.
    """
    if folder is None or jax.config.jax_compilation_cache_dir is not None:
        yield
        return
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
    jax_cache.reset_cache()  # JAX may have decided before that there is none
    try:
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", None)
        jax_cache.reset_cache()
