"""Every profile applies, comments survive, and a failure changes nothing."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from lpaint.errors import ParamsError
from lpaint.runtime.params import load_params
from lpaint.runtime.profiles import apply_profile, list_profiles, show_profile

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))
OTHERS = [name for name in NAMES if name != "default"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def _comments(text: str) -> list[str]:
    return [line.split("# ", 1)[1] for line in text.splitlines() if "# " in line]


def _flat(path: Path) -> dict[str, Any]:
    """Values of a YAML file by dotted key, in its order."""
    flat: dict[str, Any] = {}

    def walk(section: dict[str, Any], prefix: str) -> None:
        for key, value in section.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")
            else:
                flat[prefix + key] = value

    walk(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")), "")
    return flat


def test_the_promised_profiles_are_there() -> None:
    assert {"smoke", "faces-cpu", "celeba", "paper"} <= set(NAMES)


def test_the_default_profile_is_the_committed_file_as_far_as_profiles_change_it() -> None:
    default, committed = _flat(ROOT / "profiles/default.yaml"), _flat(ROOT / "params.yaml")
    assert default.items() <= committed.items()
    assert default.keys() == set().union(*(_flat(ROOT / f"profiles/{name}.yaml") for name in OTHERS))


@pytest.mark.parametrize("first", OTHERS)
def test_a_profile_undoes_the_one_before_it_and_keeps_what_somebody_changed(root: Path, first: str) -> None:
    path, fresh = root / "params.yaml", (ROOT / "params.yaml").read_text()
    for second in NAMES:
        if second == first:
            continue
        path.write_text(fresh)
        apply_profile(root, second)
        expected = _flat(path)
        path.write_text(fresh)
        apply_profile(root, first)
        apply_profile(root, second)
        assert _flat(path) == expected, second
    path.write_text(fresh.replace("environments: 32 ", "environments: 33 "))
    apply_profile(root, first)
    apply_profile(root, "smoke" if first != "smoke" else "box")
    if "environments" not in show_profile(root, first) + show_profile(root, "smoke"):
        assert "environments: 33 " in path.read_text()


@pytest.mark.parametrize("name", OTHERS)
def test_profile_applies_and_keeps_comments(root: Path, name: str) -> None:
    path = root / "params.yaml"
    before, values = path.read_text(), _flat(path)
    changes = apply_profile(root, name)
    after = path.read_text()
    assert changes and _comments(after) == _comments(before)
    load_params(path)
    said = {key: f"{values[key]} -> {value}" for key, value in _flat(path).items() if value != values[key]}
    assert sorted(changes) == sorted(f"{key}: {change}" for key, change in said.items()), (
        "what changed, no more and no less"
    )
    overlay = _flat(root / "profiles" / f"{name}.yaml")
    assert overlay.items() <= _flat(path).items() and set(said) <= set(overlay)
    assert apply_profile(root, name) == [] and path.read_text() == after


def test_lists_and_quoted_texts_keep_their_comments(root: Path) -> None:
    shares = [0.25, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95, 0.96, 0.97, 0.98, 0.99]
    overlay = f"agent:\n  zoom: [1, 2, 4, 8, 16]\n  decay_at: {shares}\ndata:\n  path: elsewhere\n"
    (root / "profiles" / "own.yaml").write_text(overlay)
    (root / "params.yaml").write_text(
        (root / "params.yaml").read_text().replace("# scales of", "# \u00e9chelles, scales of")
    )
    before = (root / "params.yaml").read_text(encoding="utf-8")
    apply_profile(root, "own")
    after = (root / "params.yaml").read_text(encoding="utf-8")
    assert _comments(after) == _comments(before) and "zoom: [1, 2, 4, 8, 16]" in after
    changed = [line.split(":")[0].strip() for line in set(after.splitlines()) - set(before.splitlines())]
    assert sorted(changed) == ["decay_at", "path", "zoom"], "all other lines are as they were"


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
    for name in ("qqqq", "../params", ""):
        with pytest.raises(ParamsError, match=r"the known ones are .*smoke") as caught:
            show_profile(root, name)
        assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("agent:\n  rewards: 1\n", "bad.yaml: unknown key agent.rewards; did you mean agent.reward?"),
        (
            "base: {seed: 5}\nagent:\n  reward: {l2_frm: 1}\n",
            "unknown key agent.reward.l2_frm; did you mean agent.reward.l2_form?",
        ),
        ("1: 2\n", "unknown key 1"),
        ("agent:\n  gan: gan\n", "params.yaml with profile bad: agent.gan is 'gan'"),
        ("agent:\n  gan: [wgan_gp]\n", "agent.gan is ['wgan_gp']"),
        ("agent:\n  zoom: []\n", "agent.zoom is []"),
        ("agent:\n  zoom: 2\n", "agent.zoom is 2"),
        ("agent: {zoom: [2, 4]}\n", "agent.zoom: must start at 1"),
        ("agent: 3\n", "agent is 3"),
        ("agent:\n", "agent is None"),
        ("agent: [", "is no YAML"),
        ("base: {seed: 1, seed: 2}\n", "is no YAML"),
        ("# Nothing yet.\n", "holds no sections"),
        ("- agent\n", "holds no sections"),
        ("agent\n", "holds no sections"),
    ],
)
def test_bad_profile_is_named_and_changes_nothing(root: Path, text: str, words: str) -> None:
    (root / "profiles" / "bad.yaml").write_text(text)
    before = (root / "params.yaml").read_bytes()
    with pytest.raises(ParamsError) as caught:
        apply_profile(root, "bad")
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert (root / "params.yaml").read_bytes() == before
    assert {path.name for path in root.iterdir()} == {"params.yaml", "profiles"}


def test_profile_that_is_no_text_changes_nothing(root: Path) -> None:
    (root / "profiles" / "bad.yaml").write_bytes(b"# \xff\n")
    before = (root / "params.yaml").read_bytes()
    with pytest.raises(ParamsError, match=r"bad.*is no YAML"):
        apply_profile(root, "bad")
    assert (root / "params.yaml").read_bytes() == before


@pytest.mark.parametrize("text", ["", "- a\n", "base: ["])
def test_bad_params_stay_as_they_are(root: Path, text: str) -> None:
    (root / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=r"params\.yaml"):
        apply_profile(root, "smoke")
    assert (root / "params.yaml").read_text() == text


def test_outside_a_repository_it_says_where_to_go(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="run this in the root of an lpaint repository"):
        list_profiles(tmp_path)
    (tmp_path / "profiles").mkdir()
    shutil.copy(ROOT / "profiles" / "smoke.yaml", tmp_path / "profiles")
    with pytest.raises(ParamsError, match=r"params\.yaml: there is no such file"):
        apply_profile(tmp_path, "smoke")
