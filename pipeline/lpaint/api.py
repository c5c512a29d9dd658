"""Painting from Python: ``from lpaint import Painter``.

```python
painter = Painter()                                  # the agent that comes with lpaint, or Painter("actor.onnx")
artwork = painter.paint("photo.jpg", strokes=1000)   # a path, a Pillow image, or an array
artwork.save("photo.svg")                            # any suffix of `lpaint paint -o`
for canvas, stroke in artwork.watch(height=720):     # every stroke, and the canvas after it
    ...
```
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lpaint.errors import ImageError, ParamsError
from lpaint.images.decoding import WHITE, to_unit
from lpaint.painting.engine.search import EFFORT
from lpaint.painting.engine.types import COLOUR, Strokes
from lpaint.painting.io.image import InputImage, canvas_to_pixels, from_pillow, read_picture
from lpaint.painting.io.outputs import Saving, check_fit, check_output, save
from lpaint.painting.io.strokefile import check_family, read_strokes
from lpaint.painting.onnx_model import OnnxPainter, packaged_model
from lpaint.painting.picture import WORKING_SIDE, Painting, Plan, paint_picture
from lpaint.painting.render import draw_strokes


@dataclass(frozen=True)
class Stroke:
    """One stroke.

    Attributes:
        frame: top, left, height and width, in [0, 1] of the picture.
        shape: the stroke family's numbers in [0, 1] of the frame; docs/strokes.md explains them.
        colour: red, green and blue in [0, 1].
    """

    frame: tuple[float, float, float, float]
    shape: tuple[float, ...]
    colour: tuple[float, float, float]


class Artwork:
    """A painting: its strokes in order, to be drawn at any size, watched, or saved."""

    def __init__(self, model: OnnxPainter, painting: Painting, alpha: np.ndarray | None = None) -> None:
        self._model, self._painting, self._alpha = model, painting, alpha

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels at which it was painted."""
        return self._painting.width, self._painting.height

    @property
    def strokes(self) -> list[Stroke]:
        """The strokes in painting order."""
        return list(_as_strokes(self._painting.strokes))

    def __len__(self) -> int:
        return len(self._painting.strokes)

    def pixels(self, width: int | None = None, height: int | None = None) -> np.ndarray:
        """The finished painting, uint8 [height, width, 3]; if one side is given, the other keeps the aspect.

        Raises:
            ParamsError: a side is below 1.
        """
        tall, wide = self._sides(width, height)
        painting = self._painting if (wide, tall) == self.size else Painting(self._painting.strokes, tall, wide)
        return canvas_to_pixels(painting.canvas(self._model))

    def watch(self, width: int | None = None, height: int | None = None) -> Iterator[tuple[np.ndarray, Stroke]]:
        """Yield, for every stroke, the canvas after it, float32 [3, height, width] in [0, 1], and the stroke.

        The array is the same one each time, so memory holds one canvas; copy it to keep it.

        Raises:
            ParamsError: a side is below 1.
        """
        tall, wide = self._sides(width, height)
        canvases = draw_strokes(self._model, self._painting.strokes, tall, wide)
        next(canvases)
        yield from zip(canvases, _as_strokes(self._painting.strokes), strict=True)

    def save(self, *paths: str | Path, fps: float = 25.0, seconds: float = 8.0, animate: bool = False) -> None:
        """Write the painting to files; the suffix selects the format. Existing files are replaced.

        All paths are checked before the first one is written.

        Args:
            paths: .png .jpg .webp (stills), .mp4 .gif (time-lapses), .svg or .json (strokes).
            fps: frames a second of time-lapses.
            seconds: length of time-lapses, without the two seconds for which the last frame is held.
            animate: write WebP as a time-lapse.

        Raises:
            ParamsError: the suffix is unknown, or a time-lapse has too many frames.
            ImageError: a file cannot be written, or its format cannot hold so many pixels.
        """
        saving = Saving(animate, fps, seconds, keep_alpha=True)
        for path in map(Path, paths):
            check_output(path, saving)
            check_fit(path, saving, self._painting.height, self._painting.width)
        for path in map(Path, paths):
            save(path, self._model, self._painting, saving, self._alpha)

    def _sides(self, width: int | None, height: int | None) -> tuple[int, int]:
        wide, tall = self.size
        if width is not None and height is None:
            height = max(1, round(tall * width / wide))
        elif height is not None and width is None:
            width = max(1, round(wide * height / tall))
        found = height if height is not None else tall, width if width is not None else wide
        if min(found) < 1:
            raise ParamsError(f"a painting cannot have {found[1]} x {found[0]} pixels; both sides must be at least 1")
        return found


class Painter:
    """A trained agent that paints pictures.

    Args:
        model: an exported ``actor.onnx``; None = the one that comes with lpaint.
        device: ``auto``, ``cuda`` or ``cpu``.
        threads: CPU threads; 0 = all cores.

    Raises:
        ModelError: the file is missing, damaged or not lpaint's.
        DeviceError: CUDA was asked for and cannot be used.

    Warns:
        RuntimeWarning: there is a GPU, but ``auto`` cannot use it; the message says why.
    """

    def __init__(self, model: str | Path | None = None, device: str = "auto", threads: int = 0) -> None:
        self.model = OnnxPainter(packaged_model() if model is None else Path(model), device, threads)
        if self.model.gpu_problem:
            warnings.warn(f"painting on the CPU: {self.model.gpu_problem}", RuntimeWarning, stacklevel=2)

    def paint(
        self,
        picture: "str | Path | Image.Image | np.ndarray",
        strokes: int | None = None,
        *,
        effort: int = EFFORT,
        size: tuple[int, int] | None = None,
        background: tuple[float, float, float] | None = None,
        on_progress: Callable[[int], None] | None = None,
        strict: bool = False,
        ground: tuple[float, float, float] | None = None,
    ) -> Artwork:
        """Paint a picture.

        Args:
            picture: a file's path; a Pillow image; or an array [H, W], [H, W, 3] or [H, W, 4]. White is 255 in uint8
                and 65535 in uint16; in other types it is the smallest of 1 (floats only), 255 and 65535 that holds all
                values, see ``lpaint.images.decoding.to_unit``.
            strokes: the most strokes; they go where the error is largest. An agent that paints by episode paints the
                strokes of its episode in order, and further strokes where they help. None = as many as the episode
                has, or 1,000 for other agents.
            effort: tiles for which the agent proposes strokes before the best ones are painted; a larger effort takes
                longer and leaves less error. An episode ignores it.
            size: width and height of the painting in pixels; None = the picture's own.
            background: red, green and blue of the bare canvas, in [0, 1]; None = as in the agent's training.
            on_progress: called with the number of strokes painted so far.
            strict: refuse a file that is cut off; otherwise the part that can be read is painted, with a warning.
            ground: deprecated name of ``background``.

        Raises:
            ImageError: the picture cannot be read, or is no picture.
            ParamsError: ``strokes``, ``effort`` or a side of ``size`` is below 1.

        Warns:
            UserWarning: the file is cut off.
            DeprecationWarning: ``ground`` is used.
        """
        if ground is not None:
            message = "Painter.paint(ground=...) is called background= now; the next release removes ground"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            background = background or ground
        if min(1 if strokes is None else strokes, effort, *(size or (1, 1))) < 1:
            raise ParamsError("strokes, effort and the sides of size must be at least 1")
        image = _read(picture, background or WHITE, strict)
        if image.flaw:
            warnings.warn(f"{picture}: {image.flaw}; it is painted as far as it goes", stacklevel=2)
        wanted = image.size if size is None else (size[1], size[0])
        plan = Plan(strokes, effort=effort, background=background)
        return Artwork(self.model, paint_picture(self.model, image.colour, plan, wanted, on_progress), image.alpha)

    def load(self, path: str | Path) -> Artwork:
        """The painting of a strokes file (.json) that ``Artwork.save`` or ``lpaint paint`` wrote.

        Raises:
            ImageError: the file is missing or no strokes file.
            ModelError: its strokes are of another family than the agent's.
        """
        found = read_strokes(Path(path))
        check_family(Path(path), found, self.model.family, self.model.parameters)
        return Artwork(self.model, Painting(found.strokes, found.height, found.width))


def _read(
    picture: "str | Path | Image.Image | np.ndarray", matte: tuple[float, float, float], strict: bool
) -> InputImage:
    if isinstance(picture, str | Path):
        return read_picture(Path(picture), matte, WORKING_SIDE, strict)
    if isinstance(picture, Image.Image):
        return from_pillow(picture, matte, WORKING_SIDE)
    array = np.asarray(picture)
    if array.ndim not in (2, 3) or not array.size or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(f"an array of shape {array.shape} is no picture; give [H, W], [H, W, 3] or [H, W, 4]")
    if array.dtype != np.uint8:
        if not np.isfinite(array).all():
            raise ImageError("the array has NaN or infinite values; give floats from 0 to 1, or uint8")
        array = np.round(to_unit(array) * 255).astype(np.uint8)
    return from_pillow(Image.fromarray(array), matte, WORKING_SIDE)


def _as_strokes(strokes: Strokes) -> Iterator[Stroke]:
    for frame, values in zip(strokes.frames.tolist(), strokes.values.tolist(), strict=True):
        yield Stroke(tuple(frame), tuple(values[:-COLOUR]), tuple(values[-COLOUR:]))
