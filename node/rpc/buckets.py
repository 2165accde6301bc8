"""How often somebody may call: token buckets, of bounded number."""

from collections import OrderedDict
from collections.abc import Hashable

MAX_BUCKETS = 8192


class Buckets:
    """One token bucket per key. The least used is forgotten when there are too many: it starts full again."""

    def __init__(self, max_buckets: int = MAX_BUCKETS) -> None:
        self._max_buckets = max_buckets
        self._buckets: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def take(self, key: Hashable, rate_per_s: float, burst: int, now_ns: int) -> bool:
        """Takes one token; False if there is none. `now_ns` is monotonic."""
        tokens, then_ns = self._buckets.pop(key, (burst, now_ns))
        tokens += (now_ns - then_ns) * rate_per_s / 1e9
        if tokens > burst:
            tokens = float(burst)
        taken = tokens >= 1.0
        self._buckets[key] = (tokens - 1.0 if taken else tokens, now_ns)
        if len(self._buckets) > self._max_buckets:
            self._buckets.popitem(last=False)
        return taken
