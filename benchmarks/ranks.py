"""Seconds per update by number of processes, episodes included: `python benchmarks/ranks.py`, on synthetic portraits.

Each way (processes x threads) trains the default agent, or that of a profile, on a canvas of full size. Ways take
turns, so that a busy moment of the machine affects all of them. Writes a report, NAME.json, and its table,
NAME.table.md.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from lpaint.bench.timing import describe_machine
from lpaint.files import write_json, write_text
from lpaint.runtime.params import merge_values

ROOT = Path(__file__).parents[1]
PORTRAITS = 200


def main(
    ways: Annotated[str, typer.Option(help="PROCESSESxTHREADS, comma-separated.")] = "1x2,2x1",
    profile: Annotated[str, typer.Option(help="Profile of the agent; its data are not used.  [default: none]")] = "",
    rounds: Annotated[int, typer.Option(min=3, help="Rounds per turn; the first is not timed.")] = 5,
    turns: Annotated[int, typer.Option(min=1, help="Turns per way.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = ROOT / "docs/study",
    report_name: Annotated[str, typer.Option("--name", help="Name of the report.")] = "ranks",
) -> None:
    """Time all ways."""
    seconds: dict[str, list[float]] = {way: [] for way in ways.split(",")}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(turns):
            for way, times in seconds.items():
                processes, threads = map(int, way.split("x"))
                times += _train(Path(folder), profile, processes, threads, rounds)
                print(f"turn {turn + 1}, {way}: {statistics.median(times):.3f} s an update so far", flush=True)
    rows = {way: _summary(times) for way, times in seconds.items()}
    cores = len(os.sched_getaffinity(0))
    report = {"profile": profile or "default", "cores": cores, "machine": describe_machine(), "ways": rows}
    write_json(out / f"{report_name}.json", report)
    write_text(out / f"{report_name}.table.md", table(report))


def _summary(times: list[float]) -> dict[str, float]:
    low, _, high = statistics.quantiles(times, n=4)
    return {"rounds": len(times), "seconds": statistics.median(times), "low": low, "high": high}


def _train(root: Path, profile: str, processes: int, threads: int, rounds: int) -> list[float]:
    """Seconds per update of each timed round of one training."""
    values = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    if profile:
        overlay = YAML(typ="safe").load((ROOT / f"profiles/{profile}.yaml").read_text(encoding="utf-8"))
        merge_values(values["agent"], overlay.get("agent", {}))
        values["stroke"] |= overlay.get("stroke", {})
    # Synthetic data, so that every profile can be timed anywhere.
    values["data"] |= {"source": "synthetic", "limit": PORTRAITS}
    values["base"] |= {"tracking": "jsonl", "threads": threads}
    agent = values["agent"]
    agent |= {"updates": rounds * agent["updates_per_round"], "processes": processes}
    agent["validation"] |= {"every": 10**6, "images": 1, "strokes": 5}
    agent["curriculum"]["share"] = 0.0
    agent["discriminator"]["warmup_updates"] = 1
    agent["checkpoint_every"] = 10**6
    with (root / "params.yaml").open("w", encoding="utf-8") as stream:
        YAML().dump(values, stream)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "pipeline"), str(ROOT)])}
    for stage in ("prepare", "pretrain_renderer") if agent["renderer"] == "neural" else ("prepare",):
        if not (root / ".done" / stage).exists():
            subprocess.run([sys.executable, "-m", f"stages.{stage}"], cwd=root, env=environment, check=True)
            (root / ".done" / stage).mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "stages.train_agent"], cwd=root, env=environment, check=True)
    (run,) = (root / ".lpaint/tracking").glob("train_agent-*.jsonl")
    events = [json.loads(line) for line in run.read_text(encoding="utf-8").splitlines()]
    run.unlink()
    speeds = [event["values"].get("charts/updates_per_second") for event in events if event["event"] == "metrics"]
    return [1 / speed for speed in speeds if speed][1:]


def table(report: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    lines = ["| processes x threads | timed rounds | seconds an update, median (quartiles) |", "|---|---|---|"]
    for way, row in report["ways"].items():
        lines.append(f"| {way} | {row['rounds']} | {row['seconds']:.3f} ({row['low']:.3f} to {row['high']:.3f}) |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
