"""Shards: files that hold many records each, images or vectors with their labels, read by an index.

`listing` finds the shards of a folder and their parts. Each format is a module that scans a shard, record by
record, and later reads records by number: `tar` (WebDataset), `parquet` (Hugging Face), `tfrecord` and
`array_record` (of `example`, tf.train.Example); `formats` has one line for each. `index` records once where
the records are, with their labels; `rows` reads them as the inputs of a source.
"""
