"""A real S3 for all tests of a module, of which each has a folder of the bucket for itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from worlds.s3 import BUCKET, S3, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with serving(tmp_path_factory.mktemp("server")) as s3:
        yield s3


@pytest.fixture
def bucket(server: S3, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a folder in the bucket of a running server, its credentials in the environment."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{abs(hash(request.node.nodeid)):x}"
