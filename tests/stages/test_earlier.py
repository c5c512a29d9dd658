"""Files of an earlier version, commit fcb6b31, are still read: parameters, a model, strokes, an interrupted training.

``earlier/`` holds what that version wrote for ``tiny.OVERLAY`` with ``agent.actor.blocks: 1`` and a checkpoint every 8
updates, the training having been stopped at update 8.
"""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lpaint.agent.trainer import AgentTraining
from lpaint.api import Painter
from lpaint.data.dataset import PreparedData
from lpaint.runtime.params import load_params
from lpaint.runtime.resume import find_resumable_key
from lpaint.strokes import exact_rasteriser, get_family
from lpaint.tracking import NullTracker
from lpaint.training.checkpoint import CheckpointManager, open_checkpoints
from lpaint.training.device import choose_compute
from stages.train_agent import resume_keys

EARLIER = Path(__file__).parents[1] / "earlier"
RESUME = next(EARLIER.glob("train_agent-*"))


def test_parameters_are_read() -> None:
    params = load_params(EARLIER / "params.yaml")
    assert params.agent.target_norm == "own" and params.agent.actor.blocks == 1


def test_a_model_paints() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    artwork = Painter(EARLIER / "actor.onnx").paint(picture, strokes=4)
    assert artwork.pixels().shape == (32, 32, 3)


def test_strokes_are_drawn() -> None:
    artwork = Painter(EARLIER / "actor.onnx").load(EARLIER / "strokes.json")
    assert len(artwork) == len(json.loads((EARLIER / "strokes.json").read_text())["strokes"])
    assert artwork.pixels().any()


def test_a_training_on_all_cores_is_found_by_the_number_that_there_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    params = load_params(EARLIER / "params.yaml")
    params = params.model_copy(update={"base": params.base.model_copy(update={"threads": 0})})
    keys = resume_keys(params, choose_compute(params.base), "0f", None)
    assert find_resumable_key("train_agent", *keys)["compute"]["threads"] == 0
    with open_checkpoints("train_agent", keys[1]) as earlier:
        assert find_resumable_key("train_agent", *keys) == keys[1]
        with open_checkpoints("train_agent", keys[0]):
            assert find_resumable_key("train_agent", *keys) == keys[0]
            earlier.save({"step": 1})
            assert find_resumable_key("train_agent", *keys) == keys[1], "a checkpoint is more than a beginning"


def test_an_interrupted_training_goes_on(chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = load_params(EARLIER / "params.yaml")
    compute = choose_compute(params.base)
    about = json.loads((RESUME / "about.json").read_text())
    key, earlier = resume_keys(params, compute, about["key"]["data"], None)
    assert key == earlier == about["key"], "or its folder would not be found"
    resume = CheckpointManager(Path(shutil.copytree(RESUME, tmp_path / RESUME.name)), "train_agent", key)
    rasterisers = partial(exact_rasteriser, get_family(params.stroke.family), compiled=False)
    data = PreparedData.load(chain / "data/prepared")
    training = AgentTraining(params, data, compute, rasterisers, resume, NullTracker())
    assert "resumed at update 8" in capsys.readouterr().out
    assert training.run().progress.update == params.agent.updates
