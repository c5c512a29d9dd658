"""Time-lapses: MP4, GIF and animated WebP, encoded frame by frame as the strokes are drawn."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lpaint.errors import ImageError, ParamsError
from lpaint.painting.engine.search import PaintingModel, Strokes, draw_strokes
from lpaint.painting.io import formats
from lpaint.painting.io.image import to_pixels, writing
from lpaint.painting.picture import scaled

FILMS = (*formats.FILMS, formats.ANIMATED)
_ENCODERS = {".mp4": "libx264", ".gif": "gif", ".webp": "libwebp_anim"}
_MOST_FRAMES = 100_000
# A film is watched, not printed: its longer side has at most so many pixels.
_LONGEST = 1920
_HOLD_SECONDS = 2.0
# GIF counts time in hundredths of a second.
_GIF_TICKS = 100


def write_film(
    path: Path,
    model: PaintingModel,
    strokes: Strokes,
    height: int,
    width: int,
    fps: float = 25.0,
    seconds: float = 8.0,
) -> None:
    """Animate a painting, from its bare canvas, the last frame held for two seconds more.

    Frames are evenly spaced in strokes and go to the encoder one by one. They are ``height`` x ``width``, made smaller
    if the longer side is above 1920 pixels, and for MP4 with a pixel left off where a side is odd.

    Raises:
        ImageError: the file cannot be written; see also ``check_film``.
        ParamsError: see ``check_film``.
    """
    check_film(path, fps, seconds)
    import av

    count = max(2, round(fps * seconds))
    if max(height, width) > _LONGEST:
        height, width = scaled(height, width, _LONGEST)
    hold = round(fps * _HOLD_SECONDS)
    with writing(path) as temporary:
        try:
            with av.open(str(temporary), "w", options=_container_options(path)) as film:
                encoder = _Encoder(film, path.suffix.lower(), height, width, fps)
                if path.suffix.lower() == ".gif":
                    *_, finished = draw_strokes(model, strokes, height, width)
                    encoder.choose_colours(to_pixels(finished))
                for frame in _frames(model, strokes, height, width, count, hold):
                    encoder.add(frame)
                encoder.finish()
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):
                # A full disk, say, which has nothing to do with the format.
                raise
            raise ImageError(f"{path}: the film cannot be encoded ({error.strerror}); try another format") from None


def check_film(path: Path, fps: float, seconds: float) -> None:
    """Refuse a time-lapse that could not be written, before any work is done.

    Raises:
        ImageError: ``av`` is not installed, or has no encoder for the suffix.
        ParamsError: too many frames, or none.
    """
    if not (1 <= fps <= 120 and 0 < seconds <= 3600):
        raise ParamsError(
            f"{path}: a time-lapse has 1 to 120 frames a second, not {fps:g}, and lasts up to 3600 seconds, "
            f"not {seconds:g}"
        )
    if fps * seconds > _MOST_FRAMES:
        raise ParamsError(
            f"{path}: a time-lapse has at most {_MOST_FRAMES:,} frames, not {round(fps * seconds):,}; "
            "lower --fps or --seconds"
        )
    try:
        import av
    except ModuleNotFoundError:
        raise ImageError(f"{path}: time-lapses need the package av; pip install av") from None
    encoder = _ENCODERS[path.suffix.lower()]
    try:
        av.Codec(encoder, "w")
    except ValueError:
        raise ImageError(
            f"{path}: the installed av has no encoder {encoder}; install av from PyPI, or write another format"
        ) from None


def _container_options(path: Path) -> dict[str, str]:
    return {"loop": "0"} if path.suffix.lower() in (".gif", ".webp") else {"movflags": "faststart"}


def _frames(
    model: PaintingModel, strokes: Strokes, height: int, width: int, count: int, hold: int
) -> Iterator[np.ndarray]:
    """``count`` frames [height, width, 3] uint8 of the strokes being laid, then ``hold`` more of the last."""
    shown = np.linspace(0, len(strokes), count).astype(int)
    times = np.bincount(shown, minlength=len(strokes) + 1)
    times[-1] += hold
    for canvas, repeats in zip(draw_strokes(model, strokes, height, width), times.tolist(), strict=True):
        if repeats:
            pixels = to_pixels(canvas)
            for _ in range(repeats):
                yield pixels


class _Encoder:
    """PyAV behind one method; ``av`` has no types worth naming."""

    def __init__(self, film: Any, suffix: str, height: int, width: int, fps: float) -> None:
        import av

        self._av, self._film, self._count = av, film, 0
        rate = Fraction(fps).limit_denominator(1000)
        if suffix == ".gif":
            rate = Fraction(_GIF_TICKS, max(2, round(_GIF_TICKS / fps)))
        self._stream = film.add_stream(_ENCODERS[suffix], rate=rate)
        self._height, self._width = height, width
        if suffix == ".mp4":
            # Colour is kept for pairs of pixels.
            self._height, self._width = max(2, height - height % 2), max(2, width - width % 2)
            self._stream.pix_fmt, self._stream.options = "yuv420p", {"crf": "18", "preset": "medium"}
        elif suffix == ".gif":
            self._stream.pix_fmt = "pal8"
        else:
            self._stream.pix_fmt, self._stream.options = "yuv420p", {"quality": "85", "compression_level": "4"}
        self._stream.height, self._stream.width = self._height, self._width
        self._rate = rate
        self._palette: _Palette | None = None

    def choose_colours(self, finished: np.ndarray) -> None:
        self._palette = _Palette(self._av, finished, self._height, self._width, self._rate)

    def add(self, pixels: np.ndarray) -> None:
        if pixels.shape[0] < self._height or pixels.shape[1] < self._width:
            # Below two pixels there is nothing to leave off.
            pixels = np.asarray(Image.fromarray(pixels).resize((self._width, self._height), Image.Resampling.NEAREST))
        frame = self._av.VideoFrame.from_ndarray(
            np.ascontiguousarray(pixels[: self._height, : self._width]), format="rgb24"
        )
        frame.pts, frame.time_base = self._count, 1 / self._rate
        self._count += 1
        if self._palette is not None:
            frame = self._palette.mapped(frame)
        self._film.mux(self._stream.encode(frame))

    def finish(self) -> None:
        self._film.mux(self._stream.encode())


class _Palette:
    """Maps frames to the 256 colours that suit the finished painting best, dithered in place."""

    def __init__(self, av: Any, finished: np.ndarray, height: int, width: int, rate: Fraction) -> None:
        graph = av.filter.Graph()
        picture = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=1 / rate)
        colours = graph.add_buffer(width=16, height=16, format=av.VideoFormat("rgb32"), time_base=1 / rate)
        use = graph.add("paletteuse", "dither=bayer:bayer_scale=3:diff_mode=rectangle")
        sink = graph.add("buffersink")
        picture.link_to(use, 0, 0)
        colours.link_to(use, 0, 1)
        use.link_to(sink)
        graph.configure()
        self._graph, self._picture, self._sink = graph, picture, sink
        frame = av.VideoFrame.from_ndarray(_colours(finished), format="rgb24").reformat(format="rgb32")
        frame.pts, frame.time_base = 0, 1 / rate
        colours.push(frame)
        colours.push(None)

    def mapped(self, frame: Any) -> Any:
        self._picture.push(frame)
        return self._sink.pull()


def _colours(finished: np.ndarray) -> np.ndarray:
    """[16, 16, 3] uint8: the palette of a picture [H, W, 3]."""
    chosen = Image.fromarray(finished).quantize(256, Image.Quantize.MEDIANCUT).getpalette() or []
    colours = np.zeros(768, np.uint8)
    colours[: len(chosen)] = chosen
    return colours.reshape(16, 16, 3)
