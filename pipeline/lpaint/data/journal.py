"""Journal of a packing: which entries are packed, written to disk so that a crash loses none of them."""

import json
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lpaint.data.worker import EntryResult


class Journal:
    """A file of JSON lines: first ``key``, which identifies the packing, then one line of entries for each commit.

    An incomplete line after a crash is ignored, and so are all lines after it. A journal with another key is cleared.
    """

    def __init__(self, path: Path, key: dict[str, Any]) -> None:
        self.widths, self.heights = array("i"), array("i")
        self.reasons: dict[int, str] = {}
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        valid = self._read_valid(path, key)
        os.ftruncate(self._file, valid)
        os.lseek(self._file, valid, os.SEEK_SET)
        if not valid:
            self._write(key)

    def __len__(self) -> int:
        return len(self.widths)

    @property
    def good_count(self) -> int:
        """Number of entries whose pixels are packed."""
        return len(self) - len(self.reasons)

    def commit(self, decoded: Sequence[EntryResult]) -> None:
        """Append entries and flush them to disk. Their pixels must be on the disk already."""
        rows = [(entry.width, entry.height) if entry.ok else entry.reason for entry in decoded]
        self._write({"from": len(self), "rows": rows})
        for entry in decoded:
            self._add(entry)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _add(self, entry: EntryResult) -> None:
        if not entry.ok:
            self.reasons[len(self)] = entry.reason
        self.widths.append(entry.width)
        self.heights.append(entry.height)

    def _write(self, line: dict[str, Any]) -> None:
        content = memoryview(json.dumps(line, sort_keys=True).encode() + b"\n")
        while content:
            content = content[os.write(self._file, content) :]
        os.fsync(self._file)

    def _read_valid(self, path: Path, key: dict[str, Any]) -> int:
        """Read the valid lines; returns their length in bytes."""
        valid = 0
        with path.open("rb") as stream:
            for line in stream:
                if not line.endswith(b"\n") or not self._accept_line(line, None if valid else key):
                    break
                valid += len(line)
        return valid

    def _accept_line(self, line: bytes, key: dict[str, Any] | None) -> bool:
        """Read one line and return whether it is valid. The first line must be ``key``."""
        try:
            value = json.loads(line)
            if key is not None:
                return bool(value == key)
            if value["from"] != len(self):
                return False
            entries = [EntryResult(0, 0, row) if isinstance(row, str) else EntryResult(*row) for row in value["rows"]]
        except (ValueError, KeyError, TypeError):
            return False
        for entry in entries:
            self._add(entry)
        return True
