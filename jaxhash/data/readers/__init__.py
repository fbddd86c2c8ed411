"""Readers: one module for each kind of file or set that is read.

Those that make a `jaxhash.data.sources.Source` are `digits`, `tfds`, `folder` (with `image_files` and
`images`), `features` and `counts`. The others read `captions`, `lists`, `split_files`, `class_similarity`,
`labels` and `arrays`. `jaxhash.data.load` opens a source by its name.
"""
