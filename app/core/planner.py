"""How many of the waiting crops a device takes next, from what each of its batch sizes was measured to cost."""

from collections.abc import Mapping


def best_size(batch_ms: Mapping[int, float]) -> int:
    """The batch size that embeds most crops a second; of equals the smaller one.

    >>> best_size({1: 0.65, 4: 1.08, 8: 1.87, 16: 4.63})  # 1542, 3715, 4287 and 3454 a second
    8
    """
    return min(batch_ms, key=lambda size: (batch_ms[size] / size, size))


def launch_size(waiting: int, batch_ms: Mapping[int, float]) -> int:
    """Crops to launch now: all that wait, up to the size with the best throughput. A larger one would only be slower."""
    return min(waiting, best_size(batch_ms))
