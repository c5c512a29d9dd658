"""The settings of a trained actor, as its weights file (JSON) and its ONNX file (metadata) carry them.

They go from training through the weights to the export, and from the ONNX file to the painter.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from lpaint.errors import ModelError

_CHOICES = {
    "fit_colours": ("never", "painting", "rollouts", "always"),
    "initial_canvas": ("black", "mean", "white"),
    "protocol": ("search", "episode"),
    "head": ("pooled", "attention"),
    "norm": ("batch", "layer"),
}
# Keys in files, where they differ from the fields.
_KEYS = {"initial_canvas": "start"}


@dataclass(frozen=True, kw_only=True)
class PaintingSpec:
    """The settings that painting needs; both files carry them.

    Attributes:
        canvas: side of the canvas in pixels.
        family: name of the stroke family.
        bundle: strokes per step.
        max_steps: steps per episode.
        zoom: scales seen in training; 1 is the whole image, 2 a crop of half its side.
        fit_colours: where the least-squares colour of a shape replaces the actor's (``agent.fit_colours``).
        initial_canvas: the bare canvas, ``black``, ``white`` or of the image's ``mean`` colour.
        protocol: how the model paints, ``search`` or ``episode``; earlier files, which do not say, mean ``search``.

    Raises:
        ValueError: a value is out of its range.
    """

    canvas: int
    family: str
    bundle: int
    max_steps: int
    zoom: tuple[int, ...]
    fit_colours: str
    initial_canvas: str
    protocol: str = "search"

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not _is_valid(each.name, value, each.type):
                raise ValueError(f"{_KEYS.get(each.name, each.name)} is {value!r}")

    @property
    def episode_strokes(self) -> int:
        """Strokes of an episode at one scale."""
        return self.max_steps * self.bundle

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], source: object) -> Self:
        """Read a spec from ONNX metadata without the prefix; ``source`` names the file in errors.

        Raises:
            ModelError: a value is missing or out of its range.
        """
        try:
            values = _select(cls, metadata)
            for each in fields(cls):
                if each.type is not str:
                    values[each.name] = _parse(each.name, values[each.name])
            return cls(**values | {"zoom": tuple(values["zoom"])})
        except (ValueError, TypeError) as error:
            raise ModelError(f"{source}: its lpaint metadata is damaged ({error}); export it again") from None


@dataclass(frozen=True, kw_only=True)
class ActorSpec(PaintingSpec):
    """All settings of an actor: how to paint, its network's architecture, and its training.

    Attributes:
        width, head, blocks, norm, counts_steps: see ``Actor``. Earlier weights have no ``norm`` (``batch``) and no
            ``counts_steps`` (True).
        algorithm, gan, replay: the parameters of the same names in section ``agent``.
        seed: ``base.seed`` of the training.
        data_source, data_digest: ``data.source`` and the digest of the prepared images.
    """

    width: int
    head: str
    blocks: int
    norm: str = "batch"
    counts_steps: bool = True
    algorithm: str
    gan: str
    replay: str
    seed: int
    data_source: str
    data_digest: str

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], source: object) -> Self:
        """Read a spec from the JSON of a weights file; ``source`` names the file in errors.

        Raises:
            ModelError: a value is missing or out of its range.
        """
        try:
            values = _select(cls, settings)
            return cls(**values | {"zoom": tuple(values["zoom"])})
        except (ValueError, TypeError) as error:
            raise ModelError(f"{source}: its settings are damaged ({error}); run `dvc repro -f train_agent`") from None

    def to_settings(self) -> dict[str, Any]:
        """The JSON values of a weights file."""
        return {_KEYS.get(name, name): value for name, value in (vars(self) | {"zoom": list(self.zoom)}).items()}

    def to_metadata(self) -> dict[str, str]:
        """The ONNX metadata: how to paint, and the training, but not the architecture, which is the ONNX graph."""
        training = ("algorithm", "gan", "replay", "seed", "data_source")
        names = [*(each.name for each in fields(PaintingSpec)), *training]
        text = {_KEYS.get(name, name): str(getattr(self, name)) for name in names}
        return text | {"zoom": json.dumps(list(self.zoom))}


def _select(kind: type[PaintingSpec], values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``kind`` in ``values``; other keys are left out.

    Raises:
        ValueError: a field without a default is missing.
    """
    keys = {each.name: _KEYS.get(each.name, each.name) for each in fields(kind)}
    # A dataclass keeps the default of a field as an attribute of the class.
    missing = [key for name, key in keys.items() if key not in values and not hasattr(kind, name)]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    return {name: values[key] for name, key in keys.items() if key in values}


def _parse(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError(f"{name} is {text!r}") from None


def _is_valid(name: str, value: Any, kind: Any) -> bool:
    if name in _CHOICES:
        return value in _CHOICES[name]
    if name == "zoom":
        return len(value) > 0 and all(type(scale) is int and scale >= 1 for scale in value)
    if kind is int:
        least, most = (0, 2**32) if name == "seed" else (1, 4096)
        return type(value) is int and least <= value <= most
    return type(value) is kind
