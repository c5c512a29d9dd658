"""The committed parameters, and what is said of bad ones."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from lpaint.errors import ParamsError
from lpaint.runtime.params import load_params, parse_params

FILE = Path(__file__).parents[2] / "params.yaml"


def _values() -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(FILE.read_text(encoding="utf-8"))


def _changed(key: str, value: Any) -> dict[str, Any]:
    """The committed values with one dotted key set."""
    return _changes({key: value})


def _changes(changes: dict[str, Any]) -> dict[str, Any]:
    """The committed values with several dotted keys set."""
    values = _values()
    for key, value in changes.items():
        *path, last = key.split(".")
        section = values
        for part in path:
            section = section[part]
        section[last] = value
    return values


def _leaves(section: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of all values that are no sections."""
    keys = []
    for name, value in section.items():
        keys += _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
    return keys


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
            assert len(line.partition("# ")[2]) > 3, f"no comment: {line}"


EARLIER = _leaves(YAML(typ="safe").load((FILE.parent / "tests/earlier/params.yaml").read_text(encoding="utf-8")))


@pytest.mark.parametrize("key", _leaves(_values()))
def test_every_key_is_checked_and_required_unless_it_came_later(key: str) -> None:
    *path, last = key.split(".")
    values = _values()
    section = values
    for part in path:
        section = section[part]
    del section[last]
    if key in EARLIER:
        assert f"key {key} is missing" in _message(values)
    else:
        parse_params(values, "here")
    nonsenses: list[Any] = [{}, None, float("nan")]
    for nonsense in nonsenses:
        assert f"{key} is {nonsense!r}: " in _message(_changed(key, nonsense))
    assert f"unknown key {key}x (did you mean {key}?)" in _message(_changed(key + "x", 1))


def test_sections_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load_params(FILE).agent.updates = 1


@pytest.mark.parametrize(
    ("key", "suggested"),
    [
        ("agent.rewrd", "agent.reward"),
        ("agent.reward.L2", "agent.reward.l2"),
        ("data.batch_size", "batch_size"),
        ("agnet", "agent"),
        ("agent.family", "stroke.family"),
        ("agent.l2", "agent.reward.l2"),
        ("agent.reward.alpha", "agent.per.alpha"),
        ("export.register_model", "export.register"),
    ],
)
def test_unknown_key_is_named_with_the_right_one(key: str, suggested: str) -> None:
    for value in (1, {"l2": 1.0}):
        message = _message(_changed(key, value))
        assert f"unknown key {key} " in message and f"{suggested}?" in message and "did you mean" in message


def test_a_key_like_no_other_is_named_without_a_guess() -> None:
    assert _message(_changed("qqqqqqqq", 1)) == "here: unknown key qqqqqqqq; remove it or correct its name"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("agent", None, "agent is None"),
        ("agent.reward", [1.0], "agent.reward is [1.0]"),
        ("agent.decay_at", [0.5, 1.5], "agent.decay_at.1 is 1.5"),
        ("evaluate.strokes", [25, "all"], "evaluate.strokes.1 is 'all'"),
        ("agent.reward.gan", float("inf"), "agent.reward.gan is inf"),
        ("agent.actor.learning_rate", "3e-4", "agent.actor.learning_rate is '3e-4'"),
        ("base.seed", 2**32, "base.seed is 4294967296"),
        ("base.seed", -1, "base.seed is -1"),
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
    ],
)
def test_bad_value_is_named(key: str, value: Any, words: str) -> None:
    assert words in _message(_changed(key, value))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.size": 64, "agent.zoom": [1, 5]}, "agent.zoom: 5 does not divide data.size 64"),
        ({"data.source": "folder", "data.path": ""}, "data.path: is empty, but source folder needs"),
        ({"data.source": "celeba", "data.path": ""}, "data.path: is empty, but source celeba needs"),
        ({"data.source": "synthetic", "data.limit": 0}, "data.limit: 0 (all images) makes no sense"),
        ({"data.test_fraction": 0.5, "data.validation_fraction": 0.5}, "leaves nothing to train on"),
        ({"data.size": 32, "stroke.canvas": 48}, "stroke.canvas: 48 is larger than data.size 32"),
        ({"agent.discount": 0.0}, "agent.replay: prioritized needs temporal-difference errors"),
        (
            {"data.size": 64, "agent.curriculum.canvas": 96, "agent.curriculum.share": 0.5},
            "agent.curriculum.canvas: 96 is larger than data.size 64",
        ),
    ],
)
def test_values_that_do_not_go_together_are_named(changes: dict[str, Any], words: str) -> None:
    assert words in _message(_changes(changes))


def test_values_that_just_go_together_are_taken() -> None:
    params = parse_params(_changes({"data.size": 32, "stroke.canvas": 32, "agent.zoom": [1, 2, 4]}), "here")
    assert params.data.size == params.stroke.canvas
    many = _changes({"data.source": "folder", "data.path": "pictures", "data.limit": 0})
    assert parse_params(many, "here").data.limit == 0
    parse_params(_changes({"data.test_fraction": 0.5, "data.validation_fraction": 0.49}), "here")


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
    path.write_text(re.sub(r"learning_rate: \S+", "learning_rate: 3e-4", FILE.read_text()))
    params = load_params(path)
    assert params.agent.actor.learning_rate == params.renderer.learning_rate == 3e-4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no such file"),
        ("a: [", "cannot be read as YAML"),
        ("- a\n- b", "holds no sections"),
        ("", "no sections"),
        ("base: {seed: 1, seed: 2}", "cannot be read as YAML .*duplicate key"),
        ("base:\n\tseed: 0", "cannot be read as YAML"),
        ("a: !!python/object:os.system x", "cannot be read as YAML"),
    ],
)
def test_unusable_file_is_one_sentence(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ParamsError, match=words) as caught:
        load_params(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_file_that_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    for unreadable in (path, tmp_path):
        with pytest.raises(ParamsError, match="cannot be read as YAML"):
            load_params(unreadable)


def test_on_and_off_of_an_older_yaml_are_understood() -> None:
    assert parse_params(_changed("base.compile", False), "here").base.compile == "off"
    assert parse_params(_changed("base.compile", True), "here").base.compile == "on"


def test_mistyped_section_is_named_rather_than_the_missing_one() -> None:
    values = _values()
    values["agent"]["rewrd"] = values["agent"].pop("reward")
    assert "unknown key agent.rewrd (did you mean agent.reward?)" in _message(values)
