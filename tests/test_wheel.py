"""The wheel, installed into an empty environment with its base dependencies alone, paints."""

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
Program = Callable[..., str]
pytestmark = pytest.mark.wheel


def _run(*command: object, cwd: Path) -> str:
    """Standard output of a command that must succeed, and sees nothing of this environment's packages."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    arguments = [str(part) for part in command]
    done = subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode and "after connection broken by" in done.stderr:
        pytest.skip("pip cannot reach its package index")
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _copy_source(target: Path) -> Path:
    """What the wheel is made of. The working tree's build/ may hold modules that are gone."""
    shutil.copytree(ROOT / "pipeline", target / "pipeline", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)
    return target


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Calls a program of the environment."""
    folder = tmp_path_factory.mktemp("wheel")
    _run(*PIP, "wheel", "--no-deps", "--wheel-dir", folder, _copy_source(folder / "source"), cwd=folder)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv")
    programs = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    pip = (*PIP, "--python", programs / "python")
    _run(*pip, "install", "--constraint", ROOT / "constraints.txt", wheel, cwd=folder)

    def call(name: str, *arguments: object, cwd: Path = folder) -> str:
        return _run(programs / name, *arguments, cwd=cwd)

    return call


def test_a_picture_is_painted(program: Program, tmp_path: Path) -> None:
    Image.linear_gradient("L").resize((60, 40)).save(tmp_path / "photo.png")
    program("lpaint", "paint", "photo.png", "--strokes", 20, "-o", "a.png", "-o", "a.mp4", "-o", "a.svg", cwd=tmp_path)
    with Image.open(tmp_path / "a.png") as painting:
        assert painting.size == (60, 40) and painting.mode == "RGB" and len(set(painting.getdata())) > 20
    assert (tmp_path / "a.mp4").stat().st_size and (tmp_path / "a.svg").read_text().count("<path") == 20


def test_the_other_commands_of_the_base_install_work(program: Program) -> None:
    assert "paint" in program("lpaint", "--help")
    report = program("lpaint", "doctor")
    assert "PROBLEM" not in report and "pipeline (for training): not installed" in report
    model = program("python", "-c", "from lpaint.painting.onnx_model import packaged_model; print(packaged_model())")
    assert json.loads(program("lpaint", "info", model.strip(), "--json"))


def test_nothing_of_the_pipeline_is_installed(program: Program) -> None:
    script = "import importlib.util as u; print([n for n in ('torch', 'mlflow', 'dvc', 'pandas') if u.find_spec(n)])"
    assert program("python", "-c", script).strip() == "[]"
