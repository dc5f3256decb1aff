"""The parent-based samplers of the specification, asked without the objects that upstream makes to answer."""

from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, StaticSampler, TraceIdRatioBased

_LOW_64_BITS = TraceIdRatioBased.TRACE_ID_LIMIT
_SAMPLED = 1


class ParentDecides(ParentBased):
    """Sample what the parent sampled, and of the traces that start here as many as the root says.

    Everybody who asks gets upstream's own answer; `decides` is the same decision for `LeanTracer`,
    which needs no more than yes or no.

    Args:
        root: For spans without a parent: always on, always off, or a share of the traces.
    """

    def __init__(self, root: StaticSampler | TraceIdRatioBased) -> None:
        super().__init__(root)
        self._bound = root.bound if isinstance(root, TraceIdRatioBased) else _bound_of(root)

    def decides(self, flags: int | None, trace_id: int) -> bool:
        """Say whether a span is sampled: as its parent's flags say, or by the trace id where it has none."""
        if flags is not None:
            return bool(flags & _SAMPLED)
        return trace_id & _LOW_64_BITS < self._bound


def _bound_of(sampler: Sampler) -> int:
    always = sampler.should_sample(None, 0, "").decision is Decision.RECORD_AND_SAMPLE
    return _LOW_64_BITS + 1 if always else 0
