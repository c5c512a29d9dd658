"""Stage: export to ONNX.

Writes exports/{actor,outline,rasteriser,renderer}.onnx, exports/parity.json and exports/MODEL_CARD.md.
"""

import json
from pathlib import Path

from lpaint.agent.torch_model import load_actor
from lpaint.export.modelcard import model_card
from lpaint.export.onnx import (
    MODELS,
    actor_metadata,
    export_actor,
    export_outline,
    export_rasteriser,
    export_renderer,
    parity_report,
)
from lpaint.files import write_json, write_text
from lpaint.renderer.networks import load_renderer
from lpaint.runtime.params import Params
from lpaint.runtime.provenance import find_producing_run, git_commit
from lpaint.strokes import get_family
from lpaint.tracking import Tracker
from stages.runner import run_stage

ACTOR = Path("models/actor.safetensors")
RENDERER = Path("models/renderer.safetensors")
EVALUATION = Path("reports/evaluation.json")
OUT = Path("exports")


def run(params: Params, tracker: Tracker) -> None:
    """Export the trained actor and its renderers; see the module's text for the outputs."""
    actor, settings = load_actor(ACTOR)
    renderer = load_renderer(RENDERER)
    family = get_family(settings["family"])
    run_id = find_producing_run(ACTOR)
    opset = params.export.opset
    export_rasteriser(family, OUT / "rasteriser.onnx", opset)
    export_outline(family, OUT / "outline.onnx", opset)
    export_renderer(renderer, family, OUT / "renderer.onnx", opset)
    metadata = actor_metadata(settings, family, git_commit(), run_id or "")
    half = params.export.precision == "fp16"
    export_actor(actor, OUT / "actor.onnx", opset, metadata, OUT / "rasteriser.onnx", OUT / "outline.onnx", half)
    report = parity_report(actor, renderer, family, OUT, half)
    write_json(OUT / "parity.json", report)
    evaluation = json.loads(EVALUATION.read_text(encoding="utf-8"))
    write_text(OUT / "MODEL_CARD.md", model_card(settings, evaluation, report))
    agent_run = tracker.for_run(run_id)
    worst = {f"export/parity_{name}": max(report[name].values()) for name in MODELS}
    for tracked in (tracker, agent_run):
        tracked.log_metrics(worst)
        tracked.log_artifact(OUT / "parity.json")
        tracked.log_artifact(OUT / "MODEL_CARD.md")
    agent_run.log_onnx_model(OUT / "actor.onnx", "actor", params.export.register_model)
    megabytes = (OUT / "actor.onnx").stat().st_size / 1e6
    print(f"actor {megabytes:.1f} MB; largest difference from torch {max(worst.values()):.1g}")
    print(f"try: lpaint paint YOUR_PICTURE.jpg --onnx {OUT / 'actor.onnx'}")


def main() -> None:
    run_stage("export_onnx", run)


if __name__ == "__main__":
    main()
