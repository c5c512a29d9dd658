"""``lpaint bench prepare``: images decoded and packed per second, against one core."""

import io
import time
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from lpaint.bench.timing import Report
from lpaint.data import synthetic
from lpaint.data.decode import decode, fit_to_square
from lpaint.data.packing import worker_count
from lpaint.data.prepare import prepare
from lpaint.runtime.params import Params

# Size of CelebA's aligned images, pixels.
_WIDTH, _HEIGHT = 178, 218
_DRAWN = 64


def bench_preparation(params: Params, count: int) -> Report:
    """Prepare an archive of ``count`` synthetic JPEGs of CelebA's size, and decode as many on one core."""
    size, fit = params.data.size, params.data.fit
    jpegs = [_jpeg(index) for index in range(min(count, _DRAWN))]
    started = time.perf_counter()
    for index in range(count):
        fit_to_square(decode(jpegs[index % len(jpegs)], size).image, size, fit)
    single = count / (time.perf_counter() - started)
    with TemporaryDirectory() as folder:
        archive = Path(folder) / "img_align_celeba.zip"
        with zipfile.ZipFile(archive, "w") as file:
            for index in range(count):
                file.writestr(f"img_align_celeba/{index + 1:06d}.jpg", jpegs[index % len(jpegs)])
        data = params.data.model_copy(update={"source": "celeba", "path": str(archive), "limit": 0})
        started = time.perf_counter()
        prepare(params.model_copy(update={"data": data}), Path(folder) / "prepared", progress=False)
        together = count / (time.perf_counter() - started)
    workers = worker_count(params.data)
    report = Report("prepare", {"pictures": count, "from": f"{_WIDTH} x {_HEIGHT}", "to": size, "workers": workers})
    report.add("decoded and reduced on one core", single, "/s")
    report.add("prepared, start of the workers included", together, "/s")
    report.add("share of one core times the workers", together / (single * workers), "")
    return report


def _jpeg(index: int) -> bytes:
    stream = io.BytesIO()
    synthetic.draw(0, index, _HEIGHT).resize((_WIDTH, _HEIGHT)).save(stream, "JPEG", quality=90)
    return stream.getvalue()
