"""The NPU: OM models through aclruntime, one worker process per chip."""

from app.adapters.ascend.chip import open_ascend, open_variant, sizes_of

__all__ = ["open_ascend", "open_variant", "sizes_of"]
