"""The parent-based samplers of the specification, asked without the objects that upstream makes to answer."""

from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, StaticSampler, TraceIdRatioBased

_LOW_64_BITS = TraceIdRatioBased.TRACE_ID_LIMIT


class ParentDecides(ParentBased):
    """Sample what the parent sampled, and of the traces that start here as many as the root says.

    Everybody who asks gets upstream's own answer; `samples_root` is the same decision for `LeanTracer`, which
    needs no more than yes or no, and sees for itself what a parent's flags say.

    Args:
        root: For spans without a parent: always on, always off, or a share of the traces.
    """

    def __init__(self, root: StaticSampler | TraceIdRatioBased) -> None:
        super().__init__(root)
        self._bound = root.bound if isinstance(root, TraceIdRatioBased) else _bound_of(root)

    def samples_root(self, trace_id: int) -> bool:
        """Say whether a span without a parent is sampled."""
        return trace_id & _LOW_64_BITS < self._bound


def _bound_of(sampler: Sampler) -> int:
    always = sampler.should_sample(None, 0, "").decision is Decision.RECORD_AND_SAMPLE
    return _LOW_64_BITS + 1 if always else 0
