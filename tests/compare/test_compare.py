"""`lpaint compare`, `promote` and `pull` on made-up runs with known figures, and on runs of the pipeline."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lpaint.compare import experiments
from lpaint.compare.experiments import Experiment, notes_on_experiments
from lpaint.compare.report import compare_trainings
from lpaint.compare.runs import select_trainings
from lpaint.compare.table import METRICS, Difference, Estimate, common_strokes, common_thresholds
from lpaint.errors import DataError, ModelError, ParamsError
from lpaint.tracking.mlflow_store import REGISTERED_MODEL, connect
from lpaint.tracking.mlflow_tracker import MlflowTracker
from lpaint.tracking.registry import promote, pull
from lpaint.tracking.run_store import RunStore

# L2 at 100 strokes by GAN and seed.
ERRORS = {("sagan", "1"): 0.010, ("sagan", "2"): 0.014, ("dragan", "1"): 0.020, ("dragan", "2"): 0.022}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository's root, in which MLflow keeps its store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def _track(gan: str, seed: str, error: float, status: str = "FINISHED", **changes: Any) -> str:
    """A training of 200 updates whose validation L2 falls from 4 x ``error`` to ``error``; its run's id.

    ``error`` is the test L2 at 100 strokes, too; ``validated`` that of the final validation, None for none.
    """
    params = {"gan": gan, "replay": "uniform", "seed": seed, "agent.gan": gan, "base.seed": seed, "base.threads": seed}
    tags = {"stage": "train_agent", "data.digest": changes.pop("data", "abc")}
    if "experiment" in changes:
        tags["dvc.experiment"] = changes.pop("experiment")
    evaluated = changes.pop("evaluated", True)
    validated = changes.pop("validated", error)
    tracker = MlflowTracker("train_agent", params | changes, tags)
    for update, factor in ((50, 4.0), (100, 2.0), (200, 1.0)):
        tracker.log_metrics({"validation/l2": factor * error, "validation/reward": 1 - factor * error}, update)
        seconds = 0.5 * update * (2 if gan == "sagan" else 1)
        tracker.log_metrics({"charts/seconds": seconds, "charts/transitions": 10.0 * update}, update)
        tracker.log_metrics({"losses/actor": -error * update, "charts/peak_memory_mib": 500.0}, update)
    if evaluated:
        for strokes in (50, 100):
            values = dict.fromkeys((f"test/{metric}" for metric in METRICS), 0.5) | {"test/l2": error * 100 / strokes}
            values |= {"test/used": strokes - 1}
            if validated is not None:
                values["validation_final/l2"] = validated * 100 / strokes
            tracker.log_metrics(values, strokes)
        folder = Path(f"made-{gan}-{seed}")
        folder.mkdir(exist_ok=True)
        shades = np.array([[0, int(1000 * error), 100]], np.uint8)[..., None, None, None]
        pictures = np.broadcast_to(shades, (2, 3, 8, 8, 3))
        np.savez(folder / "paintings.npz", names=np.array(["a", "b"]), strokes=[50, 100], pictures=pictures)
        tracker.log_artifact(folder / "paintings.npz", "evaluation")
    tracker.end(status)
    assert not tracker.pending_files
    return tracker.run_id


@pytest.fixture
def grid(home: Path) -> Path:
    for (gan, seed), error in ERRORS.items():
        _track(gan, seed, error)
    return home


def test_an_estimate_is_a_mean_with_students_interval() -> None:
    # t(0.975, 2) = 4.3027; the deviation of 1, 2, 3 is 1: 4.3027 / sqrt(3).
    interval: Any = pytest.approx(2.4841, abs=1e-3)
    assert Estimate.of([1.0, 2.0, 3.0, None]) == Estimate(2.0, interval, 3, 1)
    assert Estimate.of([5.0]) == Estimate(5.0, None, 1, 0)
    assert Estimate.of([None, float("nan")]) == Estimate(None, None, 0, 2)


def test_the_report_shows_the_figures(grid: Path) -> None:
    out = grid / "reports"
    told = compare_trainings(out, by=("gan",), thresholds=[0.03, 0.012])
    assert told == f"4 trainings in 2 groups compared; see {out}/report.md"
    report = json.loads((out / "report.json").read_text())
    assert [row["group"] for row in report["rows"]] == [{"gan": "sagan"}, {"gan": "dragan"}], "best first"
    sagan, dragan = (row["figures"] for row in report["rows"])
    assert sagan["l2"]["mean"] == pytest.approx(0.012) and sagan["l2"]["n"] == 2
    assert sagan["l2"]["ci95"] == pytest.approx(12.706 * 0.002, rel=1e-3)
    assert dragan["best_validation_l2"]["mean"] == pytest.approx(0.021)
    # Validation: sagan .040 .020 .010 and .056 .028 .014; dragan .080 .040 .020 and .088 .044 .022.
    assert sagan["updates_to_0.03"]["mean"] == 100 and sagan["transitions_to_0.03"]["mean"] == 1000
    assert dragan["updates_to_0.03"]["mean"] == 200
    assert sagan["updates_to_0.012"] == {"mean": 200.0, "ci95": None, "n": 1, "missing": 1}
    assert dragan["updates_to_0.012"]["mean"] is None
    assert (sagan["seconds_per_update"]["mean"], dragan["seconds_per_update"]["mean"]) == (1.0, 0.5)
    assert sagan["peak_memory_mib"]["mean"] == 500
    text = (out / "report.md").read_text()
    assert sagan["validation_l2"]["mean"] == pytest.approx(0.012) and sagan["strokes_used"]["mean"] == 99
    assert "| sagan | 2 | 0.012 ± 0.025 |" in text and "200 (1 of 2)" in text and "**Note**" not in text
    html = (out / "report.html").read_text()
    assert "<table>" in html and '<img src="l2_by_updates.png"' in html
    plots = {"reward_by_steps", "l2_by_updates", "actor_loss", "l2_by_seconds", "seconds_by_gan", "sheet"}
    assert {path.stem for path in out.glob("*.png")} == plots
    assert all(f"]({plot}.png)" in text for plot in plots)


def test_the_sheet_shows_the_best_seed_of_each_group_beside_the_target(grid: Path) -> None:
    compare_trainings(grid / "out", by=("gan",))
    pixels = np.asarray(Image.open(grid / "out/sheet.png"))
    assert [pixels[20, 5 + 10 * column, 0] for column in range(3)] == [0, 100, 100]
    compare_trainings(grid / "out", by=("gan",), strokes=50)
    pixels = np.asarray(Image.open(grid / "out/sheet.png"))
    assert [pixels[20, 5 + 10 * column, 0] for column in range(3)] == [0, 20, 10], "dragan's and sagan's seed 1"


def test_groups_and_seeds_are_chosen_on_validation_pictures(home: Path) -> None:
    # On the test pictures fisher looks best, and of sagan seed 1; on the validation pictures it is the other way round.
    for gan, seed, test, validated in (
        ("fisher", "1", 0.004, 0.03),
        ("sagan", "1", 0.010, 0.02),
        ("sagan", "2", 0.014, 0.01),
    ):
        _track(gan, seed, test, validated=validated)
    compare_trainings(home / "out", by=("gan",), strokes=100)
    report = json.loads((home / "out/report.json").read_text())
    assert [row["group"]["gan"] for row in report["rows"]] == ["sagan", "fisher"]
    pixels = np.asarray(Image.open(home / "out/sheet.png"))
    assert [pixels[20, 5 + 10 * column, 0] for column in range(3)] == [0, 100, 100]
    compare_trainings(home / "half", by=("gan",), strokes=50)
    pixels = np.asarray(Image.open(home / "half/sheet.png"))
    assert [pixels[20, 5 + 10 * column, 0] for column in range(3)] == [0, 4, 14], "sagan's seed 2"


def test_runs_that_an_earlier_version_evaluated_are_ordered_by_their_trainings_validation(home: Path) -> None:
    _track("dragan", "1", 0.02, validated=None)
    _track("sagan", "1", 0.01, validated=0.5)
    compare_trainings(home / "out", by=("gan",))
    report = json.loads((home / "out/report.json").read_text())
    assert [row["group"]["gan"] for row in report["rows"]] == ["sagan", "dragan"]


def test_a_verdict_needs_an_interval_that_excludes_zero() -> None:
    # Welch: variances of the means 1/3 and 1/3, 4 degrees of freedom: 2.7764 x sqrt(2/3).
    found = Difference.of([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    interval: Any = pytest.approx(2.2669, abs=1e-3)
    assert found == Difference(-3.0, interval) and found.verdict == "lower"
    assert Difference.of([6.0, 5.0, 4.0, None], [1.0, 2.0, 3.0]).verdict == "higher"
    # One seed of three was thrown back: means apart, yet nothing is decided.
    assert Difference.of([0.0134, 0.0127, 0.0356], [0.0110, 0.0112, 0.0113]).verdict == "undecided"
    for too_few in (([1.0], [2.0, 2.1]), ([], [1.0, 2.0]), ([1.0, 1.0], [1.0, 1.0])):
        assert Difference.of(*too_few).verdict == "undecided"


def test_formats_and_filters(grid: Path) -> None:
    compare_trainings(grid / "out", by=("gan",), where={"seed": "1"}, formats=("json",))
    assert not (grid / "out/report.md").exists() and not (grid / "out/report.html").exists()
    report = json.loads((grid / "out/report.json").read_text())
    assert [row["seeds"] for row in report["rows"]] == [["1"], ["1"]]


def test_trainings_left_out_are_listed(grid: Path) -> None:
    _track("cramer", "1", 0.03, status="FAILED")
    _track("fisher", "1", 0.03, evaluated=False)
    _track("sngan", "1", 0.03, data="other")
    _track("dragan", "2", 0.018)
    selection = select_trainings(RunStore(), ("gan",), {}, tuple(METRICS))
    assert len(selection.trainings) == 4
    left_out = "\n".join(selection.left_out)
    for sentence in (
        r"(gan cramer, replay uniform, seed 1) is failed, not finished",
        r"(gan fisher, replay uniform, seed 1) was never evaluated",
        r"(gan sngan, replay uniform, seed 1) was trained on other data than most",
        r"(gan dragan, replay uniform, seed 2) was repeated; its newest repetition counts",
    ):
        assert sentence in left_out
    assert [training.test("l2")[100] for training in selection.groups["dragan",]] == pytest.approx([0.020, 0.018])


def test_other_differing_parameters_are_listed(grid: Path) -> None:
    _track("sagan", "3", 0.01, **{"agent.updates": "400"})
    _track("sagan", "4", 0.01, **{"agent.updates": "800"})
    compare_trainings(grid / "out", by=("gan",))
    text = (grid / "out/report.md").read_text()
    assert "- agent.updates: 400, 800" in text and "base.threads" not in text


def test_a_message_if_there_is_nothing_to_compare(home: Path) -> None:
    assert compare_trainings(home / "out").startswith("there is nothing to compare yet: no finished training was found")
    assert not (home / "mlflow.db").exists(), "looking leaves nothing behind"
    _track("sagan", "1", 0.01)
    _track("sagan", "2", 0.01, status="KILLED")
    told = compare_trainings(home / "out")
    assert "one finished training was found" in told and "is killed" in told and not (home / "out").exists()


def test_bad_options_raise_one_sentence(grid: Path) -> None:
    with pytest.raises(ParamsError, match=r"has a parameter 'agent.gam'; did you mean agent.gan\?"):
        compare_trainings(grid / "out", by=("agent.gam",))
    with pytest.raises(ParamsError, match=r"--strokes 77: these trainings were not all evaluated"):
        compare_trainings(grid / "out", strokes=77)
    with pytest.raises(DataError, match="cannot be read"):
        RunStore("ftp://nowhere")


def test_another_store_may_be_named(grid: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path_factory.mktemp("elsewhere")))
    told = compare_trainings(grid / "out", uri=f"sqlite:///{grid / 'mlflow.db'}", by=("gan",))
    assert told.startswith("4 trainings")


def test_common_strokes_and_thresholds(grid: Path) -> None:
    trainings = select_trainings(RunStore(), ("gan",), {}, ("l2",)).trainings
    assert common_strokes(trainings, None) == 100 and common_strokes(trainings, 50) == 50
    trainings[0].curves["test/l2"].pop()
    assert common_strokes(trainings, None) == 50
    assert common_thresholds(trainings) == [0.044, 0.031, 0.022]


def test_experiments_without_a_run_are_listed(grid: Path) -> None:
    run = _track("sagan", "5", 0.01, experiment="first-one")
    runs = RunStore().runs("train_agent")
    same = {"gan": "sagan", "replay": "uniform", "seed": "5"}
    listed = [
        Experiment("first-one", "Success", same),
        Experiment("second-one", "Success", same),
        Experiment("lost-one", "Success", same | {"seed": "6"}),
        Experiment("bad-one", "Failed", same),
        Experiment("late-one", "Queued", same),
    ]
    notes = notes_on_experiments(listed, runs)
    assert len(notes) == 4
    assert notes[0].startswith("experiment second-one (gan sagan, replay uniform, algorithm ?, seed 5) was restored")
    assert f"run {run[:8]} made its model and counts for it" in notes[0]
    assert "lost-one" in notes[1] and "repeat it with dvc exp run --force" in notes[1]
    assert "dvc queue logs bad-one" in notes[2] and "is queued" in notes[3]


def test_outside_a_dvc_repository_there_are_no_experiments(home: Path) -> None:
    assert experiments.list_experiments(home) == []


# Promotion


def _register(run_id: str, folder: Path) -> str:
    client, _ = connect()
    if not client.search_registered_models(f"name = '{REGISTERED_MODEL}'"):
        client.create_registered_model(REGISTERED_MODEL)
    folder.mkdir()
    (folder / "model.onnx").write_bytes(run_id.encode())
    client.log_artifact(run_id, str(folder / "model.onnx"), "actor")
    source = f"{client.get_run(run_id).info.artifact_uri}/actor"
    return str(client.create_model_version(REGISTERED_MODEL, source, run_id).version)


def test_the_best_model_becomes_champion_and_can_be_pulled(home: Path) -> None:
    with pytest.raises(ModelError, match="there is no registered model in MLflow"):
        promote(RunStore())
    runs = [_track("sagan", "1", 0.012), _track("dragan", "1", 0.010), _track("fisher", "1", 0.001, data="other")]
    for place, run in enumerate(runs[:2]):
        assert _register(run, home / f"m{place}") == str(place + 1)
    store = RunStore()
    with pytest.raises(ModelError, match="no registered model is called champion; lpaint promote makes one"):
        pull(store, "champion", home / "x.onnx")
    assert promote(store, version="1") == "version 1 is champion: validation L2 0.01200 at 100 strokes"
    assert promote(store) == "version 2 is champion: validation L2 0.01000 at 100 strokes; version 1 had 0.01200"
    assert promote(store, version="1").startswith("version 2 stays champion: validation L2 0.01000")
    # Errors on other pictures say nothing about these.
    _register(runs[2], home / "m2")
    assert promote(store).startswith("version 2 stays champion")
    with pytest.raises(
        ModelError, match="no registered model has a validation L2 at 100 strokes on the champion's data"
    ):
        promote(store, version="3")
    with pytest.raises(ModelError, match="there is no version 9"):
        promote(store, version="9")
    told = pull(store, "champion", home / "deep/champion.onnx")
    assert "version 2" in told and runs[1] in told
    assert (home / "deep/champion.onnx").read_bytes() == runs[1].encode()
    pull(store, "1", home / "first.onnx")
    assert (home / "first.onnx").read_bytes() == runs[0].encode()


def test_the_champion_is_chosen_by_validation_not_by_test(home: Path) -> None:
    for place, (test, validated) in enumerate([(0.010, 0.030), (0.020, 0.015), (0.001, None)]):
        _register(_track("sagan", str(place), test, validated=validated), home / f"m{place}")
    store = RunStore()
    with pytest.raises(ModelError, match="no registered model has a validation L2 at 77 strokes; try another"):
        promote(store, strokes=77)
    told = promote(store)
    assert told.startswith("version 2 is champion: validation L2 0.01500 at 100 strokes")
    assert told.endswith("; version 3 has no validation figure at 100 strokes and is no candidate")
    # A champion of an earlier lpaint, crowned by its test error.
    store.set_alias("champion", "3")
    told = promote(store, version="1")
    assert told == (
        "version 1 is champion: validation L2 0.03000 at 100 strokes; "
        "version 3 has no validation figure at 100 strokes and is no candidate"
    )


def test_the_chains_own_model_can_be_promoted_and_painted_with(chain: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(chain))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = RunStore()
    assert "is champion" in promote(store, strokes=20)
    pull(store, "champion", tmp_path / "champion.onnx")
    from lpaint.painting.onnx_model import describe

    assert describe(tmp_path / "champion.onnx") == describe(chain / "exports/actor.onnx")
