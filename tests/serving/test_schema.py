"""schemathesis plays the OpenAPI document against a server: what fits it is answered, what does not never with 500."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.serving.conftest import Running

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: pip install 'elbert[dev]'")

# Not asked: that all which fits the schema is accepted (it cannot name the levels there are), and that every status is
# declared (limits refuse with several).
EXCLUDED = ("positive_data_acceptance", "status_code_conformance")

EXAMPLES = 5 if settings.default.derandomize else 50


@pytest.mark.hypothesis
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_route_answers_what_its_schema_allows_and_what_it_does_not(running: Running, mode: Any) -> None:
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{running.port}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert {each.path for each in operations} >= {"/predict", "/predict/stream", "/v1/classify", "/trace", "/health"}
    excluded = [getattr(schemathesis.checks, name) for name in EXCLUDED]
    for operation in operations:
        if mode == schemathesis.GenerationMode.NEGATIVE and not operation.body:
            continue  # there is nothing to get wrong

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def play(case: Any) -> None:
            case.call_and_validate(timeout=30, excluded_checks=excluded)

        play()
    assert running.client.post("/predict", json={"inputs": "good"}).status_code == 200
