"""A cache of compiled programs on disk, so that a resumed run does not compile again."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache as jax_cache


@contextlib.contextmanager
def compilation_cache(folder: Path | None) -> Iterator[None]:
    """Stores programs that are compiled inside the context in a folder, and reads them from there.

    A cache folder that JAX has already, from ``JAX_COMPILATION_CACHE_DIR`` or otherwise, stays in
    use.

    Args:
        folder: created if it does not exist; None to cache nothing.
    """
    if folder is None or jax.config.jax_compilation_cache_dir is not None:
        yield
        return
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
    jax_cache.reset_cache()  # JAX may have concluded before that there is none
    try:
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", None)
        jax_cache.reset_cache()
