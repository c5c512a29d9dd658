"""Stage: note what the data source holds, in data/source.json, so that a changed archive re-runs the preparation.

DVC compares the files of a stage's ``deps``, but an archive cannot be one: its path is a parameter, empty for
synthetic pictures and relative to a root that queued experiments do not run in. So the stage depends on a folder that
is always there, and links into it the archive or the few files that the source is made of.
"""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from lpaint.data.sources import open_source
from lpaint.errors import DataError, LpaintError
from lpaint.files import write_text
from lpaint.runtime.params import Params, load_params
from lpaint.runtime.paths import repository_root

OUT = Path("data/source.json")
WATCH = Path("data/watch")


def note(params: Params, out: Path) -> None:
    """Write the source's kind and digest to ``out``."""
    write_text(
        out, json.dumps({"source": params.data.source, "digest": open_source(params).fingerprint()}, indent=2) + "\n"
    )


def watch(params: Params, folder: Path) -> None:
    """Leave in ``folder`` links to the files of ``params.data``; none where the source has no such files."""
    for link in folder.iterdir():
        if link.is_symlink():
            link.unlink()
    with suppress(DataError):  # which ``note`` tells
        for file in open_source(params).watched_files():
            (folder / file.name).symlink_to(_from(folder.resolve(), file))


def _from(folder: Path, file: Path) -> Path:
    """What a link in ``folder`` to a file holds: within the repository relative, so that both can move together."""
    return Path(os.path.relpath(file, folder)) if file.is_relative_to(repository_root()) else file


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
