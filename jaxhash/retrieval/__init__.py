"""From a trained model to codes, rankings and their scores.

To take codes home: `hasher` is a hash function with its inputs' form, `archive` reads it from the files
of `archive_format`, and `fitting` makes one of vectors, in seconds. `encode_index` writes the codes of files
or arrays into an `index`, a folder of codes and the items they belong to; `queries` encodes what is
searched for, `search` finds the nearest codes, and `export` writes both in the forms of other systems.

To evaluate codes: `encode` applies a model to a set of items. `score` computes the metrics of codes and
of rankings by real-valued vectors, `score_hierarchy` the hierarchical ones, and `health` describes codes
in words. `baselines` are hash functions without a network. `code_files` reads codes made by anything,
`indexed_codes` those of two indexes, and `evaluate_codes` computes their metrics (``jaxhash evaluate CODES``). `vectors` reads vectors block
by block and multiplies them within bounded memory.

Read first: `hasher`, and `score`, whose functions the evaluation of a run calls. Users start from the
names below, which are loaded when they are used:

- ``Index``: codes in a folder; made, opened, added to and searched.
- ``fit``: a hash function of vectors, without training.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers; at run time `__getattr__` imports the same names
    from jaxhash.retrieval.fitting import fit as fit
    from jaxhash.retrieval.index import Index as Index

_MODULES = {"Index": "index", "fit": "fitting"}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """Imports one of the names above; what needs none of them stays quick."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
