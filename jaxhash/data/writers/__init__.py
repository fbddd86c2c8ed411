"""Writers of feature files, which `jaxhash.data.load` reads as ``features:FILE.npz``.

`feature_files` encodes images by a published backbone, `caption_embeddings` embeds captions.
"""
