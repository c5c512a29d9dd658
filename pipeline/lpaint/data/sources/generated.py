"""Images that lpaint generates."""

from lpaint.data import synthetic
from lpaint.data.decode import DecodedImage
from lpaint.data.sources.base import Source, sha256


class Synthetic(Source):
    """``lpaint.data.synthetic``; entry n is image n of the seed."""

    def __init__(self, seed: int, count: int) -> None:
        self.seed, self.count = seed, count

    def names(self) -> list[str]:
        """synthetic/000000 and so on."""
        return [f"synthetic/{index:06d}" for index in range(self.count)]

    def load(self, name: str, size: int) -> DecodedImage:
        return DecodedImage(synthetic.draw(self.seed, int(name.rsplit("/", 1)[1]), size), size, size)

    def fingerprint(self) -> str:
        """Digest of the generator's version, the seed and the number of images."""
        return sha256(f"{synthetic.VERSION} {self.seed} {self.count}")
