"""The bench of torch.compile runs end to end with a backend that traces and compiles nothing: the same numbers come."""

import math

import pytest

from bench import compiled
from tests.bench.test_ratios import tiny


@pytest.mark.parametrize(("method", "what"), [("nsp2", "blocks"), ("nusa_cl", "forward")])
def test_a_step_through_a_traced_backbone_is_the_same_step(method, what):
    own, bare = compiled.measured(tiny(method), what, steps=5, backend="eager")
    assert (own.kind, bare.kind) == ("own loss", "bare")
    assert len(own.compiling) == compiled.TASKS and len(bare.compiling) == 1
    for found in (own, bare):
        assert found.apart < 1e-5, "tracing changed what was computed"
        assert found.graphs >= 1 and sum(found.compiling) > 0 and found.ratios and min(found.ratios) > 0
        assert len(found.cells()) == len(compiled.HEADER)


def test_compiling_pays_when_it_has_been_saved_and_never_where_nothing_is():
    found = compiled.Found("own loss", ratios=[1.25, 1.25, 2.0], eager=[0.1, 0.1, 0.1], compiling=[3.0, 1.0])
    assert found.pays_after == pytest.approx(4.0 / 0.02) and "200 steps" in found.cells()
    slower = compiled.Found("own loss", ratios=[0.9], eager=[0.1], compiling=[3.0])
    assert slower.pays_after == math.inf and "never" in slower.cells()


def test_a_backend_that_fails_is_named_in_one_line():
    with pytest.raises(Exception, match="no_such_backend") as caught:
        compiled.measured(tiny("nsp2"), steps=2, backend="no_such_backend")
    said = compiled.why_not(caught.value)
    assert said.startswith("torch.compile does not work here: ") and "\n" not in said
