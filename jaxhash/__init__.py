"""jaxhash: learn binary hash codes for image retrieval, in JAX and Flax.

Importing a subpackage loads only what it needs: ``jaxhash.losses`` is jax and numpy alone.
"""

__version__ = "0.1.0"
