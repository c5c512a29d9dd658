"""Pictures that lpaint draws itself."""

from lpaint.data import synthetic
from lpaint.data.decode import Picture
from lpaint.data.sources.base import Source, sha256


class Synthetic(Source):
    """Our own generator; entry n is picture n of the seed."""

    def __init__(self, seed: int, count: int) -> None:
        self.seed, self.count = seed, count

    def names(self) -> list[str]:
        """synthetic/000000 and so on."""
        return [f"synthetic/{index:06d}" for index in range(self.count)]

    def load(self, name: str, size: int) -> Picture:
        """See ``Loader``."""
        return Picture(synthetic.draw(self.seed, int(name.rsplit("/", 1)[1]), size), size, size)

    def digest(self) -> str:
        """Of the generator's version and the seed."""
        return sha256(f"{synthetic.VERSION} {self.seed} {self.count}")
