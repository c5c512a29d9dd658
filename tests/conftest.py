"""Fixtures that several files share: a clean environment, and one small real run of the whole chain."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lpaint.cli import main
from lpaint.files import lock_file
from tests.helpers.commands import Outcome
from tests.helpers.tiny import run_chain


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """No tracking server, DVC root or experiment of the caller's reaches a test; torch leaves cores to others."""
    patch = pytest.MonkeyPatch()
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_", "LPAINT_EXPERIMENT"))]:
        patch.delenv(name)
    torch.set_num_threads(1)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a repository in which all five stages ran, in this process, on a few tiny pictures.

    Made once for all workers of pytest-xdist. Tests must not change it.
    """
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


@pytest.fixture
def actor(chain: Path) -> Path:
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
