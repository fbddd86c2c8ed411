"""From a trained model to codes, rankings and their scores.

`encode` applies a model to a set of items. `search` finds the nearest codes. `score` computes the
metrics of codes and of rankings by real-valued vectors, `score_hierarchy` the hierarchical ones, and
`health` describes codes in words. `baselines` are hash functions without a network. `code_files`
reads codes made by anything from files, and `evaluate_codes` computes their metrics (``jaxhash
evaluate CODES``). `vectors` reads vectors block by block and multiplies them within bounded memory.

Read first: `score`, whose functions the evaluation of a run (`jaxhash.runs.evaluation`) calls.
"""
