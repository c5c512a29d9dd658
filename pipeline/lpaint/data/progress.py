"""How far a long piece of work is: a bar on a terminal, elsewhere a line every half minute."""

import sys
import time

from tqdm import tqdm

from lpaint.runtime.messages import notify

_EVERY = 30.0


class Meter:
    """Counts images on stderr, with images a second and the time left.

    Args:
        total: images in all.
        done: images that an earlier run has done.
        shown: whether anything is written.
        work: what is done, as lines begin with it.
    """

    def __init__(self, total: int, done: int, shown: bool, work: str = "prepare") -> None:
        self._work = work
        self._total, self._done, self._before = total, done, done
        self._lines = shown and not sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=done, unit="image", disable=not shown or self._lines)
        self._started = self._told = time.monotonic()

    def advance(self, count: int) -> None:
        """``count`` more images are done."""
        self._done += count
        self._bar.update(count)
        now = time.monotonic()
        if self._lines and now - self._told >= _EVERY:
            self._told = now
            rate = (self._done - self._before) / (now - self._started)
            left = duration((self._total - self._done) / rate)
            notify(f"{self._work}: {self._done:,} of {self._total:,} images, {rate:,.0f} images/s, {left} left")

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


def duration(seconds: float) -> str:
    """Such as 45 s, 3 min 20 s or 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
