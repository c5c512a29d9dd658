"""The commands of README.md run. Here they work on small pictures, with few strokes, in the repository of the chain."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from ruamel.yaml import YAML

from lpaint.runtime.params import parse_params
from tests.helpers.commands import Outcome

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FEW = " --strokes 20"
# Each command of README.md, as it is run here; or after a dash, why it is not run.
SMOKE = {
    "git clone REPOSITORY lpaint && cd lpaint": "- a fresh clone is what CI starts with",
    "make repro": "- test_dvc.py runs dvc repro with the profile smoke",
    ".venv/bin/lpaint paint YOUR_PICTURE.jpg --onnx exports/actor.onnx": (
        "lpaint paint YOUR_PICTURE.jpg --onnx exports/actor.onnx" + FEW
    ),
    "lpaint paint photo.jpg": "lpaint paint photo.jpg" + FEW,
    "lpaint paint photo.jpg --detail high": "lpaint paint photo.jpg --detail low -o low.png",
    "lpaint paint photo.jpg --size 4000 -o big.png": "lpaint paint photo.jpg --size 400 -o big.png" + FEW,
    "lpaint paint photo.jpg -o a.png -o a.svg -o a.mp4 -o a.json": (
        "lpaint paint photo.jpg -o a.png -o a.svg -o a.mp4 -o a.json" + FEW
    ),
    "lpaint paint album/ -r --out-dir painted": "lpaint paint album/ -r --out-dir painted" + FEW,
    "lpaint paint photo.jpg --onnx exports/actor.onnx": (
        "lpaint paint photo.jpg --onnx exports/actor.onnx -o own.png" + FEW
    ),
    "lpaint paint photo.jpg --pixel-art 48 --palette 16 --size 768": (
        "lpaint paint photo.jpg --pixel-art 12 --palette 4 --size 96 -o cells.png"
    ),
    "lpaint render a.json -o huge.png --scale 8": "lpaint render a.json -o huge.png --scale 3",
    "lpaint animate a.json -o a.gif --seconds 6": "lpaint animate a.json -o a.gif --seconds 1",
    # The repository was copied.
    "lpaint doctor": "lpaint doctor --fix",
    "lpaint profile list": "lpaint profile list",
    "lpaint profile apply faces-cpu": "lpaint profile apply faces-cpu",
    "dvc exp run -S data.path=/path/to/img_align_celeba.zip": "- needs CelebA; test_dvc.py runs experiments",
    "dvc exp run --queue -S agent.gan=sngan,sagan -S agent.replay=uniform,prioritized -S base.seed=1,2,3"
    " -S base.threads=2": "- test_dvc.py runs a grid through the queue",
    "dvc queue start -j 2": "- test_dvc.py runs a grid through the queue",
    # The chain has one training, which is nothing to compare; test_dvc.py compares two.
    "lpaint compare": "lpaint compare",
    "mlflow ui": "- serves until it is stopped; test_services.py starts MLflow's server",
    "lpaint promote": "lpaint promote --strokes 20",
    "lpaint pull champion -o champion.onnx": "lpaint pull champion -o champion.onnx",
}


def _commands() -> list[str]:
    """The lines after a prompt, without comments."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    lines = re.findall(r"^\$ (.*?)(?:\s+#.*)?$", "\n".join(blocks), re.MULTILINE)
    return [" ".join(line.split()) for line in lines]


@pytest.fixture
def repository(chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the chain's repository, with profiles and pictures."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(chain, tmp_path, dirs_exist_ok=True)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    for name in ("YOUR_PICTURE.jpg", "photo.jpg", "album/one.jpg", "album/more/two.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.radial_gradient("L").resize((40, 30)).convert("RGB").save(tmp_path / name)
    return tmp_path


def test_every_command_is_in_the_table() -> None:
    assert set(_commands()) == set(SMOKE)


def test_the_commands_run(repository: Path, lpaint: Callable[..., Outcome]) -> None:
    for command in _commands():
        if not SMOKE[command].startswith("- "):
            outcome = lpaint(*shlex.split(SMOKE[command])[1:])
            assert outcome.code == 0, f"{command}:\n{outcome.out}\n{outcome.err}"
    made = ("YOUR_PICTURE.painted.png", "photo.painted.png", "big.png", "a.svg", "a.mp4", "painted/more/two.png")
    for name in (*made, "huge.png", "a.gif", "champion.onnx"):
        assert (repository / name).stat().st_size > 0, name


def test_settings_that_are_named_exist() -> None:
    for key, values in re.findall(r"-S ([\w.]+)=(\S+)", "\n".join(_commands())):
        for value in values.split(","):
            params = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text(encoding="utf-8"))
            section, *rest = key.split(".")
            place = params[section]
            for name in rest[:-1]:
                place = place[name]
            assert rest[-1] in place, key
            place[rest[-1]] = YAML(typ="safe", pure=True).load(value)
            parse_params(params, f"{key}={value}")


def test_the_python_example_runs(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(code.replace("strokes=2000", "strokes=20"), {})
    assert (repository / "photo.svg").exists() and (repository / "photo.mp4").exists()
