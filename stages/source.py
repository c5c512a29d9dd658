"""Stage: note what the data source holds, in data/source.json, so that a changed archive re-runs the preparation.

DVC compares the files of a stage's ``deps``, but the archive cannot be one: its path is a parameter, empty for
synthetic pictures and relative to a root that queued experiments do not run in. So the stage depends on a folder that
is always there, and links the archive into it.
"""

import json
import sys
from pathlib import Path

from lpaint.data.prepare import source_digest
from lpaint.errors import LpaintError
from lpaint.files import write_text
from lpaint.params import Params, load_params
from lpaint.paths import resolve_data_path

OUT = Path("data/source.json")
WATCH = Path("data/watch")


def note(params: Params, out: Path) -> None:
    """Write the source's kind and digest to ``out``."""
    write_text(out, json.dumps({"source": params.data.source, "digest": source_digest(params)}, indent=2) + "\n")


def watch(params: Params, folder: Path) -> None:
    """Leave in ``folder`` one link, to the archive of ``params.data``; none where the source is no archive."""
    for link in folder.iterdir():
        if link.is_symlink():
            link.unlink()
    if params.data.source == "celeba":
        archive = resolve_data_path(params.data.path)
        if archive.is_file():
            (folder / archive.name).symlink_to(archive)


def main() -> None:
    try:
        params = load_params()
        watch(params, WATCH)
        note(params, OUT)
    except LpaintError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
