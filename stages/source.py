"""Stage: write the digest of the data source to data/source.json, so that a changed archive re-runs the preparation.

DVC compares the files of a stage's ``deps``. An archive cannot be one: its path is a parameter, which is empty for
synthetic images, and relative to a root in which queued experiments do not run. So the stage depends on the folder
data/watch, which always exists, and writes links to the source's files into it.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

from lpaint.data.sources import open_source
from lpaint.errors import DataError, LpaintError
from lpaint.files import write_json
from lpaint.runtime.artifacts import SOURCE, WATCHED_SOURCE
from lpaint.runtime.params import Params, load_params
from lpaint.runtime.paths import repository_root


def write_digest(params: Params, out: Path) -> None:
    """Write the source's kind and digest to ``out``."""
    write_json(out, {"source": params.data.source, "digest": open_source(params).fingerprint()})


def link_files(params: Params, folder: Path) -> None:
    """Replace the links in ``folder`` by links to the files of ``params.data``, if it has any."""
    for link in folder.iterdir():
        if link.is_symlink():
            link.unlink()
    with suppress(DataError):  # ``write_digest`` reports it.
        for file in open_source(params).watched_files():
            (folder / file.name).symlink_to(_link_target(folder.resolve(), file))


def _link_target(folder: Path, file: Path) -> Path:
    """The path for a link in ``folder`` to ``file``: relative within the repository, so that both can move together."""
    return Path(os.path.relpath(file, folder)) if file.is_relative_to(repository_root()) else file


def main() -> None:
    try:
        params = load_params()
        link_files(params, WATCHED_SOURCE)
        write_digest(params, SOURCE)
    except LpaintError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
