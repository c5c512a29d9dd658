"""Strokes files: paintings as JSON, to be drawn again at any size or read by other programs.

::

    {"format": "lpaint.strokes", "version": 1,
     "family": "bezier",            the stroke family; `lpaint strokes` explains its numbers
     "width": 640, "height": 480,   the painting's size in pixels
     "ground": [0, 0, 0],           red, green and blue of the bare canvas, in 0..1
     "strokes": [
       {"frame": [top, left, height, width],   the box in which the shape lies, in 0..1 of the picture
        "shape": [...],                        the family's numbers, in 0..1 of the frame
        "colour": [red, green, blue]},         in 0..1
       ...]}                        in painting order
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lpaint.errors import ImageError, ModelError, one_line
from lpaint.painting.engine.types import COLOUR, Strokes
from lpaint.painting.io.formats import LONGEST_STROKES_SIDE
from lpaint.painting.io.image import writing

FORMAT, VERSION = "lpaint.strokes", 1
_DIGITS = 6
_MOST_STROKES = 10_000_000


@dataclass(frozen=True)
class StrokeFile:
    """The content of a strokes file: strokes, their family, and the painting's size in pixels."""

    family: str
    height: int
    width: int
    strokes: Strokes


def write_strokes(path: Path, family: str, strokes: Strokes, height: int, width: int) -> None:
    """Write strokes as the JSON that this module describes; numbers have six decimals.

    Raises:
        ImageError: the file cannot be written.
    """
    head = {"format": FORMAT, "version": VERSION, "family": family, "width": width, "height": height}
    head["ground"] = [round(value, _DIGITS) for value in strokes.background]
    with writing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head)[:-1] + ', "strokes": [')
        for i, (frame, values) in enumerate(zip(strokes.frames, strokes.values, strict=True)):
            row = {"frame": _numbers(frame), "shape": _numbers(values[:-COLOUR]), "colour": _numbers(values[-COLOUR:])}
            file.write((",\n" if i else "\n") + json.dumps(row, allow_nan=False))
        file.write("\n]}\n")


def read_strokes(path: Path) -> StrokeFile:
    """Read a strokes file.

    Raises:
        ImageError: the file is missing or no strokes file; the message names the first mistake.
    """
    try:
        # As bytes: json then accepts a byte order mark and UTF-16, which some editors write.
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ImageError(f"{path}: there is no such file; check the name") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror}); check the name and the permissions") from None
    except (ValueError, RecursionError) as error:
        reason = one_line(error)
        raise ImageError(f"{path}: is no JSON ({reason}); give a file that lpaint paint -o NAME.json wrote") from None
    try:
        return _parsed(content)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ImageError(f"{path}: is no strokes file of this version ({reason}); write it anew") from None


def check_family(path: Path, found: StrokeFile, family: str, parameters: int) -> None:
    """Check that a model can draw the strokes: its ``family``, of strokes with so many ``parameters``.

    Raises:
        ModelError: the strokes are of another family.
    """
    numbers = found.strokes.values.shape[1]
    if found.family != family or (len(found.strokes) and numbers != parameters):
        raise ModelError(
            f"{path}: holds strokes of family {found.family} with {numbers} numbers, but the model paints "
            f"{family} with {parameters}; name one of that family by --onnx"
        )


def _parsed(content: Any) -> StrokeFile:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f'"format" is not "{FORMAT}"')
    if content["version"] != VERSION:
        raise ValueError(f'"version" is not {VERSION}')
    if not isinstance(content["family"], str):
        raise ValueError('"family" is no text')
    sides = [content["height"], content["width"]]
    if any(
        not isinstance(side, int) or isinstance(side, bool) or not 1 <= side <= LONGEST_STROKES_SIDE for side in sides
    ):
        raise ValueError(f'"width" and "height" must be whole numbers from 1 to {LONGEST_STROKES_SIDE}')
    rows = content["strokes"]
    if not isinstance(rows, list) or len(rows) > _MOST_STROKES:
        raise ValueError(f'"strokes" is not a list of at most {_MOST_STROKES:,} strokes')
    background = _checked(content["ground"], COLOUR, 0, 1, '"ground"')
    shapes = {len(row["shape"]) for row in rows}
    if len(shapes) > 1:
        raise ValueError("shapes have different numbers of values")
    count = shapes.pop() if shapes else 0
    frames, values = np.zeros((len(rows), 4), np.float32), np.zeros((len(rows), count + COLOUR), np.float32)
    for i, row in enumerate(rows):
        frames[i] = _checked(row["frame"], 4, -1, 2, f"the frame of stroke {i}")
        if min(frames[i, 2:]) <= 0:
            raise ValueError(f"the frame of stroke {i} has no area")
        values[i, :-COLOUR] = _checked(row["shape"], count, 0, 1, f"the shape of stroke {i}")
        values[i, -COLOUR:] = _checked(row["colour"], COLOUR, 0, 1, f"the colour of stroke {i}")
    red, green, blue = background
    return StrokeFile(content["family"], sides[0], sides[1], Strokes(frames, values, (red, green, blue)))


def _checked(numbers: Any, count: int, low: float, high: float, what: str) -> list[float]:
    right = isinstance(numbers, list) and len(numbers) == count
    if not right or any(isinstance(n, bool) or not isinstance(n, int | float) or not math.isfinite(n) for n in numbers):
        raise ValueError(f"{what} is not {count} numbers")
    if not all(low <= number <= high for number in numbers):
        raise ValueError(f"{what} is not within {low} and {high}")
    return [float(number) for number in numbers]


def _numbers(values: np.ndarray) -> list[float]:
    return [round(float(value), _DIGITS) for value in values]
