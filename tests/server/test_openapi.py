"""The OpenAPI document is true: requests are made of it, good and bad, and the answers held against it."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("schemathesis", reason="needs the package schemathesis")
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    missing_required_header,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from helpers.paths import REPOSITORY
from helpers.server import RunningServer, start_server
from helpers.service import base64_of, data_url

pytestmark = pytest.mark.slow

PHOTOGRAPHS = [path.read_bytes() for path in sorted((REPOSITORY / "examples" / "photographs").glob("*.jpg"))[:3]]
CASES = 2000
ROUTES = 6  # that take photographs: of each a sixth of the cases, half of them well formed
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    allow_header_conformance,
    unsupported_method,
    missing_required_header,
]


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Photographs, parts of photographs, and anything."""
    photograph = draw(st.sampled_from(PHOTOGRAPHS))
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(st.binary(max_size=200))
    if kind == 1:
        return photograph[: draw(st.integers(0, 3000))]
    return photograph


for media_type in ("image/*", "application/octet-stream"):
    schemathesis.openapi.media_type(media_type, files())
schemathesis.openapi.format("binary", files())
schemathesis.openapi.format("byte", files().map(base64_of))
schemathesis.openapi.format("uri", files().map(data_url) | st.just("https://example.org/photo.jpg"))


@pytest.fixture(scope="module")
def small_server(small_model: Path) -> Iterator[RunningServer]:
    with start_server("--model", small_model) as running:
        yield running


def test_no_answer_is_undocumented(small_server: RunningServer) -> None:
    document = schemathesis.openapi.from_url(f"{small_server.url}openapi.json")
    answers: Counter[int] = Counter()
    for found in document.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            if mode.is_negative and not (operation.query or operation.body):
                continue  # there is nothing in these requests that could be wrong

            @settings(
                max_examples=-(-CASES // (2 * ROUTES)),
                deadline=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def hold_against_the_document(case: Any) -> None:
                answer = case.call()
                answers[answer.status_code] += 1
                case.validate_response(answer, checks=CHECKS)

            hold_against_the_document()
    assert sum(answers.values()) >= CASES
    assert all(answers[status] >= CASES / 20 for status in (200, 400, 422)), answers
    assert not any(status >= 500 for status in answers)
    assert "Traceback" not in small_server.log.read_text()
