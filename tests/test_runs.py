"""Run folders and their files: exact round trips, atomic writes, names, validation on reading."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench.codec import from_plain, to_plain
from workbench.files import canonical_hash, write_atomically, write_json
from workbench.meter import Meter, tree_memory
from workbench.runs import Run, RunFolder, read_parquet, safe_name, without_place, write_parquet, write_trec
from workbench.types import Finding, Neighbours


@dataclass(frozen=True)
class Inner:
    values: np.ndarray
    pair: tuple[int, float]


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    table: dict[str, int]
    missing: None = None


def round_trip(value: Any) -> Any:
    text = json.dumps(to_plain(value), allow_nan=False)
    return from_plain(json.loads(text), {"Inner": Inner, "Outer": Outer})


@pytest.mark.parametrize(
    "array",
    [
        np.array([0.1, np.nan, 1e-300, 1 / 3]), np.array([[1, 2, 3]], np.int64), np.array([], np.float32).reshape(0, 4),
        np.array([True, False]), np.array(["a", "längér", ""]), np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    ],
)  # fmt: skip
def test_arrays_come_back_bit_by_bit(array: np.ndarray) -> None:
    back = round_trip(array)
    assert back.dtype.kind == array.dtype.kind
    assert back.shape == array.shape
    np.testing.assert_array_equal(back, array)
    assert not back.flags.writeable


def test_results_come_back() -> None:
    given = Outer("x", Inner(np.array([1.5]), (2, float("inf"))), {"k": np.int64(3)})  # type: ignore[dict-item]
    back = round_trip(given)
    assert isinstance(back, Outer)
    assert back.inner.pair == (2, float("inf"))
    assert back.table == {"k": 3}
    assert back.inner.values.tolist() == [1.5]


def test_codec_refuses_what_it_cannot_restore() -> None:
    with pytest.raises(TypeError, match="a set cannot be written"):
        to_plain({1, 2})
    with pytest.raises(TypeError, match="array of object"):
        to_plain(np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="unknown result 'Evil'"):
        from_plain({"result": "Evil", "fields": {}}, {})


def test_write_is_whole_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file.json"
    write_json(target, {"a": 1})

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(target, b"half")
    assert json.loads(target.read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(target, {"a": float("nan")})


def test_parquet_same_columns_same_bytes(tmp_path: Path) -> None:
    columns = {"id": ["a", "b"], "value": np.array([0.1, 0.2]), "picture": [b"\x00", b"\xff"]}
    for name in ("one", "two"):
        write_parquet(tmp_path / f"{name}.parquet", columns)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    back = read_parquet(tmp_path / "one.parquet")
    assert back["id"] == ["a", "b"]
    assert back["value"].tolist() == [0.1, 0.2]
    assert back["picture"] == [b"\x00", b"\xff"]


def test_trec_ids_survive(tmp_path: Path) -> None:
    from urllib.parse import unquote

    lists = Neighbours(np.array([[1, 0]]), np.array([[1 / 3, 0.1]]), 2, True, np.array([False]))
    write_trec(tmp_path / "run.trec", lists, ["a query"], ["x/y", "50 % café"])
    lines = [line.split() for line in (tmp_path / "run.trec").read_text().splitlines()]
    assert [unquote(line[2]) for line in lines] == ["50 % café", "x/y"]
    assert unquote(lines[0][0]) == "a query"
    assert float(lines[0][4]) == 1 / 3


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("folder:/home/ada/pets", "folder:.../pets"), ("folder:C:\\Users\\ada\\pets", "folder:.../pets"),
        ("karpathy:/data/d.json,/data/coco", "karpathy:.../d.json,.../coco"), ("folder:~/pets/", "folder:.../pets"),
        ("open_clip:ViT-B-32@openai", "open_clip:ViT-B-32@openai"), ("tiny-clip", "tiny-clip"),
    ],
)  # fmt: skip
def test_places_stay_at_home(source: str, shown: str) -> None:
    assert without_place(source) == shown


@pytest.mark.parametrize("text", ["a/b:c*d?", "  .. ", "CON", "x" * 500, "データ", "trailing. "])
def test_safe_names(text: str) -> None:
    name = safe_name(text)
    assert 0 < len(name) <= 60
    assert not set(name) & set('<>:"/\\|?* ')
    assert not name.endswith(".")


def test_run_folder_states(tmp_path: Path) -> None:
    first = RunFolder(tmp_path, "run")
    assert first.path.name == "run.partial"
    second = RunFolder(tmp_path, "run")
    assert second.path.name == "run-2.partial"
    assert first.finish().name == "run"
    assert second.fail("searching", "boom").name == "run.failed"
    assert RunFolder(tmp_path, "run").finish().name == "run-2"
    assert json.loads((tmp_path / "run.failed" / "failure.json").read_text())["stage"] == "searching"


def test_reading_checks_the_schema(tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", {"schema": 2, "workbench": "9"})
    with pytest.raises(ValueError, match=r"schema 2, this version reads 1"):
        Run(tmp_path)


def test_finding_with_nothing_finite_is_null() -> None:
    flat = Finding("x", float("nan"), (float("nan"), 1.0), None, "", "not measurable", "").flat()
    assert flat["value"] is None
    assert flat["interval"] is None


def test_hash_ignores_key_order() -> None:
    assert canonical_hash({"a": 1, "b": [2]}) == canonical_hash({"b": [2], "a": 1})
    assert canonical_hash({"a": 1}) != canonical_hash({"a": 2})


def test_meter_sees_memory_of_the_tree_and_names_the_stage() -> None:
    with Meter(interval=0.01) as meter:
        with pytest.raises(RuntimeError), meter.stage("fails"):
            raise RuntimeError
        assert meter.current == "fails"
        with meter.stage("works"):
            block = np.ones(30_000_000)
            while meter.peak_bytes == 0:
                pass
    assert meter.peak_bytes >= block.nbytes
    assert set(meter.seconds) == {"fails", "works"}
    assert tree_memory() > 0
