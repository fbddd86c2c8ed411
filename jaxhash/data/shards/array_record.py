"""ArrayRecord shards of tf.train.Example, such as those of TensorFlow Datasets."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordReader
from jaxtyping import Int

from jaxhash.data.shards.example import LOOKS_FOR, read_content, read_example
from jaxhash.data.shards.records import Content, Places, Record, ShardFormat
from jaxhash.utils.errors import UserError, first_line

#: Records that are read at a time when a shard is scanned.
_CHUNK = 1024


def _scan(path: Path) -> Iterator[Record]:
    """Yields the records of a shard; see `ShardFormat.scan`."""
    try:
        reader = ArrayRecordReader(str(path))
    except Exception as error:  # it raises what C++ throws
        raise ValueError(f"it is no whole ArrayRecord file ({first_line(error)})") from error
    try:
        for start in range(0, reader.num_records(), _CHUNK):
            try:
                payloads = reader.read(start, min(start + _CHUNK, reader.num_records()))
            except Exception as error:
                raise ValueError(f"damaged at record {start:,} or soon after") from error
            yield from map(read_example, payloads)
    finally:
        reader.close()


class _Reader:
    """Reads records by their number."""

    def __init__(self, places: Places):
        self._places = places
        self._source = ArrayRecordDataSource([str(path) for path in places.paths])

    def __call__(self, records: Int[np.ndarray, " n"]) -> list[Content]:
        if not len(records):
            return []
        try:
            payloads = self._source.__getitems__(records.tolist())
        except Exception as error:  # it raises what C++ throws
            shards = sorted(
                {self._places.paths[shard] for shard in self._places.locate(records)[0]}
            )
            raise UserError(
                f"{shards[0]}: it, or another shard of the batch, cannot be read ({first_line(error)})"
            ) from error
        return list(map(read_content, payloads))


FORMAT = ShardFormat(_scan, _Reader, LOOKS_FOR)
