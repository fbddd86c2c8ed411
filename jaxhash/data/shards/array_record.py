"""ArrayRecord shards of tf.train.Example, such as those of TensorFlow Datasets."""

from collections.abc import Iterator, Sequence
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
            numbers = range(start, min(start + _CHUNK, reader.num_records()))
            try:
                payloads = reader.read(numbers.start, numbers.stop)
            except Exception:  # one of them is damaged
                payloads = (_read_record(reader, number) for number in numbers)
            yield from map(read_example, payloads)
    finally:
        reader.close()


def _read_record(reader: ArrayRecordReader, number: int) -> bytes:
    try:
        [payload] = reader.read([number])
    except Exception as error:
        raise ValueError(f"damaged ({first_line(error)})") from error
    return payload


class _Reader:
    """Reads records by their number."""

    def __init__(self, places: Places):
        self._places = places
        self._source = _open_all(places.paths)

    def __call__(self, records: Int[np.ndarray, " n"]) -> list[Content]:
        if not len(records):
            return []
        try:
            payloads = self._source.__getitems__(records.tolist())
        except Exception:  # it raises what C++ throws, without saying of which record
            payloads = list(map(self._read_one, records))
        return list(map(read_content, payloads))

    def _read_one(self, record: np.integer) -> bytes:
        try:
            return self._source[int(record)]
        except Exception as error:  # as above
            [shard], [number] = self._places.locate(np.array([record]))
            raise UserError(
                f"{self._places.paths[shard]}: record {number:,}: {first_line(error)}"
            ) from error


def _open_all(paths: Sequence[Path]) -> ArrayRecordDataSource:
    try:
        return ArrayRecordDataSource([str(path) for path in paths])
    except Exception:  # it raises what C++ throws, without saying of which shard
        for path in paths:
            try:
                ArrayRecordReader(str(path)).close()  # where some faults are told
            except Exception as error:
                raise UserError(
                    f"{path}: it is no whole ArrayRecord file ({first_line(error)})"
                ) from error
        raise


FORMAT = ShardFormat(_scan, _Reader, LOOKS_FOR)
