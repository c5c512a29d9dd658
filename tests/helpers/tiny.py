"""The whole method at the smallest size that still is the method, for tests that run it."""

import io
import os
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from lpaint.runtime.artifacts import ACTOR_WEIGHTS, EVALUATION_REPORT, PREPARED_SUMMARY, RENDERER_WEIGHTS
from lpaint.runtime.params import Params, load_params, merge_values, parse_params
from lpaint.tracking import NullTracker
from stages import evaluate, export_onnx, prepare, pretrain_renderer, train_agent
from stages.runner import run_tracked

ROOT = Path(__file__).parents[2]
OVERLAY: dict[str, Any] = {
    "base": {"threads": 1, "compile": "off", "precision": "fp32", "device": "cpu"},
    "data": {"limit": 40, "size": 32, "workers": 1},
    "stroke": {"canvas": 16},
    "renderer": {
        "updates": 40,
        "batch_size": 8,
        "validate_every": 10,
        "validation_strokes": 16,
        "checkpoint_every": 10,
    },
    "agent": {
        "zoom": [1, 2],
        "max_steps": 3,
        "bundle": 2,
        "updates": 16,
        "updates_per_round": 4,
        "batch_size": 8,
        "environments": 4,
        "replay_rounds": 3,
        "actor": {"width": 4},
        "critic": {"width": 4},
        "discriminator": {"width": 4, "warmup_updates": 2},
        "validation": {"every": 4, "images": 2, "strokes": 12},
        "checkpoint_every": 4,
        "curriculum": {"share": 0.0},
    },
    "evaluate": {"images": 2, "strokes": [6, 20], "timelapses": 1},
}


def tiny_values(**overlay: Any) -> dict[str, Any]:
    """The committed parameters with OVERLAY and ``overlay`` (nested mappings) merged into them."""
    values = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for layer in (OVERLAY, overlay):
        merge_values(values, layer)
    return values


def tiny_params(**overlay: Any) -> Params:
    """``tiny_values``, validated."""
    return parse_params(tiny_values(**overlay), "tiny")


def write_params(root: Path, **overlay: Any) -> None:
    """``tiny_values`` as ``root``/params.yaml."""
    text = io.StringIO()
    YAML().dump(tiny_values(**overlay), text)
    (root / "params.yaml").write_text(text.getvalue(), encoding="utf-8")


def run_chain(root: Path, tracked: bool = True, **overlay: Any) -> None:
    """Run all five stages in ``root``, tracked as in earnest or not at all."""
    write_params(root, **overlay)
    before = Path.cwd()
    os.chdir(root)
    try:
        if not tracked:
            for stage in (prepare, pretrain_renderer, train_agent, evaluate, export_onnx):
                stage.run(load_params(), NullTracker())
            return
        run_tracked("prepare", prepare.run, [PREPARED_SUMMARY])
        run_tracked("pretrain_renderer", pretrain_renderer.run, [RENDERER_WEIGHTS])
        run_tracked("train_agent", train_agent.run, [ACTOR_WEIGHTS])
        run_tracked("evaluate", evaluate.run, [EVALUATION_REPORT])
        run_tracked("export_onnx", export_onnx.run)
    finally:
        os.chdir(before)
