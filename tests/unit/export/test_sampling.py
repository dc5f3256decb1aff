"""The lean answer of a sampler is upstream's answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, TraceIdRatioBased

from tercet.export.sampling import ParentDecides

roots = st.sampled_from([ALWAYS_ON, ALWAYS_OFF]) | st.floats(0, 1).map(TraceIdRatioBased)


@given(roots, st.integers(1, 2**128 - 1))
def test_both_answers_are_one(root, trace_id):
    """For each root and trace id."""
    sampler = ParentDecides(root)
    decision = sampler.should_sample(Context(), trace_id, "name").decision
    assert sampler.samples_root(trace_id) is decision.is_sampled()


@pytest.mark.parametrize(("root", "name"), [(ALWAYS_ON, "AlwaysOnSampler"), (ALWAYS_OFF, "AlwaysOffSampler")])
def test_it_describes_itself_as_the_specification_has_it(root, name):
    """A collector may be told."""
    assert ParentDecides(root).get_description().startswith(f"ParentBased{{root:{name},")
