"""What a run of the whole chain leaves behind: files, reports, and linked runs in MLflow."""

import csv
import json
import warnings
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.entities import Run

from lpaint.agent.torch_model import load_actor
from tests.helpers.tiny import tiny_params

STAGES = ("prepare", "pretrain_renderer", "train_agent", "evaluate", "export_onnx")


@pytest.fixture(scope="module")
def runs(chain: Path) -> dict[str, Run]:
    """The chain's tracked runs by stage."""
    mlflow.set_tracking_uri(f"sqlite:///{chain / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    (experiment,) = (each for each in client.search_experiments() if each.name == "lpaint")
    found = client.search_runs([experiment.experiment_id])
    assert len(found) == len(STAGES)
    return {run.data.tags["stage"]: run for run in found}


def test_every_output_is_there(chain: Path) -> None:
    for name in (
        "data/prepared/images.npy",
        "data/prepared/manifest.parquet",
        "data/prepared/preview.png",
        "models/rasteriser.exact.json",
        "models/rasteriser.neural.json",
        "models/renderer.safetensors",
        "models/actor.safetensors",
        "reports/renderer.json",
        "reports/renderer/teacher_student.png",
        "reports/renderer/loss.png",
        "reports/training.json",
        "reports/training/curve.csv",
        "reports/evaluation.json",
        "reports/evaluation/median.png",
        "reports/evaluation/timelapse_0.webp",
        "reports/evaluation/per_image.parquet",
        "exports/actor.onnx",
        "exports/outline.onnx",
        "exports/rasteriser.onnx",
        "exports/renderer.onnx",
        "exports/parity.json",
        "exports/MODEL_CARD.md",
    ):
        assert (chain / name).stat().st_size > 0, name
    assert not list(chain.rglob("*.partial*")), "temporary files were left"


def test_curve_has_every_validation_once(chain: Path) -> None:
    with (chain / "reports/training/curve.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["update"]) for row in rows] == [4, 8, 12, 16]
    report = json.loads((chain / "reports/training.json").read_text())
    assert report["best"]["l2"] == min(float(row["l2"]) for row in rows)
    # 4 rounds of 4 environments, 3 steps at each of 2 scales.
    assert report["transitions"] == 4 * 4 * 3 * 2 and report["samples"] == 16 * 8


def test_painting_comes_closer_with_more_strokes(chain: Path) -> None:
    strokes = json.loads((chain / "reports/evaluation.json").read_text())["strokes"]
    assert list(strokes) == ["6", "20"]
    # Strokes that raise the error are left out, so that even a hardly trained agent beats the black canvas.
    assert 0 < strokes["6"]["reward"]["mean"] < strokes["20"]["reward"]["mean"] < 1


def test_weights_carry_their_settings(chain: Path) -> None:
    actor, spec = load_actor(chain / "models/actor.safetensors")
    agent = tiny_params().agent
    assert (spec.gan, spec.replay, spec.zoom) == (agent.gan, agent.replay, tuple(agent.zoom))
    assert not actor.training


def test_model_card_names_the_data_and_its_licence(chain: Path) -> None:
    card = (chain / "exports/MODEL_CARD.md").read_text()
    assert "synthetic" in card and card.count("| 20 |") == 2 and "Licence" in card
    assert "2 test images" in card and "2 validation images" in card and "`search`" in card


def test_runs_are_finished_and_linked_to_what_they_build_on(runs: dict[str, Run]) -> None:
    ids = {stage: run.info.run_id for stage, run in runs.items()}
    assert set(ids) == set(STAGES) and all(run.info.status == "FINISHED" for run in runs.values())
    tags = {stage: run.data.tags for stage, run in runs.items()}
    assert tags["train_agent"]["upstream.prepare"] == ids["prepare"]
    assert tags["train_agent"]["upstream.pretrain_renderer"] == ids["pretrain_renderer"]
    assert tags["evaluate"]["upstream.train_agent"] == ids["train_agent"]
    assert tags["export_onnx"]["upstream.evaluate"] == ids["evaluate"]
    assert tags["train_agent"]["data.digest"] == tags["prepare"]["data.digest"]


def test_agents_run_tells_the_whole_story(runs: dict[str, Run], chain: Path) -> None:
    run = runs["train_agent"]
    expected = {"gan": "wgan_gp", "replay": "prioritized", "algorithm": "ddpg", "seed": "0", "agent.batch_size": "8"}
    assert expected.items() <= run.data.params.items()
    for metric in (
        "validation/l2",
        "losses/actor",
        "losses/discriminator",
        "test/l2",
        "validation_final/l2",
        "export/parity_actor",
    ):
        assert np.isfinite(run.data.metrics[metric]), metric
    client = mlflow.MlflowClient()
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "validation/l2")]
    assert steps == [4, 8, 12, 16]
    artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"images", "evaluation", "evaluation.json", "MODEL_CARD.md"} <= artifacts


def test_registered_model_predicts_through_pyfunc(runs: dict[str, Run]) -> None:
    (version,) = mlflow.MlflowClient().search_model_versions("name='lpaint-actor'")
    assert version.run_id == runs["train_agent"].info.run_id
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = mlflow.pyfunc.load_model("models:/lpaint-actor/1")
    picture = np.random.default_rng(0).random((2, 3, 16, 16), np.float32)
    batch = {"canvas": np.zeros_like(picture), "target": picture, "fraction": np.zeros(2, np.float32)}
    strokes = model.predict(batch)["strokes"]
    assert strokes.shape == (2, 2, 13) and 0 <= strokes.min() < strokes.max() <= 1
