"""Hash functions and quantizers that a learned hash function is compared with.

`linear_hashes` fits mean and projection without labels, by four methods; ``jaxhash fit`` makes a hash
function of them. `product_quantizer` is faiss's, for codes of the same bytes, and `reranking` orders
the nearest codes by the vectors themselves. `class_index` needs labels: its codes hold the class alone.

All are fitted to training features, an array or `LazyVectors`, which are read block by block.
``memory_bytes`` bounds the memory beside the features, and `max_fitting_items` returns how many items
it allows. What uses no labels takes vectors at length 1.

Read first: `linear_hashes`.
"""
