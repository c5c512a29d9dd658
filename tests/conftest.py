"""Fixtures that several files share: a clean environment, and one small real run of the whole chain."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lpaint.cli import main
from lpaint.files import lock_file
from tests.helpers.commands import Outcome

TESTS = Path(__file__).parent
# The base install has no torch. It runs these tests alone, with the model of an earlier version.
TORCH = importlib.util.find_spec("torch") is not None
LIGHT = {
    "painting",
    "images",
    "cli/test_help.py",
    "cli/test_paint_command.py",
    "test_api.py",
    "test_fuzz.py",
    "test_light.py",
}
NOT_LIGHT = {"painting/test_svg.py"}
# Tests of terminals, devices and drivers of Linux, and of signals that Windows lacks.
LINUX = {"painting/test_gpu.py", "painting/test_painting_files.py", "test_light.py"}
POSIX = {"cli/test_paint_command.py"}


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    place = collection_path.relative_to(TESTS).as_posix()
    if (sys.platform != "linux" and place in LINUX) or (sys.platform == "win32" and place in POSIX):
        return True
    light = any(place.startswith(each) or each.startswith(f"{place}/") for each in LIGHT) and place not in NOT_LIGHT
    return None if TORCH or light or collection_path == TESTS else True


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("pipeline") and not TORCH:
        pytest.skip("the packages of the pipeline are not installed")


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """No tracking server, DVC root or experiment of the caller's reaches a test; torch leaves cores to others."""
    patch = pytest.MonkeyPatch()
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_", "LPAINT_EXPERIMENT"))]:
        patch.delenv(name)
    if TORCH:
        import torch

        torch.set_num_threads(1)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a repository in which all five stages ran, in this process, on a few tiny pictures.

    Made once for all workers of pytest-xdist. Tests must not change it.
    """
    pytest.importorskip("torch")
    from tests.helpers.tiny import run_chain

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    root = shared / "chain"
    with (shared / "chain.lock").open("w") as lock:
        lock_file(lock)
        if not (root / "done").exists():
            root.mkdir()
            # Where an earlier test of this process pointed MLflow at.
            os.environ.pop("MLFLOW_TRACKING_URI", None)
            run_chain(root)
            (root / "done").touch()
    return root


@pytest.fixture
def lpaint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Calls the command in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as exited:
            main([str(argument) for argument in arguments])
        output = capfd.readouterr()
        code = exited.value.code
        return Outcome(code if isinstance(code, int) else 0, output.out, output.err)

    return call


@pytest.fixture(scope="session")
def actor(request: pytest.FixtureRequest) -> Path:
    """A small model that the chain exported."""
    if not TORCH:
        return TESTS / "earlier/actor.onnx"
    chain: Path = request.getfixturevalue("chain")
    return chain / "exports/actor.onnx"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "meadow.png"
    path.parent.mkdir()
    rows = np.linspace(0, 255, 40).astype(np.uint8)
    Image.fromarray(
        np.stack([np.tile(rows[:, None], 60), np.full((40, 60), 90), np.full((40, 60), 30)], 2).astype(np.uint8)
    ).save(path)
    return path
