"""The lean answer of a sampler is upstream's answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from tercet.export.sampling import ParentDecides

parents = st.none() | st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.just(1),
    st.booleans(),
    st.sampled_from([TraceFlags(n) for n in range(4)]),
)
roots = st.sampled_from([ALWAYS_ON, ALWAYS_OFF]) | st.floats(0, 1).map(TraceIdRatioBased)


@given(roots, parents, st.integers(1, 2**128 - 1))
def test_both_answers_are_one(root, parent, trace_id):
    """For each root, parent and trace id."""
    sampler = ParentDecides(root)
    context = set_span_in_context(NonRecordingSpan(parent), Context()) if parent else Context()
    decision = sampler.should_sample(context, trace_id, "name").decision
    assert sampler.decides(parent.trace_flags if parent else None, trace_id) is decision.is_sampled()


@pytest.mark.parametrize(("root", "name"), [(ALWAYS_ON, "AlwaysOnSampler"), (ALWAYS_OFF, "AlwaysOffSampler")])
def test_it_describes_itself_as_the_specification_has_it(root, name):
    """A collector may be told."""
    assert ParentDecides(root).get_description().startswith(f"ParentBased{{root:{name},")
