"""The model that makes the vectors."""

from dataclasses import dataclass

from app.core.manifest import ModelManifest


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What is loaded, and how it runs."""

    fingerprint: str
    variant: str
    batch_size: int | None  # the only one that it runs; None where it takes the one that fits
    dim: int
    manifest: ModelManifest

    @property
    def label(self) -> str:
        """What people are to know of it, such as "demo model, trained on drawn people, not for real use"."""
        return self.manifest.label

    def as_json(self) -> dict[str, str | int | None]:
        """Which model was evaluated, and how it ran."""
        return {
            "fingerprint": self.fingerprint,
            "label": self.label,
            "variant": self.variant,
            "batch_size": self.batch_size,
        }
