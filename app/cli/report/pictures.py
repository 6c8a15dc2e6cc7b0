"""The pictures of an evaluated folder, small, to be shown inside a page. Names come from an answer and are not trusted."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from app.core.preprocess import Limits, decode
from app.errors import BadInput, ReidError
from app.service.datasets import GALLERY, QUERY, find_data_set

HEIGHT, WIDTH = 128, 64  # pixels; half of what the model sees
_QUALITY = 80  # of JPEG: about 2 kB a picture


@dataclass(frozen=True, slots=True)
class Pictures:
    """What lies in `query/` and `bounding_box_test/` of the folder that was evaluated; nothing where there was none."""

    root: Path | None

    @classmethod
    def of(cls, folder: Path | None) -> "Pictures":
        """Of this folder, or of the one below it that holds both splits, as the evaluation itself finds them."""
        if folder is None:
            return cls(None)
        try:
            return cls(find_data_set(str(folder), [folder.resolve()]))
        except BadInput:  # a folder that only the server has
            return cls(None)

    def query(self, name: str | None) -> str | None:
        """The picture as a `data:` address; None where there is none to show."""
        return self._of(QUERY, name)

    def gallery(self, name: str | None) -> str | None:
        """Likewise, of the gallery."""
        return self._of(GALLERY, name)

    def _of(self, split: str, name: str | None) -> str | None:
        if self.root is None or not name or not _is_plain(name):
            return None
        path = self.root / split / name
        try:
            # As in an evaluation, a link is not followed: it may lead to what is not the caller's to show.
            if path.is_symlink() or not path.is_file():
                return None
            with path.open("rb") as file:
                return _small(file.read(Limits().max_bytes + 1), name)
        except (OSError, ReidError):
            return None


def _is_plain(name: str) -> bool:
    return "\0" not in name and "\\" not in name and name not in (".", "..") and Path(name).name == name


def _small(data: bytes, name: str) -> str:
    """As the model sees it, at half the size. Raises BadImage, TooLarge."""
    small = Image.fromarray(decode(data, name)).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    small.save(written, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode('ascii')}"
