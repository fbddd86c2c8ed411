"""An index is a folder: packed codes, the items they belong to, and the hash function that made them.

    index.json             the manifest: what the other files are; replaced whole, and last
    codes-000000.npy       packed codes of a shard, uint8 [rows, bytes]
    items-000000.parquet   its items, a row for each code, then the inputs that could not be read
    floats-000000.npy      real-valued codes, or features-000000.npy, if the index keeps them
    thumbnails-000000.arrow  small images of the items as JPEG, if the index keeps them
    removed-000001.npy     ids that are removed, and whose rows are still in their shards
    faiss.index            what a search reads, made from the codes; made again if it is missing
    hasher/                the hash function
    lock                   held by a writer

Read first `folder`, the class `Index`. `manifest` is index.json, `items` the Parquet table, `state` reads
what one manifest names, `shards` writes files, and `known` serves an encoding that goes on. `search` is
the part of `Index` that searches: by `cache`, which is faiss.index with equal codes as one (`groups`), or
by `scan`, the shards as they are.
"""

from jaxhash.retrieval.index.folder import Index, Source
from jaxhash.retrieval.index.items import IndexItem
from jaxhash.retrieval.index.known import Known
from jaxhash.retrieval.index.search import SearchResult, Ties
from jaxhash.retrieval.index.state import MissingItem

__all__ = ["Index", "IndexItem", "Known", "MissingItem", "SearchResult", "Source", "Ties"]
