"""The tracker protocol, independent of the backend."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

# Prefix of the evaluation's metrics on the validation split. Training logs its own as `validation/...`.
FINAL_VALIDATION = "validation_final"


class Tracker(Protocol):
    """Logs a stage's run."""

    run_id: str

    def resume_from(self, directory: Path) -> None:
        """Continue the run whose id is in ``directory``/run_id, if there is one; else write this run's id there."""
        ...

    def log_params(self, params: dict[str, Any]) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int = 0) -> None: ...

    def log_image(self, name: str, image: np.ndarray, step: int | None = None) -> None:
        """Log a uint8 [H, W, 3] image."""
        ...

    def log_artifact(self, path: Path, folder: str = "") -> None: ...

    def set_tags(self, tags: dict[str, str]) -> None: ...

    def log_onnx_model(self, path: Path, name: str, register: bool) -> None:
        """Log an ONNX file as a model that mlflow.pyfunc can load; ``register`` adds it to the model registry."""
        ...

    def for_run(self, run_id: str | None) -> "Tracker":
        """A tracker that adds to another, finished run; a ``NullTracker`` if ``run_id`` is None."""
        ...


class NullTracker:
    """Discards everything."""

    run_id = ""

    def resume_from(self, directory: Path) -> None: ...

    def log_params(self, params: dict[str, Any]) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int = 0) -> None: ...

    def log_image(self, name: str, image: np.ndarray, step: int | None = None) -> None: ...

    def log_artifact(self, path: Path, folder: str = "") -> None: ...

    def set_tags(self, tags: dict[str, str]) -> None: ...

    def log_onnx_model(self, path: Path, name: str, register: bool) -> None: ...

    def for_run(self, run_id: str | None) -> Tracker:
        return self
