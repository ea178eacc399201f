"""Fixtures of all tests: where the reference data lie, and a cache that is never the user's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """``shared("golden/file.npz")``: a path into the reference data beside the checkout; skips without, fails in CI."""

    def locate(relative: str) -> Path:
        path = SHARED / relative
        if not path.exists():
            reason = f"reference data ../shared/{relative} are not beside this checkout"
            if os.environ.get("CI") == "true":
                pytest.fail(reason + ", and CI=true asks for them")
            pytest.skip(reason)
        return path

    return locate


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tests encode into a throw-away cache, never into the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
