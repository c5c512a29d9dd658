"""Time-lapses: MP4, GIF and animated WebP, encoded frame by frame as the strokes are drawn."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lpaint.errors import ImageError, ParamsError
from lpaint.painting.engine.resample import scaled_size
from lpaint.painting.engine.types import PaintingModel, Strokes
from lpaint.painting.io import formats
from lpaint.painting.io.image import canvas_to_pixels, writing
from lpaint.painting.render import draw_strokes

TIMELAPSES = (*formats.TIMELAPSES, formats.ANIMATED)
_ENCODERS = {".mp4": "libx264", ".gif": "gif", ".webp": "libwebp_anim"}
_MOST_FRAMES = 100_000
# Most pixels of the longer side: a time-lapse is watched, not printed.
_LONGEST = 1920
_HOLD_SECONDS = 2.0
# GIF counts time in hundredths of a second.
_GIF_TICKS = 100


def write_timelapse(
    path: Path,
    model: PaintingModel,
    strokes: Strokes,
    height: int,
    width: int,
    fps: float = 25.0,
    seconds: float = 8.0,
) -> None:
    """Animate a painting from its bare canvas; the last frame is held for two seconds more.

    Frames are evenly spaced in strokes and go to the encoder one by one. They are ``height`` x ``width``, made smaller
    if the longer side is above 1920 pixels. MP4 leaves off a pixel where a side is odd.

    Args:
        path: .mp4, .gif or .webp; the suffix selects the format.
        model, strokes: what is drawn.
        height, width: of the frames, in pixels.
        fps: frames a second, 1 to 120.
        seconds: length without the held frame, up to 3600.

    Raises:
        ImageError: the file cannot be written, or ``av`` cannot encode it.
        ParamsError: ``fps`` or ``seconds`` is out of range, or there are too many frames.
    """
    check_timelapse(path, fps, seconds)
    import av

    count = max(2, round(fps * seconds))
    if max(height, width) > _LONGEST:
        height, width = scaled_size(height, width, _LONGEST)
    hold = round(fps * _HOLD_SECONDS)
    with writing(path) as temporary:
        try:
            with av.open(str(temporary), "w", options=_container_options(path)) as container:
                encoder = _Encoder(container, path.suffix.lower(), height, width, fps)
                if path.suffix.lower() == ".gif":
                    *_, finished = draw_strokes(model, strokes, height, width)
                    encoder.choose_colours(canvas_to_pixels(finished))
                for frame in _frames(model, strokes, height, width, count, hold):
                    encoder.add(frame)
                encoder.finish()
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):
                # A full disk, for example: not the format's fault.
                raise
            raise ImageError(
                f"{path}: the time-lapse cannot be encoded ({error.strerror}); try another format"
            ) from None


def check_timelapse(path: Path, fps: float, seconds: float) -> None:
    """Check that a time-lapse can be encoded, before any work is done.

    Raises:
        ImageError: ``av`` is not installed, or has no encoder for the suffix.
        ParamsError: ``fps`` or ``seconds`` is out of range, or there are too many frames.
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
    """``count`` frames [height, width, 3] uint8 while the strokes are painted, then ``hold`` more of the last."""
    shown = np.linspace(0, len(strokes), count).astype(int)
    times = np.bincount(shown, minlength=len(strokes) + 1)
    times[-1] += hold
    for canvas, repeats in zip(draw_strokes(model, strokes, height, width), times.tolist(), strict=True):
        if repeats:
            pixels = canvas_to_pixels(canvas)
            for _ in range(repeats):
                yield pixels


class _Encoder:
    """PyAV's encoder for one file; ``Any`` because ``av`` has no useful types."""

    def __init__(self, container: Any, suffix: str, height: int, width: int, fps: float) -> None:
        import av

        self._av, self._container, self._count = av, container, 0
        rate = Fraction(fps).limit_denominator(1000)
        if suffix == ".gif":
            rate = Fraction(_GIF_TICKS, max(2, round(_GIF_TICKS / fps)))
        self._stream = container.add_stream(_ENCODERS[suffix], rate=rate)
        self._height, self._width = height, width
        if suffix == ".mp4":
            # yuv420p stores colour for pairs of pixels.
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
            # A side of one pixel is doubled: MP4 needs two.
            pixels = np.asarray(Image.fromarray(pixels).resize((self._width, self._height), Image.Resampling.NEAREST))
        frame = self._av.VideoFrame.from_ndarray(
            np.ascontiguousarray(pixels[: self._height, : self._width]), format="rgb24"
        )
        frame.pts, frame.time_base = self._count, 1 / self._rate
        self._count += 1
        if self._palette is not None:
            frame = self._palette.mapped(frame)
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        self._container.mux(self._stream.encode())


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
