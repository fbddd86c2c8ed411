"""Writers of feature files, which `jaxhash.data.load` reads as ``features:FILE.npz``, and of small images.

`feature_files` encodes images by a published backbone, `caption_embeddings` embeds captions, `thumbnails`
makes small images.
"""
