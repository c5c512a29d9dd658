"""Stage: note what the data source holds, in data/source.json, so that a changed archive re-runs the preparation."""

import sys
from pathlib import Path

from lpaint.data.prepare import source_digest
from lpaint.errors import LpaintError
from lpaint.files import write_json
from lpaint.params import load_params

OUT = Path("data/source.json")


def main() -> None:
    try:
        params = load_params()
        write_json(OUT, {"source": params.data.source, "digest": source_digest(params)})
    except LpaintError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
