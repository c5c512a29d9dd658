"""Check lpaint on a GPU and measure it: `python benchmarks/gpu.py --faces img_align_celeba.zip --out build/gpu`.

Each section is a process of its own with a time limit, so a CUDA error or a hang costs one section. A section writes
each finding at once; OUT/gpu.json has those of all sections, also of sections that failed later. `--smoke` runs
everything at the smallest sizes, on a CPU too. DVC and MLflow are not needed.

| section | content |
|---|---|
| env | versions, the GPU and its speed, the choice of device and precision |
| tests | tests marked `gpu`, if pytest is installed |
| kinds | a round and two updates of every GAN, replay and algorithm: finite? where does the CPU wait for the GPU? |
| update | time of an update by profile: compiled or not, GPU time by kernel, as a CUDA graph |
| prepared | the faces, packed; synthetic pictures without --faces |
| train | the profile celeba, as long as the budget allows |
| export | ONNX files of the trained actor, compared with torch |
| evaluate | errors of the trained actor's paintings of test images, painted by torch |
| ort | ONNX Runtime on CPU and GPU: batch sizes, paintings, `lpaint paint` |
| resume | an interrupted training against an uninterrupted one, to the bit |
| bench | the benchmarks of `lpaint bench` |
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Seconds that each section may take, in the order in which they run.
LIMITS = {
    "env": 60,
    "tests": 70,
    "kinds": 100,
    "update": 120,
    "prepared": 120,
    "train": 260,
    "export": 100,
    "evaluate": 60,
    "ort": 110,
    "resume": 40,
    "bench": 110,
}
# What the sections write in the folder of data and models.
_FOLDERS = ("findings", "data", "models", "exports", "checkpoints", "resume")
# Seconds that `train` leaves for the sections after it.
_RESERVE = 150
# Seconds below which a section does not start.
_SHORTEST = 8
# Seconds of its limit that `train` does not use for training: it starts, plans, validates and saves.
_TRAIN_MARGIN = 25


def main() -> int:
    """Run the chosen sections; returns 1 if any of them reports an error."""
    options = _options()
    work, out = options.work.resolve(), options.out.resolve()
    for folder in () if options.keep else _FOLDERS:
        shutil.rmtree(work / folder, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    chosen = [name for name in LIMITS if not options.only or name in options.only]
    for name in chosen:
        left = options.budget - (time.perf_counter() - started)
        later = any(after in chosen for after in list(LIMITS)[list(LIMITS).index(name) + 1 :])
        limit = min(LIMITS[name], left - (_RESERVE if name == "train" and later and not options.smoke else 5))
        if limit < _SHORTEST:
            _write(work, name, {"state": "skipped", "reason": f"{left:.0f} s of the budget are left"})
        else:
            print(f"== {name}: at most {limit:.0f} s; {left:.0f} s of the budget are left", flush=True)
            begun = time.perf_counter()
            state = _run(name, limit, options, work)
            seconds = round(time.perf_counter() - begun, 1)
            _write(work, name, {**_read(work, name), "state": state, "seconds": seconds})
        found = {each: _read(work, each) for each in LIMITS if _path(work, each).exists()}
        (out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return _summarise(work, chosen, out)


def errors(found: Any, path: str = "") -> Iterator[str]:
    """All errors in the findings of a section or of all sections: "where: error"."""
    if not isinstance(found, dict):
        return
    for key, value in found.items():
        place = f"{path} / {key}" if path else str(key)
        if key == "error" or (key == "state" and value not in ("done", "skipped")):
            yield f"{path}: {value}"
        else:
            yield from errors(value, place)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Check lpaint on a GPU and measure it.")
    parser.add_argument("--faces", type=Path, help="CelebA's archive or folder; without it, synthetic pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json")
    parser.add_argument("--budget", type=float, default=540, help="seconds for all sections (default: 540)")
    parser.add_argument("--only", nargs="+", choices=list(LIMITS), metavar="SECTION", help="run these sections only")
    parser.add_argument("--keep", action="store_true", help="keep data, models and findings of the call before")
    parser.add_argument("--smoke", action="store_true", help="smallest sizes, for a trial without a GPU")
    parser.add_argument("--work", type=Path, default=ROOT / "build/gpu-work", help="folder for data and models")
    parser.add_argument("--ort-site", type=Path, help="folder with another onnxruntime, for the section ort only")
    options = parser.parse_args()
    if not options.budget > 0:
        parser.error(f"--budget {options.budget:g}: give the seconds for all sections, above 0")
    for name in ("faces", "ort_site"):
        path = getattr(options, name)
        if path is not None and not path.exists():
            parser.error(f"--{name.replace('_', '-')} {path}: there is no such file or folder")
    return options


def _run(name: str, limit: float, options: argparse.Namespace, work: Path) -> str:
    """Run a section in the folder ``work``; returns ``done`` or how it ended."""
    job = {
        "work": str(work),
        "faces": str(options.faces.resolve()) if options.faces else "",
        "smoke": options.smoke,
        "seconds": max(5, limit - _TRAIN_MARGIN),
    }
    # Resume folders and caches of the caller's repository are not used.
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_"))}
    paths = [str(ROOT / "pipeline"), str(ROOT), variables.get("PYTHONPATH", "")]
    if name == "ort" and options.ort_site:
        paths.insert(0, str(options.ort_site.resolve()))
    variables["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    command = [sys.executable, "-m", "benchmarks.gpu_sections", name, json.dumps(job)]
    child = subprocess.Popen(command, cwd=work, env=variables, start_new_session=True)
    try:
        code = child.wait(limit)
    except subprocess.TimeoutExpired:
        return f"stopped at its limit of {limit:.0f} s"
    finally:
        _end(child)
    return "done" if code == 0 else f"failed with exit code {code}"


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a section's process and those that it started."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
    else:
        child.kill()
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        print(f"process {child.pid} does not end; it may wait for the GPU's driver", file=sys.stderr)


def _path(work: Path, name: str) -> Path:
    return work / "findings" / f"{name}.json"


def _read(work: Path, name: str) -> dict[str, Any]:
    path = _path(work, name)
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _write(work: Path, name: str, found: dict[str, Any]) -> None:
    path = _path(work, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1), encoding="utf-8")


def _summarise(work: Path, chosen: list[str], out: Path) -> int:
    problems = []
    for name in chosen:
        found = _read(work, name)
        print(f"{name:<9} {found.get('seconds', '-'):>7} s  {found['state']}")
        problems += list(errors(found, name))
    print("\n".join(["", *(f"error: {problem}" for problem in problems), f"findings: {out / 'gpu.json'}"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
