"""Where a stage reports to, whatever keeps it."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

# Begins the names of what the evaluation measured on the validation split. During training `validation/...` is logged.
FINAL_VALIDATION = "validation_final"


class Tracker(Protocol):
    """Where a stage reports to."""

    run_id: str

    def resume_from(self, directory: Path) -> None:
        """Go on in the run named by ``directory``/run_id if there is one; else remember this run there."""
        ...

    def log_params(self, params: dict[str, Any]) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int = 0) -> None: ...

    def log_image(self, name: str, image: np.ndarray, step: int | None = None) -> None:
        """A uint8 [H, W, 3] picture."""
        ...

    def log_artifact(self, path: Path, folder: str = "") -> None: ...

    def set_tags(self, tags: dict[str, str]) -> None: ...

    def log_onnx_model(self, path: Path, name: str, register: bool) -> None:
        """An ONNX file as a model of the run, loadable by mlflow.pyfunc; registered if asked for."""
        ...

    def for_run(self, run_id: str | None) -> "Tracker":
        """A tracker that adds to another, finished run; one that drops everything if ``run_id`` is None."""
        ...


class NullTracker:
    """Drops everything."""

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
