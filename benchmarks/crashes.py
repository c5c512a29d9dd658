"""Kill every stage with SIGKILL at random moments: `python benchmarks/crashes.py`.

Works in a copy of the repository, at the size of the profile `smoke`. Each stage first runs to its end under DVC, which
gives its time and the digests of its outputs. Then it is started again and again, and killed together with DVC at a
random moment (uniform over that time), until it ends before the kill. Its outputs must then equal those of the first
run to the bit. This repeats until every stage has been killed often enough. Prints a table, and JSON with --json.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from ruamel.yaml import YAML

from lpaint.runtime.profiles import apply_profile
from lpaint.runtime.provenance import digest_file

ROOT = Path(__file__).parents[1]
# Outputs that must be the same after kills. They hold no run ids or times.
OUTPUTS = {
    "source": ["data/source.json"],
    "prepare": ["data/prepared/images.npy", "data/prepared/manifest.parquet", "data/prepared/summary.json"],
    "pretrain_renderer": ["models/renderer.safetensors", "models/rasteriser.neural.json", "reports/renderer.json"],
    "train_agent": ["models/actor.safetensors", "reports/training.json"],
    "evaluate": ["reports/evaluation.json", "reports/evaluation/per_image.parquet"],
    "export_onnx": ["exports/actor.onnx", "exports/rasteriser.onnx", "exports/parity.json"],
}
DVC_ERROR = 255


@dataclass
class Count:
    """Results of a stage: ``seconds`` of the first run; ``resumed``: starts that continued from a checkpoint.

    ``locks``: kills that cut short DVC's list of locks, which must then be deleted (`lpaint doctor` reports it).
    """

    stage: str
    seconds: float
    kills: int = 0
    ends: int = 0
    resumed: int = 0
    equal: int = 0
    failed: int = 0
    locks: int = 0


def main(
    train: Annotated[int, typer.Option(min=0, help="Kills of train_agent.")] = 30,
    others: Annotated[int, typer.Option(min=0, help="Kills of each other stage.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the random moments.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON at the end.")] = False,
) -> None:
    """Kill and resume. The exit code is 1 if any output differs."""
    moments = random.Random(seed)
    counts = []
    with _repository() as root:
        assert _run(root, None)[0] == 0, "the pipeline must run before it is killed"
        for stage in OUTPUTS:
            counts.append(_break(root, stage, train if stage == "train_agent" else others, moments))
            print(counts[-1], file=sys.stderr, flush=True)
    heads = ("stage", "seconds unbroken", "kills", "went on from a checkpoint", "ran to the end", "equal outputs")
    print("| " + " | ".join((*heads, "DVC's locks cut")) + " |")
    print("|---" * (len(heads) + 1) + "|")
    for each in counts:
        row = (each.stage, f"{each.seconds:.1f}", each.kills, each.resumed, each.ends, each.equal, each.locks)
        print("| " + " | ".join(map(str, row)) + " |")
    if as_json:
        print(json.dumps([asdict(each) for each in counts], indent=2))
    if any(each.failed or each.equal < each.ends for each in counts):
        raise typer.Exit(1)


def _break(root: Path, stage: str, kills: int, moments: random.Random) -> Count:
    """Kill one stage ``kills`` times, and let it end each time in between."""
    started = time.monotonic()
    assert _run(root, stage)[0] == 0
    count = Count(stage, time.monotonic() - started)
    whole = _digests(root, stage)
    while count.kills < kills:
        for name in OUTPUTS[stage]:
            (root / name).unlink(missing_ok=True)
        ended = False
        while not ended:
            code, output = _run(root, stage, moments.uniform(0, count.seconds) if count.kills < kills else None)
            ended = code == 0
            count.kills += code == -signal.SIGKILL
            count.resumed += "resumed at" in output
            if code == DVC_ERROR and "RWLock" in output:
                (root / ".dvc/tmp/rwlock").unlink()
                count.locks += 1
            elif code not in (0, -signal.SIGKILL):
                count.failed += 1
                print(f"{stage} ended with {code}:\n{output}", file=sys.stderr, flush=True)
                break
        count.ends += ended
        count.equal += ended and _digests(root, stage) == whole
    return count


def _run(root: Path, stage: str | None, kill_after: float | None = None) -> tuple[int, str]:
    """Run `dvc repro` of one stage, forced, or of all stages. Returns exit code and output."""
    environment = os.environ | {"PYTHONPATH": str(root / "pipeline"), "DVC_NO_ANALYTICS": "1"}
    command = ["dvc", "repro", *(["-s", "-f", stage] if stage else [])]
    log = root.with_name("log")
    with log.open("w") as stream:
        running = subprocess.Popen(
            command, cwd=root, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
        try:
            code = running.wait(kill_after)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            code = running.wait()
    return code, log.read_text(encoding="utf-8", errors="replace")


def _digests(root: Path, stage: str) -> list[str]:
    return [digest_file(root / name) for name in OUTPUTS[stage]]


@contextmanager
def _repository() -> Iterator[Path]:
    """Copy the files that Git tracks here into a temporary repository with the smallest parameters."""
    with TemporaryDirectory() as folder:
        root = Path(folder) / "repository"
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in listed.splitlines():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
        subprocess.run(["git", "init", "-q", "."], cwd=root, check=True)
        apply_profile(root, "smoke")
        yaml = YAML()
        params = yaml.load(root / "params.yaml")
        params["base"]["threads"] = 1
        params["renderer"].update(updates=400, checkpoint_every=40)
        params["agent"].update(updates=300, checkpoint_every=30)
        yaml.dump(params, root / "params.yaml")
        yield root


if __name__ == "__main__":
    typer.run(main)
