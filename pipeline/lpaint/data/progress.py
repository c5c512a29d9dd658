"""Progress of a long task: a bar on a terminal, otherwise a line every 30 seconds."""

import sys
import time

from tqdm import tqdm

from lpaint.runtime.messages import notify

_REPORT_SECONDS = 30.0


class ProgressMeter:
    """Reports the number of images on stderr, with images per second and the time left.

    Args:
        total: number of images.
        done: images that an earlier run has processed.
        enabled: False writes nothing.
        label: the start of each line.
    """

    def __init__(self, total: int, done: int, enabled: bool, label: str = "prepare") -> None:
        self._label = label
        self._total, self._done, self._initial = total, done, done
        self._lines = enabled and not sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=done, unit="image", disable=not enabled or self._lines)
        self._started = self._last_report = time.monotonic()

    def advance(self, count: int) -> None:
        """Add ``count`` processed images."""
        self._done += count
        self._bar.update(count)
        now = time.monotonic()
        if self._lines and now - self._last_report >= _REPORT_SECONDS:
            self._last_report = now
            rate = (self._done - self._initial) / (now - self._started)
            left = format_duration((self._total - self._done) / rate)
            notify(f"{self._label}: {self._done:,} of {self._total:,} images, {rate:,.0f} images/s, {left} left")

    def close(self) -> None:
        """Close the bar."""
        self._bar.close()


def format_duration(seconds: float) -> str:
    """Text such as 45 s, 3 min 20 s or 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
