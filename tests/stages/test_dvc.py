"""The chain as a user runs it: DVC, processes of its own, a kill in the middle, experiments, archives that change."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.pictures import encoded, write_zip
from tests.helpers.repository import Repository

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    made = Repository(tmp_path_factory.mktemp("repository"))
    made.lpaint("profile", "apply", "smoke")
    made.commit()
    return made


def _kill_in_training(repository: Repository) -> None:
    """Start the chain and kill it, DVC and stage alike, once the agent has a checkpoint."""
    running = subprocess.Popen(
        ["dvc", "repro"],
        cwd=repository.root,
        env=repository.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    resume = repository.root / ".lpaint" / "resume"
    deadline = time.monotonic() + 600
    while not list(resume.glob("train_agent-*/checkpoint-*.pt")):
        assert running.poll() is None, "the chain ended before the agent had a checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def test_chain_survives_a_kill_and_then_has_nothing_left_to_do(repository: Repository) -> None:
    _kill_in_training(repository)
    assert not (repository.root / "models/actor.safetensors").exists()
    output = repository.run("dvc", "repro")
    assert "resumed at update " in output and "Running stage 'pretrain_renderer'" not in output
    assert "try: lpaint paint " in output
    again = repository.run("dvc", "repro")
    assert "Running stage" not in again and again.count("didn't change") == 6
    assert "up to date" in repository.run("dvc", "status")
    untracked = repository.run("git", "status", "--porcelain", "-uall").splitlines()
    allowed = ("dvc.lock", "reports/", "exports/")
    assert all(line[3:].startswith(allowed) for line in untracked), untracked


def test_the_renderers_weights_matter_only_to_an_agent_that_draws_with_them(repository: Repository) -> None:
    repository.set("renderer", learning_rate=0.0021)
    output = repository.run("dvc", "repro", "train_agent")
    assert "Running stage 'pretrain_renderer'" in output and "Running stage 'train_agent'" not in output
    repository.set("agent", renderer="neural")
    assert "models/rasteriser.neural.json" in repository.run("dvc", "status", "train_agent")
    repository.set("agent", renderer="exact")
    repository.set("renderer", learning_rate=0.002)


def test_exported_actor_paints(repository: Repository) -> None:
    Image.fromarray(np.full((30, 40, 3), 180, np.uint8)).save(repository.root / "wall.png")
    output = repository.lpaint("paint", "wall.png", "--strokes", "10", "--device", "cpu")
    assert output.startswith("wall.painted.png: ")
    painted = np.asarray(Image.open(repository.root / "wall.painted.png"))
    assert painted.shape == (30, 40, 3) and painted.mean() > 60
    (repository.root / "wall.png").unlink()


def test_a_grid_runs_through_the_queue_and_is_compared(repository: Repository) -> None:
    repository.commit()
    short = ["-S", "agent.updates=40", "-S", "agent.validation.every=20", "-S", "renderer.updates=20"]
    grid = ["-S", "agent.gan=none,sagan_linear", "-S", "base.seed=1", "-S", "base.threads=1", *short]
    assert repository.run("dvc", "exp", "run", "--queue", *grid).count("Queued experiment") == 2
    # Its workers would keep a pipe open that is read to its end.
    done = subprocess.run(
        ["dvc", "queue", "start", "-j", "2"],
        cwd=repository.root,
        env=repository.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0
    deadline = time.monotonic() + 600
    while (status := repository.run("dvc", "queue", "status")).count("Success") < 2:
        assert "Failed" not in status and time.monotonic() < deadline, status
        time.sleep(1)
    told = repository.lpaint("compare", "--by", "gan", "--where", "agent.updates=40", "--format", "json")
    assert "2 trainings in 2 groups compared" in told
    report = json.loads((repository.root / "reports/compare/report.json").read_text())
    assert [row["seeds"] for row in report["rows"]] == [["1"]] * 2
    assert (repository.root / "reports/compare/sheet.png").exists()
    assert "reports/compare/sheet.png" not in repository.run("git", "status", "--porcelain", "-uall")
    # A cell that ran before is restored, and no run of it is tracked; the report says so.
    again = ["-S", "agent.gan=sagan_linear", "-S", "base.seed=1", "-S", "base.threads=1", *short]
    output = repository.run("dvc", "exp", "run", "--temp", "-n", "once-more", *again)
    assert "Running stage 'train_agent'" not in output
    repository.lpaint("compare", "--by", "gan", "--where", "agent.updates=40")
    text = (repository.root / "reports/compare/report.md").read_text()
    assert "made its model and counts for it" in text
    assert "experiment once-more (gan sagan_linear, replay prioritized, algorithm ddpg, seed 1) was restored" in text
    shutil.rmtree(repository.root / "reports/compare")


def _faces(path: Path, count: int) -> None:
    pictures = {f"img_align_celeba/{i:06d}.jpg": Image.new("RGB", (20, 24), (7 * i, 90, 90)) for i in range(1, count)}
    write_zip(path, {name: encoded(picture, "JPEG") for name, picture in pictures.items()})


def test_changed_archive_is_prepared_again_and_an_unchanged_one_is_not(repository: Repository) -> None:
    repository.commit()
    _faces(repository.root.parent / "faces.zip", 30)
    repository.set("data", source="celeba", path="../faces.zip", limit=0)
    assert "29 images packed" in repository.run("dvc", "repro", "prepare")
    assert "Running stage" not in repository.run("dvc", "repro", "prepare")
    assert "up to date" in repository.run("dvc", "status", "prepare")
    _faces(repository.root.parent / "faces.zip", 25)
    assert "24 images packed" in repository.run("dvc", "repro", "prepare")
    assert "Running stage" not in repository.run("dvc", "repro", "prepare")


def test_relative_path_is_found_from_a_temporary_experiment(repository: Repository) -> None:
    _faces(repository.root.parent / "others.zip", 41)
    repository.commit()
    output = repository.run("dvc", "exp", "run", "--temp", "-S", "data.path=../others.zip", "prepare")
    assert "40 images packed" in output


@pytest.mark.parametrize(
    ("values", "code", "words"),
    [
        ({"source": "celeba", "path": "nowhere.zip"}, 5, "data.path does not exist"),
        ({"source": "celeba", "path": "params.yaml"}, 5, "is no readable zip archive"),
        ({"source": "celeba", "path": "../empty.zip"}, 5, "the archive holds no images"),
        ({"source": "celebs"}, 2, "data.source is 'celebs'"),
        ({"sauce": "celeba"}, 2, "unknown key data.sauce (did you mean data.source?)"),
    ],
)
def test_bad_data_and_params_end_a_stage_with_one_sentence(
    repository: Repository, values: dict[str, object], code: int, words: str
) -> None:
    before = (repository.root / "params.yaml").read_text()
    write_zip(repository.root.parent / "empty.zip", {"readme.txt": b"no picture"})
    prepared = (repository.root / "data/prepared/summary.json").read_bytes()
    repository.set("data", **values)
    try:
        output = repository.run(sys.executable, "-m", "stages.prepare", code=code)
    finally:
        (repository.root / "params.yaml").write_text(before)
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and words in errors[0] and "Traceback" not in output
    assert (repository.root / "data/prepared/summary.json").read_bytes() == prepared
