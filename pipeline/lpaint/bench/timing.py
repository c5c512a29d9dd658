"""Time actions in turns, and report their medians."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lpaint.errors import ParamsError
from lpaint.files import write_text

_PACKAGES = ("lpaint", "torch", "onnxruntime-gpu", "onnxruntime", "numpy", "pillow")


@dataclass(frozen=True)
class Row:
    """One figure: name, value, unit."""

    name: str
    value: float
    unit: str


@dataclass
class Report:
    """Title of a benchmark, the sizes it ran at, and its figures in order."""

    title: str
    sizes: dict[str, Any]
    rows: list[Row] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str) -> None:
        self.rows.append(Row(name, value, unit))

    def table(self) -> str:
        """The report as text for a terminal."""
        sizes = ", ".join(f"{name} {value}" for name, value in self.sizes.items())
        width = max(len(row.name) for row in self.rows)
        lines = [self.title, f"  {sizes}", f"  {describe_machine()['processor']}, {os.cpu_count()} cores"]
        lines += [f"  {row.name:<{width}}  {row.value:12.5g} {row.unit}" for row in self.rows]
        return "\n".join(lines)

    def as_json(self) -> str:
        """The report as JSON, with machine and versions."""
        figures = {row.name: {"value": row.value, "unit": row.unit} for row in self.rows}
        content = {"benchmark": self.title, "machine": describe_machine(), "sizes": self.sizes, "figures": figures}
        return json.dumps(content, indent=2)

    def save(self, path: Path) -> None:
        """Write the JSON to a file.

        Raises:
            ParamsError: it cannot be written there.
        """
        try:
            write_text(path, self.as_json() + "\n")
        except OSError as error:
            raise ParamsError(f"--save {path}: cannot be written ({error.strerror}); name another file") from None


def describe_machine() -> dict[str, Any]:
    """Processor, cores, system, and versions of the packages used."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


def interleaved(
    actions: Mapping[str, Callable[[], Any]],
    repeats: int,
    wait: Callable[[], None] = lambda: None,
    warm_ups: int = 2,
) -> dict[str, float]:
    """Median seconds of each action. They run in turns, so that a busy moment of the machine affects all of them.

    Args:
        actions: functions to time, by name.
        repeats: number of timed turns.
        wait: waits until the device is idle; called before the clock is read.
        warm_ups: untimed turns before, for compilation and caches.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(warm_ups + repeats):
        for name, action in actions.items():
            wait()
            started = time.perf_counter()
            action()
            wait()
            if turn >= warm_ups:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
