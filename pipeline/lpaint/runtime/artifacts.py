"""Paths of the files that stages write and read, relative to the folder in which a stage runs.

dvc.yaml names the same paths.
"""

from pathlib import Path

SOURCE = Path("data/source.json")
WATCHED_SOURCE = Path("data/watch")

PREPARED_DATA = Path("data/prepared")
PREPARED_SUMMARY = PREPARED_DATA / "summary.json"

MODELS = Path("models")
RENDERER_WEIGHTS = MODELS / "renderer.safetensors"
RENDERER_REPORT = Path("reports/renderer.json")
RENDERER_FIGURES = Path("reports/renderer")

ACTOR_WEIGHTS = MODELS / "actor.safetensors"
TRAINING_REPORT = Path("reports/training.json")
TRAINING_FIGURES = Path("reports/training")

EVALUATION_REPORT = Path("reports/evaluation.json")
EVALUATION_FIGURES = Path("reports/evaluation")

EXPORTS = Path("exports")
ACTOR_ONNX = EXPORTS / "actor.onnx"
RASTERISER_ONNX = EXPORTS / "rasteriser.onnx"
OUTLINE_ONNX = EXPORTS / "outline.onnx"
RENDERER_ONNX = EXPORTS / "renderer.onnx"
PARITY_REPORT = EXPORTS / "parity.json"
MODEL_CARD = EXPORTS / "MODEL_CARD.md"

# Every folder that a stage writes to, as glob patterns.
OUTPUT_FOLDERS = ("data", str(PREPARED_DATA), str(MODELS), "reports", "reports/*", str(EXPORTS))


def rasteriser_record(kind: str) -> Path:
    """The file by which train_agent depends on the ``exact`` or ``neural`` rasteriser.

    The neural one's changes with the renderer's weights.
    """
    return MODELS / f"rasteriser.{kind}.json"
