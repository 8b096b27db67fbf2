"""Shards: files of raw little-endian rows, written whole or not at all and read a few rows at a time."""

from __future__ import annotations

import errno
import hashlib
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from torch_radar.vectors.manifest import Shard, StoreError, sync_folder

DTYPES = {"float16": torch.float16, "float32": torch.float32}
_CHUNK_BYTES = 1 << 22
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def shard_path(folder: Path, number: int) -> Path:
    """Where shard ``number`` of the store in ``folder`` lies."""
    return folder / "shards" / f"{number:08d}.bin"


def write_shard(folder: Path, number: int, first_row: int, vectors: torch.Tensor) -> Shard:
    """Write ``vectors`` (n, d), contiguous and already in the stored dtype, so that a crash leaves all of them or none.

    Raises:
        OSError: no room is left; the half-written file is removed first.
    """
    path = shard_path(folder, number)
    aside = path.with_name(path.name + ".tmp")
    data = vectors.numpy().data.cast("B")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with suppress(OSError):  # the first error is the one to report
            aside.unlink(missing_ok=True)
        if error.errno not in _NO_ROOM:
            raise
        raise OSError(
            error.errno,
            f"No room left for shard {number} ({data.nbytes:,} bytes; {error.strerror}). The {first_row} documents "
            f"committed before stay readable: free some space and run again",
            str(folder),
        ) from error
    os.replace(aside, path)
    sync_folder(path.parent)
    rows = vectors.float()
    return Shard(
        number=number,
        first_row=first_row,
        rows=len(vectors),
        bytes=data.nbytes,
        sha256=hashlib.sha256(data).hexdigest(),
        largest_norm=_largest_norm(rows),
        largest_bfloat16_error=_largest_norm(rows - rows.bfloat16().float()),
    )


def _first_row(shard: Shard) -> int:
    return shard.first_row


def _largest_norm(rows: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).max())


@dataclass(frozen=True)
class ShardReader:
    """The rows of the shards committed at one moment, as float32 tensors on any device."""

    folder: Path
    dimension: int
    dtype: str
    shards: Sequence[Shard]

    def __len__(self) -> int:
        return self.shards[-1].first_row + self.shards[-1].rows if self.shards else 0

    def read(self, start: int, stop: int, out: torch.Tensor) -> None:
        """Fill ``out`` (stop − start, d) with rows ``start`` to ``stop``.

        Rows are read, not mapped: threads that map and unmap blocks hold one another up, and pages of a mapping
        that stays would count as resident memory.
        """
        for shard in self._overlapping(start, stop):
            first, last = max(start, shard.first_row), min(stop, shard.first_row + shard.rows)
            path, part = shard_path(self.folder, shard.number), out[first - start : last - start]
            is_direct = self.dtype == "float32" and part.device.type == "cpu"
            values = part.numpy() if is_direct else np.empty(part.shape, dtype=self._numpy_dtype)
            with open(path, "rb") as file:
                file.seek((first - shard.first_row) * self.dimension * values.itemsize)
                if file.readinto(values.data) < values.nbytes:
                    raise StoreError(f"Shard file {path} was cut while it was read: restore it from a copy.")
            if not is_direct:
                part.copy_(torch.from_numpy(values).to(out.device))

    def gather(self, rows: np.ndarray, out: torch.Tensor) -> None:
        """Fill ``out`` (n, d) with the given rows: int64, ascending, all of them stored."""
        for shard in self._overlapping(int(rows[0]), int(rows[-1]) + 1):
            bounds = np.searchsorted(rows, (shard.first_row, shard.first_row + shard.rows))
            if bounds[0] < bounds[1]:
                local = torch.from_numpy(rows[slice(*bounds)] - shard.first_row)
                mapped = np.memmap(  # private: torch wants a writable array, the file is never written
                    shard_path(self.folder, shard.number),
                    dtype=self._numpy_dtype,
                    mode="c",
                    shape=(shard.rows, self.dimension),
                )
                taken = torch.from_numpy(mapped).index_select(0, local)
                out[slice(*bounds)].copy_(taken.to(out.device))

    def check_sizes(self) -> None:
        """Raise a StoreError that names the first shard whose file is missing or of the wrong size."""
        for shard in self.shards:
            path = shard_path(self.folder, shard.number)
            size = path.stat().st_size if path.is_file() else None
            if size != shard.bytes:
                found = "missing" if size is None else f"{size:,} bytes long instead of {shard.bytes:,}"
                raise StoreError(
                    f"Shard file {path} is {found}: restore it from a copy, or index the collection again."
                )

    def check_contents(self) -> None:
        """Raise a StoreError that names the first shard whose bytes are not those that were written."""
        for shard in self.shards:
            path = shard_path(self.folder, shard.number)
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != shard.sha256:
                last = shard.first_row + shard.rows - 1
                raise StoreError(
                    f"Shard file {path} (rows {shard.first_row} to {last}) does not match its checksum: restore "
                    "it from a copy, or index the collection again."
                )

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """All rows in order as (first row, float32 (n, d)) with a few megabytes each.

        The array is reused from block to block: copy what must outlive the next one.
        """
        size = max(1, _CHUNK_BYTES // (4 * self.dimension))
        out = torch.empty(size, self.dimension)
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            self.read(start, stop, out[: stop - start])
            yield start, out[: stop - start].numpy()

    def _overlapping(self, start: int, stop: int) -> Iterator[Shard]:
        begin = bisect_right(self.shards, start, key=_first_row) - 1
        end = bisect_left(self.shards, stop, key=_first_row)
        return iter(self.shards[max(begin, 0) : end])

    @property
    def _numpy_dtype(self) -> np.dtype:
        return np.dtype(self.dtype).newbyteorder("<")
