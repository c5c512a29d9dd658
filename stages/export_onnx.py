"""Stage: export to ONNX.

Writes exports/{actor,outline,rasteriser,renderer}.onnx, exports/parity.json and exports/MODEL_CARD.md.
"""

import json

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
from lpaint.runtime.artifacts import (
    ACTOR_ONNX,
    ACTOR_WEIGHTS,
    EVALUATION_REPORT,
    EXPORTS,
    MODEL_CARD,
    OUTLINE_ONNX,
    PARITY_REPORT,
    RASTERISER_ONNX,
    RENDERER_ONNX,
    RENDERER_WEIGHTS,
)
from lpaint.runtime.params import Params
from lpaint.runtime.provenance import find_producing_run, git_commit
from lpaint.strokes import get_family
from lpaint.tracking import Tracker
from stages.runner import run_stage


def run(params: Params, tracker: Tracker) -> None:
    """Export the trained actor, its rasteriser and outline, and the neural renderer."""
    actor, spec = load_actor(ACTOR_WEIGHTS)
    renderer = load_renderer(RENDERER_WEIGHTS)
    family = get_family(spec.family)
    run_id = find_producing_run(ACTOR_WEIGHTS)
    opset = params.export.opset
    export_rasteriser(family, RASTERISER_ONNX, opset)
    export_outline(family, OUTLINE_ONNX, opset)
    export_renderer(renderer, family, RENDERER_ONNX, opset)
    metadata = actor_metadata(spec, family, git_commit(), run_id or "")
    half = params.export.precision == "fp16"
    export_actor(actor, ACTOR_ONNX, opset, metadata, RASTERISER_ONNX, OUTLINE_ONNX, half)
    report = parity_report(actor, renderer, family, EXPORTS, half)
    write_json(PARITY_REPORT, report)
    evaluation = json.loads(EVALUATION_REPORT.read_text(encoding="utf-8"))
    write_text(MODEL_CARD, model_card(spec, evaluation, report))
    agent_run = tracker.for_run(run_id)
    worst = {f"export/parity_{name}": max(report[name].values()) for name in MODELS}
    for tracked in (tracker, agent_run):
        tracked.log_metrics(worst)
        tracked.log_artifact(PARITY_REPORT)
        tracked.log_artifact(MODEL_CARD)
    agent_run.log_onnx_model(ACTOR_ONNX, "actor", params.export.register_model)
    megabytes = ACTOR_ONNX.stat().st_size / 1e6
    print(f"actor {megabytes:.1f} MB; largest difference from torch {max(worst.values()):.1g}")
    print(f"try: lpaint paint YOUR_PICTURE.jpg --onnx {ACTOR_ONNX}")


def main() -> None:
    run_stage("export_onnx", run)


if __name__ == "__main__":
    main()
