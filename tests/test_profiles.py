"""Every profile applies, comments survive, and a failure changes nothing."""

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lpaint.errors import ParamsError
from lpaint.params import load_params
from lpaint.profiles import apply_profile, list_profiles, show_profile

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def _comments(text: str) -> list[str]:
    return [line.split("# ", 1)[1] for line in text.splitlines() if "# " in line]


def test_the_promised_profiles_are_there() -> None:
    assert {"smoke", "faces-cpu", "celeba", "paper"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_profile_applies_and_keeps_comments(root: Path, name: str) -> None:
    path = root / "params.yaml"
    before = path.read_text()
    changes = apply_profile(root, name)
    assert changes and _comments(path.read_text()) == _comments(before)
    values = YAML(typ="safe", pure=True).load(path.read_text())
    load_params(path)
    for change in changes:
        key, new = change.split(": ", 1)[0], change.rsplit(" -> ", 1)[1]
        value = values
        for part in key.split("."):
            value = value[part]
        assert str(value) == new, change
    after = path.read_text()
    assert apply_profile(root, name) == [] and path.read_text() == after


@pytest.mark.parametrize("name", NAMES)
def test_first_line_says_what_a_profile_is(name: str) -> None:
    summary = dict(list_profiles(ROOT))[name]
    assert len(summary) > 20 and show_profile(ROOT, name).startswith(f"# {summary}")


def test_paper_profile_is_the_published_method(root: Path) -> None:
    apply_profile(root, "paper")
    params = load_params(root / "params.yaml")
    agent = params.agent
    assert (params.stroke.canvas, agent.max_steps, agent.bundle, agent.zoom) == (128, 40, 5, [1])
    assert (agent.replay, agent.renderer, agent.reward.l2, agent.tau) == ("uniform", "neural", 0, 0.001)


def test_unknown_profile_is_named_with_the_nearest(root: Path) -> None:
    with pytest.raises(ParamsError, match="did you mean celeba"):
        apply_profile(root, "celebA")


@pytest.mark.parametrize("text", ["agent:\n  rewards: 1\n", "agent:\n  gan: gan\n", "agent: [", "agent: 3\n"])
def test_bad_profile_changes_nothing(root: Path, text: str) -> None:
    (root / "profiles" / "bad.yaml").write_text(text)
    before = (root / "params.yaml").read_bytes()
    with pytest.raises(ParamsError):
        apply_profile(root, "bad")
    assert (root / "params.yaml").read_bytes() == before


def test_outside_a_repository_it_says_where_to_go(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="run this in the root of an lpaint repository"):
        list_profiles(tmp_path)
