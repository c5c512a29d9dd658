"""The committed parameters, and what is said of bad ones."""

import copy
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from lpaint.errors import ParamsError
from lpaint.params import load_params, parse_params

FILE = Path(__file__).parents[1] / "params.yaml"


def _values() -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(FILE.read_text(encoding="utf-8"))


def _changed(key: str, value: Any) -> dict[str, Any]:
    """The committed values with one dotted key set."""
    values = copy.deepcopy(_values())
    *path, last = key.split(".")
    section = values
    for part in path:
        section = section[part]
    section[last] = value
    return values


def _message(values: dict[str, Any]) -> str:
    with pytest.raises(ParamsError) as caught:
        parse_params(values, "here")
    message = str(caught.value)
    assert message.startswith("here: ") and "\n" not in message
    return message


def test_committed_default_is_the_method_of_the_mission() -> None:
    params = load_params(FILE)
    agent = params.agent
    assert (agent.algorithm, agent.replay, agent.gan) == ("ddpg", "prioritized", "wgan_gp")
    assert agent.reward.gan > 0 and agent.reward.l2 > 0
    assert params.data.source == "synthetic", "the default must need no download"


def test_every_key_of_the_file_carries_a_comment() -> None:
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if line.startswith(" ") and line.strip() and not line.rstrip().endswith(":"):
            assert "#" in line, f"no comment: {line}"


def test_sections_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load_params(FILE).agent.updates = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "suggested"),
    [
        ("agent.rewrd", "agent.reward"),
        ("agent.reward.L2", "agent.reward.l2"),
        ("data.batch_size", "batch_size"),
        ("agnet", "agent"),
        ("agent.family", "stroke.family"),
    ],
)
def test_unknown_key_is_named_with_the_right_one(key: str, suggested: str) -> None:
    message = _message(_changed(key, 1))
    assert f"unknown key {key}" in message and suggested in message and "did you mean" in message


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("agent.updates", "many", "agent.updates is 'many'"),
        ("agent.updates", 2.5, "agent.updates is 2.5"),
        ("agent.updates", 0, "agent.updates is 0"),
        ("agent.gan", "wgan", "agent.gan is 'wgan'"),
        ("agent.discount", 1.5, "agent.discount is 1.5"),
        ("agent.reward.l2", float("nan"), "agent.reward.l2 is nan"),
        ("base.seed", True, "base.seed is True"),
        ("stroke.canvas", 50, "stroke.canvas is 50"),
        ("agent.zoom", [], "agent.zoom is []"),
        ("agent.zoom", [2, 4], "must start at 1"),
        ("agent.zoom", [1, 2, 3], "must start at 1 and each scale must be a multiple"),
        ("agent.zoom", [1, 5], "agent.zoom: 5 does not divide data.size"),
        ("data.source", "folder", "data.path: is empty, but source folder needs"),
        ("data.limit", 0, "data.limit: 0 (all images) makes no sense"),
        ("data.test_fraction", 0.97, "leaves nothing to train on"),
        ("data.size", 32, "is larger than data.size 32"),
    ],
)
def test_bad_value_is_named(key: str, value: Any, words: str) -> None:
    assert words in _message(_changed(key, value))


def test_no_reward_at_all_is_an_error() -> None:
    values = _changed("agent.reward.l2", 0)
    assert parse_params(values, "gan alone").agent.reward.l2 == 0
    values["agent"]["gan"] = "none"
    assert "there is no reward" in _message(values)
    values = _changed("agent.reward.l2", 0)
    values["agent"]["reward"]["gan"] = 0
    assert "there is no reward" in _message(values)


def test_missing_key_is_named() -> None:
    values = _values()
    del values["agent"]["per"]["alpha"]
    assert "key agent.per.alpha is missing" in _message(values)


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(FILE.read_text().replace("learning_rate: 3.0e-4", "learning_rate: 3e-4"))
    assert load_params(path).agent.actor.learning_rate == 3e-4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no such file"),
        ("a: [", "cannot be read as YAML"),
        ("- a\n- b", "holds no sections"),
        ("", "no sections"),
    ],
)
def test_unusable_file_is_one_sentence(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ParamsError, match=words) as caught:
        load_params(path)
    assert "\n" not in str(caught.value)


def test_on_and_off_of_an_older_yaml_are_understood() -> None:
    assert parse_params(_changed("base.compile", False), "here").base.compile == "off"
