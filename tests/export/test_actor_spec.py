"""The actor's spec: to and from the weights' JSON and the ONNX metadata."""

import json
from typing import Any

import pytest

from lpaint.errors import ModelError
from lpaint.painting.actor_spec import ActorSpec, PaintingSpec
from tests.helpers.specs import tiny_spec

SPEC = tiny_spec(protocol="episode", norm="layer", counts_steps=False)


def test_a_spec_goes_through_json_and_metadata_unchanged() -> None:
    settings = json.loads(json.dumps(SPEC.to_settings()))
    assert settings["zoom"] == [1, 2] and settings["start"] == "mean" and "initial_canvas" not in settings
    assert ActorSpec.from_settings(settings, "actor.safetensors") == SPEC
    metadata = SPEC.to_metadata()
    assert metadata["zoom"] == "[1, 2]" and metadata["start"] == "mean" and metadata["seed"] == "0"
    assert "width" not in metadata and "data_digest" not in metadata
    read = PaintingSpec.from_metadata(metadata | {"git_commit": "ab"}, "actor.onnx")
    assert vars(read).items() <= vars(SPEC).items() and read.episode_strokes == 6


def test_earlier_files_lack_keys_that_have_defaults() -> None:
    settings, metadata = SPEC.to_settings(), SPEC.to_metadata()
    for key in ("protocol", "norm", "counts_steps"):
        settings.pop(key)
    spec = ActorSpec.from_settings(settings, "actor.safetensors")
    assert (spec.protocol, spec.norm, spec.counts_steps) == ("search", "batch", True)
    del metadata["protocol"]
    assert PaintingSpec.from_metadata(metadata, "actor.onnx").protocol == "search"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("canvas", None, "canvas is missing"),
        ("canvas", 0, "canvas is 0"),
        ("bundle", True, "bundle is True"),
        ("zoom", [], r"zoom is \(\)"),
        ("zoom", [1, 0.5], r"zoom is \(1, 0.5\)"),
        ("zoom", 1, "'int' object is not iterable"),
        ("start", "green", "start is 'green'"),
        ("fit_colours", "seldom", "fit_colours is 'seldom'"),
        ("protocol", "dream", "protocol is 'dream'"),
        ("family", 1, "family is 1"),
    ],
)
def test_damaged_values_are_one_sentence(key: str, value: Any, words: str) -> None:
    settings, metadata = SPEC.to_settings() | {key: value}, SPEC.to_metadata() | {key: json.dumps(value)}
    if isinstance(value, str):
        metadata[key] = value
    if value is None:
        del settings[key], metadata[key]
    with pytest.raises(ModelError, match=rf"^a\.safetensors: its settings are damaged \({words}\); run `dvc repro"):
        ActorSpec.from_settings(settings, "a.safetensors")
    if key != "family":
        words = words.replace("True", "(True|'true')")
        with pytest.raises(ModelError, match=rf"^a\.onnx: its lpaint metadata is damaged \({words}\); export it again"):
            PaintingSpec.from_metadata(metadata, "a.onnx")


def test_metadata_that_is_no_number_is_named() -> None:
    with pytest.raises(ModelError, match=r"damaged \(canvas is 'wide'\)"):
        PaintingSpec.from_metadata(SPEC.to_metadata() | {"canvas": "wide"}, "a.onnx")
