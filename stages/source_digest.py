"""Stage: note what the data source holds, in data/source.json, so that a changed archive re-runs the preparation."""

import json
import sys
from pathlib import Path

from lpaint.data.prepare import source_digest
from lpaint.errors import LpaintError
from lpaint.files import write_text
from lpaint.params import Params, load_params

OUT = Path("data/source.json")


def note(params: Params, out: Path) -> bool:
    """Write the source's digest to ``out``; True if that changed it. An unchanged file is left untouched."""
    text = json.dumps({"source": params.data.source, "digest": source_digest(params)}, indent=2) + "\n"
    if out.is_file() and out.read_text(encoding="utf-8") == text:
        return False
    write_text(out, text)
    return True


def main() -> None:
    try:
        params = load_params()
        changed = note(params, OUT)
    except LpaintError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    print(f"data source {params.data.source}: {'noted' if changed else 'unchanged'}")


if __name__ == "__main__":
    main()
