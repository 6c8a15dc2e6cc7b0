"""Whether a run measured the server: what speaks against it, in sentences. Pure.

Percentages of the machine are told as cores: 1.0 is one core all the time.
"""

from tests.load.generator import NOT_SENT
from tests.load.samples import Taken, percentile
from tests.load.usage import GENERATOR, SERVER, Usage

GENERATOR_CORES = 0.7  # it has one thread: beyond this requests begin to wait for it
OTHERS_CORES = 0.1  # a shell and a clock; whatever is more has taken time that the server might have had
STOLEN_CORES = 0.05
LATE_MS, LATE_SHARE = 10.0, 0.1  # how late requests may go out (p99), or as a share of the median latency


def against(usage: Usage, taken: Taken) -> list[str]:
    """Reasons why the run is invalid; none where it holds."""
    found = []
    own = usage.cores_of(GENERATOR)
    if own > GENERATOR_CORES:
        found.append(f"the generator used {own:.2f} of a core: it measured itself (limit {GENERATOR_CORES})")
    if usage.cores_of(SERVER) and usage.others_cores > OTHERS_CORES:
        found.append(f"processes without a part in this used {usage.others_cores:.2f} cores (limit {OTHERS_CORES})")
    if usage.stolen_cores > STOLEN_CORES:
        found.append(f"the host took {usage.stolen_cores:.2f} cores away (limit {STOLEN_CORES})")
    late = percentile(sorted(sample.late_ms for sample in taken.samples), 0.99)
    limit = max(LATE_MS, LATE_SHARE * percentile(taken.latencies_ms(), 0.5))
    if late > limit:
        found.append(f"requests went out up to {late:.1f} ms late (p99; limit {limit:.1f})")
    if unsent := taken.errors().get(NOT_SENT, 0):
        found.append(f"{unsent} requests were not sent: too many were in flight")
    if not taken.latencies_ms():
        found.append("no request was answered well")
    return found
