"""Writes shards of each format with what others write them with: tarfile, pyarrow, array_record, bytes."""

import io
import json
import struct
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.proto.tf_example_generated_pb2 import Example

FORMATS = ("tar", "parquet", "tfrecord", "array_record")


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def npy(vector):
    file = io.BytesIO()
    np.save(file, vector)
    return file.getvalue()


def write_members(path, members):
    """A tar file of members by their names."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _crc32c(content):
    """CRC-32C by its table, unlike the library's."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    crc = 0xFFFFFFFF
    for byte in content:
        crc = table[(crc ^ byte) & 255] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def tfrecord(payloads):
    """The bytes of a TFRecord file."""
    records = []
    for payload in payloads:
        length = struct.pack("<Q", len(payload))
        crcs = (struct.pack("<I", _crc32c(part)) for part in (length, payload))
        records.append(length + next(crcs) + payload + next(crcs))
    return b"".join(records)


def example(**values):
    """A tf.train.Example; names have _ for /."""
    made = Example()
    for name, value in values.items():
        feature = made.features.feature[name.replace("__", "/")]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif isinstance(value, str):
            feature.bytes_list.value.append(value.encode())
        elif isinstance(value, np.ndarray):
            feature.float_list.value.extend(value.tolist())
        else:
            feature.int64_list.value.append(value)
    return made.SerializeToString()


def array_record(path, payloads):
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for payload in payloads:
        writer.write(payload)
    writer.close()


def class_label(names):
    """The metadata in which Hugging Face keeps the names of classes."""
    feature = {"label": {"names": names, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    return {b"huggingface": json.dumps({"info": {"features": feature}}).encode()}


def write_shard(kind, path, contents, labels, *, row_group_size=4, names=None):
    """Writes one shard of images (bytes) or of vectors; a label is a number, a name or None."""
    is_images = isinstance(contents[0], bytes)
    pairs = list(zip(contents, labels, strict=True))
    if kind == "tar":
        members = []
        for number, (content, label) in enumerate(pairs):
            suffix, stored = ("png", content) if is_images else ("npy", npy(content))
            members.append((f"{path.stem}/{number:04d}.{suffix}", stored))
            if label is not None:
                members.append((f"{path.stem}/{number:04d}.cls", str(label).encode()))
        return write_members(path, members)
    if kind == "parquet":
        if is_images:
            column = pa.array([{"bytes": content, "path": None} for content in contents])
        else:
            column = pa.array([content.tolist() for content in contents], pa.list_(pa.float32()))
        table = pa.table({"image" if is_images else "embedding": column, "label": pa.array(labels)})
        if names is not None:
            table = table.replace_schema_metadata(class_label(names))
        return pq.write_table(table, path, row_group_size=row_group_size)
    key = "image" if is_images else "features"
    payloads = [
        example(**{key: content}, **({} if label is None else {"label": label}))
        for content, label in pairs
    ]
    if kind == "tfrecord":
        return path.write_bytes(tfrecord(payloads))
    return array_record(path, payloads)
