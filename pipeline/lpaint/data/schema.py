"""Schema of ``manifest.parquet``."""

import pandas as pd
import pandera.pandas as pa

from lpaint.errors import DataError, one_line

SPLITS = ("train", "validation", "test")

MANIFEST = pa.DataFrameSchema(
    {
        "index": pa.Column("int64", pa.Check.ge(-1)),
        "name": pa.Column(str, pa.Check.str_length(min_value=1), unique=True),
        "split": pa.Column(str, pa.Check.isin([*SPLITS, ""])),
        "ok": pa.Column(bool),
        "reason": pa.Column(str),
        "width": pa.Column("int64", pa.Check.ge(0)),
        "height": pa.Column("int64", pa.Check.ge(0)),
    },
    checks=[
        pa.Check(lambda table: (table["ok"] == (table["index"] >= 0)).all(), error="ok and index disagree"),
        pa.Check(lambda table: (table["ok"] == (table["reason"] == "")).all(), error="ok and reason disagree"),
        pa.Check(lambda table: table.loc[table["ok"], "index"].is_unique, error="two images share an index"),
        pa.Check(lambda table: table["index"].max() < table["ok"].sum(), error="an index is beyond the images"),
    ],
    strict=True,
    ordered=True,
)
"""One row per source entry. ``index``: row in images.npy, -1 if unreadable; ``reason``: the error, empty if readable;
``width`` and ``height``: of the original in pixels, 0 if unknown."""


def check_manifest(table: pd.DataFrame, origin: str) -> pd.DataFrame:
    """Return the table if it fits the schema.

    Raises:
        DataError: with the column and the check that fails.
    """
    try:
        return MANIFEST.validate(table)
    except (pa.errors.SchemaError, pa.errors.SchemaErrors) as error:
        reason = one_line(error)
        raise DataError(
            f"{origin}: the manifest is not as it should be ({reason}); run `dvc repro -f prepare`"
        ) from None
