"""Exports hash functions and the codes of an index to other systems.

`export_index` writes the codes of an index, and `index_formats` are the forms. `export_hasher` writes a
hash function: as an archive, as a program of JAX (`jax_program`) or of ONNX (`onnx_program`), or as a
folder for the Hugging Face hub (`hub`).
"""
