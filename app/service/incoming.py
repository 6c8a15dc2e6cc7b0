"""What comes in to be indexed, and the item that each becomes: what the caller said, what its name says, its content's hash."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

import numpy as np

from app.core.preprocess import Crop
from app.core.records import Item, Label, NamePattern, check_texts, is_junk
from app.core.vectors import fault
from app.errors import BadField, BadInput, ReidError
from app.ports import Floats
from app.service.embed import Upload


@dataclass(frozen=True, slots=True)
class Description:
    """What the caller says of a crop. What is None is read off the name where a pattern is given."""

    id: str | None = None
    person_id: str | None = None
    camera_id: str | None = None
    captured_at: datetime | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewCrop:
    """An encoded crop on its way in."""

    upload: Upload
    description: Description = Description()

    @property
    def name(self) -> str:
        """By which a refusal speaks of it."""
        return self.upload.name

    @property
    def size(self) -> int:
        """Bytes that it holds in memory."""
        return len(self.upload.data)


@dataclass(frozen=True, slots=True)
class NewPixels:
    """A crop that was decoded and resized elsewhere, uint8 [256, 128, 3]. Its hash is that of these bytes."""

    name: str
    pixels: Crop
    source: str | None = None
    description: Description = Description()

    @property
    def size(self) -> int:
        """Bytes that it holds in memory."""
        return self.pixels.nbytes


@dataclass(frozen=True, slots=True)
class NewVector:
    """A crop's raw vector on its way in, float32 [n], or why it cannot be read. The crop itself stays where it is."""

    name: str  # by which a refusal speaks of it
    vector: Floats | BadInput
    source: str | None = None
    description: Description = Description()

    @property
    def size(self) -> int:
        """Bytes that it holds in memory."""
        return 0 if isinstance(self.vector, BadInput) else self.vector.nbytes


@dataclass(frozen=True, slots=True)
class Unusable:
    """Something that came and is no crop; its refusal takes its place among the results."""

    name: str
    error: ReidError
    size: int = 0


New = NewCrop | NewPixels | NewVector | Unusable


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one crop; `error` says why it was refused."""

    name: str
    id: str | None
    status: Literal["added", "unchanged", "updated", "refused"]
    error: ReidError | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How crops become items. otherwise: what is said of a crop of which neither its description nor its name says it.

    fingerprint: of the model that made the vectors, where vectors come.
    """

    pattern: NamePattern | None = None
    otherwise: Description = Description()
    fingerprint: str | None = None

    def item(self, new: New, dim: int) -> Item | ReidError:
        """The item to be, or the refusal; its id is the caller's or the content's hash. Hashes all bytes."""
        match new:
            case Unusable():
                return new.error
            case NewCrop():
                return self._item(new.description, new.name, new.name, new.upload.data)
            case NewPixels():
                return self._item(new.description, new.name, new.source, np.ascontiguousarray(new.pixels).data)
            case NewVector(vector=BadInput() as error):
                return error
            case NewVector():
                return self._vector_item(new, dim)

    def _vector_item(self, new: NewVector, dim: int) -> Item | ReidError:
        assert not isinstance(new.vector, BadInput)
        if self.fingerprint is None:
            return BadField("fingerprint", f"{new.name}: a vector needs the fingerprint of the model that made it")
        if why := fault(new.vector, dim):
            return BadInput(f"{new.name}: {why}")
        return self._item(new.description, new.name, new.source, new.vector.astype("<f4").tobytes())

    def _item(self, said: Description, name: str, source: str | None, content: bytes | memoryview) -> Item | ReidError:
        label = self._label(said, name)
        if isinstance(label, ReidError):
            return label
        sha256, otherwise = hashlib.sha256(content).hexdigest(), self.otherwise
        item = Item(
            id=said.id or sha256,
            sha256=sha256,
            person_id=said.person_id or (label and label.person_id) or otherwise.person_id,
            camera_id=said.camera_id or (label and label.camera_id) or otherwise.camera_id,
            captured_at=said.captured_at or otherwise.captured_at,
            source=source,
            attributes=dict(said.attributes or otherwise.attributes),
        )
        try:
            check_texts(item)
        except BadField as error:
            return error
        return item

    def _label(self, said: Description, name: str) -> Label | BadInput | None:
        """What the name says, where a pattern was given and the caller has not said it all."""
        if self.pattern is None or (said.person_id is not None and said.camera_id is not None):
            return None
        label = self.pattern.read(name.rpartition("/")[2])
        if label is None:
            return BadInput(f"{name}: the name does not fit the pattern")
        if is_junk(label.person_id):
            return BadInput(f"{name}: junk by its name (person {label.person_id})")
        return label


def completed(item: Item, new: New, stored: Item | None) -> Item:
    """The same content sent again without an id keeps what is known of it where nothing new is said."""
    if stored is None or isinstance(new, Unusable) or new.description.id is not None:
        return item
    return replace(
        item,
        person_id=item.person_id or stored.person_id,
        camera_id=item.camera_id or stored.camera_id,
        captured_at=item.captured_at or stored.captured_at,
        attributes=item.attributes or stored.attributes,
        source=stored.source,
    )
