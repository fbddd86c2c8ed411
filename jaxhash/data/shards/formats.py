"""The formats of shards, by the suffixes of their files."""

from jaxhash.data.shards import array_record, parquet, tar, tfrecord
from jaxhash.data.shards.records import ShardFormat

#: Each format by its name.
FORMATS: dict[str, ShardFormat] = {
    "tar": tar.FORMAT,
    "parquet": parquet.FORMAT,
    "tfrecord": tfrecord.FORMAT,
    "array_record": array_record.FORMAT,
}

#: The format of a suffix. A number may follow it, such as ``.tfrecord-00000-of-00010``.
SUFFIXES = {
    ".tar": "tar",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".tfrecord": "tfrecord",
    ".tfrecords": "tfrecord",
    ".array_record": "array_record",
    ".arrayrecord": "array_record",
}
