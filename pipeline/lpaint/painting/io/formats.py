"""Kinds of outputs and what each can hold."""

from collections.abc import Mapping
from dataclasses import dataclass

from lpaint.errors import ImageError


@dataclass(frozen=True)
class Kind:
    """A kind of output file.

    Attributes:
        name: what messages call it.
        longest: the most pixels that a side may have; None = no limit that a painting reaches. Time-lapses have none,
            since ``timelapse`` shrinks their longer side to 1920 pixels.
        alpha: whether it can hold transparency.
    """

    name: str
    longest: int | None = None
    alpha: bool = False


# The largest side that ``strokefile`` reads.
LONGEST_STROKES_SIDE = 65_536
WRITABLE: Mapping[str, Kind] = {
    ".png": Kind("PNG", alpha=True),
    # The standard says 65,535; libjpeg stops at 65,500.
    ".jpg": Kind("JPEG", 65_500),
    ".jpeg": Kind("JPEG", 65_500),
    ".webp": Kind("WebP", 16_383, alpha=True),
    ".gif": Kind("GIF"),
    ".mp4": Kind("MP4"),
    ".svg": Kind("SVG"),
    ".json": Kind("a strokes file", LONGEST_STROKES_SIDE),
}
# Suffixes that always mean a time-lapse, and the one that does if the user asks for it.
TIMELAPSES, ANIMATED = (".gif", ".mp4"), ".webp"


def check_size(name: str, suffix: str, height: int, width: int) -> None:
    """Refuse a still, a drawing or a strokes file of more pixels a side than its kind can hold.

    Args:
        name: what the message calls the output.
        suffix: of ``WRITABLE``, in lower case.
        height, width: of the painting, pixels.

    Raises:
        ImageError: it does not fit.
    """
    kind = WRITABLE[suffix]
    if kind.longest is not None and max(height, width) > kind.longest:
        raise ImageError(
            f"{name}: {kind.name} holds at most {kind.longest:,} pixels a side, and the painting is {width:,} x "
            f"{height:,}; write PNG, or make the painting smaller"
        )
