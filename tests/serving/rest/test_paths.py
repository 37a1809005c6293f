"""The request lines that TensorFlow Serving's two expressions accept and refuse."""

from __future__ import annotations

import pytest

from serving.errors import HTTP_STATUS, ServingError
from serving.rest.paths import Route, parse_path

ACCEPTED = [
    ("POST", "/v1/models/m:predict", Route("predict", "m")),
    ("POST", "/v1/models/m:classify", Route("classify", "m")),
    ("POST", "/v1/models/m:regress", Route("regress", "m")),
    ("POST", "/v1/models/m/versions/7:predict", Route("predict", "m", version=7)),
    ("POST", "/v1/models/m/versions/007:predict", Route("predict", "m", version=7)),
    ("POST", "/v1/models/m/labels/canary:predict", Route("predict", "m", label="canary")),
    ("GET", "/v1/models/m", Route("status", "m")),
    ("GET", "/v1/models/m/versions/7", Route("status", "m", version=7)),
    ("GET", "/v1/models/m/labels/canary", Route("status", "m", label="canary")),
    ("GET", "/v1/models/m/metadata", Route("metadata", "m")),
    ("GET", "/v1/models/m/versions/7/metadata", Route("metadata", "m", version=7)),
    ("GET", "/v1/models/m/labels/canary/metadata", Route("metadata", "m", label="canary")),
    # case counts in names alone, and in the verb
    ("POST", "/V1/MODELS/Net/Versions/7:predict", Route("predict", "Net", version=7)),
    # a name that is none of the words after it
    ("GET", "/v1/models/metadata", Route("status", "metadata")),
    ("GET", "/v1/models/versions", Route("status", "versions")),
    # whatever else than "metadata" to the letter matches, is a status
    ("GET", "/v1/models/m/METADATA", Route("status", "m")),
    # percent-encoding is undone once, in names and labels
    ("POST", "/v1/models/a%20b:predict", Route("predict", "a b")),
    ("POST", "/v1/models/a%2Fb:predict", Route("predict", "a/b")),
    ("POST", "/v1/models/a%3Ab:predict", Route("predict", "a:b")),
    ("POST", "/v1/models/a%252Fb:predict", Route("predict", "a%2Fb")),
    ("POST", "/v1/models/100%:predict", Route("predict", "100%")),
    ("POST", "/v1/models/a+b:predict", Route("predict", "a+b")),
    ("POST", "/v1/models/m/labels/a%20b:predict", Route("predict", "m", label="a b")),
    ("GET", "/v1/models/%C3%A9", Route("status", "é")),
    ("GET", "/v1/models/..%2F..%2Fetc%2Fpasswd", Route("status", "../../etc/passwd")),
    # the query belongs to the path
    ("GET", "/v1/models/m?x=1", Route("status", "m?x=1")),
    ("POST", f"/v1/models/m/versions/{2**63 - 1}:predict", Route("predict", "m", 2**63 - 1)),
    ("GET", f"/v1/models/m/versions/{'0' * 30}7", Route("status", "m", 7)),
]

MALFORMED = [
    ("GET", "/v1/foo"),
    ("POST", "/v1/foo"),
    ("POST", "/v1/models"),
    ("POST", "/v1/models/m"),
    ("POST", "/v1/models/m/metadata"),
    ("POST", "/v1/models/m:predict/"),
    ("POST", "/v1/models/m:predict?x=1"),
    ("POST", "/v1/models/m:Predict"),
    ("POST", "/v1/models/m:explain"),
    ("POST", "/v1/models/:predict"),
    ("POST", "/v1/models/a/b:predict"),
    ("POST", "/v1/models/m/version/50:regress"),
    ("POST", "/v1/models/m/versions/HELLO:regress"),
    ("POST", "/v1/models/m/versions/-1:regress"),
    ("POST", "/v1/models/m/versions/:regress"),
    ("POST", "/v1/models/m/versions/١:predict"),
    ("POST", "/v1/models/m/label/stable:regress"),
    ("POST", "/v1/models/m/labels/:regress"),
    ("POST", "/v1/models/m/versions/50/labels/stable:regress"),
    ("GET", "/v1/models/debug/m"),
    ("GET", "/v1/models/"),
    ("GET", "/v1/models/m/"),
    ("GET", "/v1/models/m:predict"),
    ("GET", "/v1/models/m/version/50:predict"),
    ("GET", "/v1/models/m/versions/7/"),
    ("GET", "/v1/models/m/metadata/"),
    ("GET", " /v1/models/m"),
    ("PUT", "/v1/models/m:predict"),
    ("DELETE", "/v1/models/m"),
    ("HEAD", "/v1/models/m"),
    ("PATCH", "/v1/models/m"),
    ("post", "/v1/models/m:predict"),
]


@pytest.mark.parametrize(("method", "path", "route"), ACCEPTED)
def test_accepted(method: str, path: str, route: Route) -> None:
    assert parse_path(method, path) == route


@pytest.mark.parametrize(("method", "path"), MALFORMED)
def test_malformed(method: str, path: str) -> None:
    with pytest.raises(ServingError) as caught:
        parse_path(method, path)
    assert caught.value.message == f"Malformed request: {method} {path}"
    assert caught.value.http_status == 400


@pytest.mark.parametrize(
    "path",
    ["/v1/models", "/v1/models/versions/1", "/v1/models/labels/x", "/v1/models/labels/x/metadata"],
)
def test_a_path_without_a_model(path: str) -> None:
    with pytest.raises(ServingError) as caught:
        parse_path("GET", path)
    assert (caught.value.code, caught.value.message) == (
        "INVALID_ARGUMENT",
        "Missing model name in request.",
    )


@pytest.mark.parametrize("digits", [str(2**63), str(2**64 - 1), "9" * 5000])
def test_versions_beyond_64_bits(digits: str) -> None:
    for method, path in (
        ("POST", f"/v1/models/m/versions/{digits}:regress"),
        ("GET", f"/v1/models/m/versions/{digits}"),
    ):
        with pytest.raises(ServingError) as caught:
            parse_path(method, path)
        assert caught.value.message == f"Failed to convert version: {digits} to numeric."
        assert caught.value.http_status == 400


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("INVALID_ARGUMENT", 400),
        ("FAILED_PRECONDITION", 400),
        ("OUT_OF_RANGE", 400),
        ("UNAUTHENTICATED", 401),
        ("PERMISSION_DENIED", 403),
        ("NOT_FOUND", 404),
        ("ALREADY_EXISTS", 409),
        ("ABORTED", 409),
        ("RESOURCE_EXHAUSTED", 429),
        ("CANCELLED", 499),
        ("UNKNOWN", 500),
        ("INTERNAL", 500),
        ("DATA_LOSS", 500),
        ("UNIMPLEMENTED", 501),
        ("UNAVAILABLE", 503),
        ("DEADLINE_EXCEEDED", 504),
    ],
)
def test_http_status_of_each_code(code: str, status: int) -> None:
    error = ServingError(code, "why", retry_after_s=3)
    assert (error.http_status, error.message, error.retry_after_s, str(error)) == (
        status,
        "why",
        3,
        "why",
    )


def test_there_are_sixteen_codes_and_no_other() -> None:
    assert len(HTTP_STATUS) == 16
    with pytest.raises(ValueError, match="'TEAPOT' is no canonical code"):
        ServingError("TEAPOT", "short and stout")
