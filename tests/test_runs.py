"""Run folders and their files: exact round trips, atomic writes, names, validation on reading."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench.codec import from_plain, to_plain
from workbench.failures import described, terminate_politely
from workbench.files import canonical_hash, lock_folder, scrubbed, write_atomically, write_json
from workbench.meter import Meter, tree_memory
from workbench.runs import Run, RunFolder, read_parquet, safe_name, write_parquet, write_trec
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


def test_damaged_manifest_says_so(tmp_path: Path) -> None:
    for text, words in (("{", "is damaged"), ("[]", "no JSON object")):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=words):
            Run(tmp_path)


def killed_run(out: Path, name: str) -> None:
    """A process that opens a run folder, writes into it, and is killed."""
    code = (
        "import os, sys; from pathlib import Path; from workbench.runs import RunFolder\n"
        "folder = RunFolder(Path(sys.argv[1]), sys.argv[2]); (folder.path / 'half').write_text('x')\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(out), name], check=False)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_abandoned_folders_go_and_living_ones_stay(tmp_path: Path) -> None:
    living = RunFolder(tmp_path, "run")
    killed_run(tmp_path, "run")
    killed_run(tmp_path, "run-other")
    assert {path.name for path in tmp_path.iterdir()} == {"run.partial", "run-2.partial", "run-other.partial"}
    third = RunFolder(tmp_path, "run")
    assert third.path.name == "run-2.partial"
    assert list(third.path.iterdir()) == [], "nothing of the killed run is left"
    assert third.finish().name == "run"
    assert living.finish().name == "run-2"
    assert {path.name for path in tmp_path.iterdir()} == {"run", "run-2", "run-other.partial"}


def test_many_finish_at_once(tmp_path: Path) -> None:
    names: list[str] = []

    def work() -> None:
        for _ in range(10):
            folder = RunFolder(tmp_path, "run")
            (folder.path / "file").write_text(str(id(folder)))
            names.append(folder.finish().name)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 40
    assert len({path.read_text() for path in tmp_path.glob("*/file")}) <= 40
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_target_taken_in_the_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path, "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "file").write_text("of another run")
    monkeypatch.setattr("os.path.lexists", lambda _: False)
    assert folder.finish().name == "run-2"
    assert (tmp_path / "run" / "file").read_text() == "of another run"


@pytest.mark.parametrize("stop", [ValueError("x in /home/ada/y"), KeyboardInterrupt(), SystemExit(143), MemoryError()])
def test_whatever_stops_a_run_its_folder_is_kept(tmp_path: Path, stop: BaseException) -> None:
    meter = Meter()
    folder = RunFolder(tmp_path, "run", meter)
    with pytest.raises(type(stop)), folder, meter.stage("searching"):
        raise stop
    failure = json.loads((tmp_path / "run.failed" / "failure.json").read_text())
    assert failure == {"schema": 1, "stage": "searching", "error": scrubbed(described(stop))}
    assert "ada" not in failure["error"]
    assert [path.name for path in tmp_path.iterdir()] == ["run.failed"]


def test_failing_never_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    gone = RunFolder(tmp_path, "gone")
    shutil.rmtree(gone.path)
    assert gone.fail("writing", "x").name == "gone.partial"
    assert list(tmp_path.iterdir()) == [], "a folder that went away is not made again"
    full = RunFolder(tmp_path, "full")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    assert full.fail("writing", "x").name == "full.failed"
    assert list((tmp_path / "full.failed").iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="flock is POSIX")
def test_a_lock_follows_its_folder(tmp_path: Path) -> None:
    import os

    (tmp_path / "a").mkdir()
    lock = lock_folder(tmp_path / "a")
    assert lock is not None
    (tmp_path / "a").rename(tmp_path / "b")
    for name in ("a", "b"):
        with pytest.raises(BlockingIOError):
            lock_folder(tmp_path / name)
    os.close(lock)
    again = lock_folder(tmp_path / "b")
    assert again is not None
    os.close(again)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[Errno 13] Permission denied: '/home/ada/x y/z'", "[Errno 13] Permission denied: '.../z'"),
        ("in /home/ada/My Photos/x.png: cut", "in .../x.png: cut"),
        ("folder:/home/ada/x.csv, bad", "folder:.../x.csv, bad"),
        (r"C:\Users\ada\x.csv and \\server\ada\f", r".../x.csv and .../f"), ("~/photos/z ~ada/q", ".../z .../q"),
        ("file:///home/ada/x", ".../x"), ("t2i/hit@1 and/or 1/2", "t2i/hit@1 and/or 1/2"),
        ("see https://a.org/b/c", "see https://a.org/b/c"), ("../data/x a / b", "../data/x a / b"),
        ("by lovelace on engine7", "by (user) on (host)"), ("lovelaces engine77", "lovelaces engine77"),
        ("lovelace@engine7.example.org", "(user)@(host)"),
        ("/srv/people/o'neil (home)/data/x", ".../x"),
    ],
)  # fmt: skip
def test_messages_name_no_place_and_nobody(text: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "lovelace")
    monkeypatch.setattr("socket.gethostname", lambda: "engine7.example.org")
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: Path("/srv/people/o'neil (home)")))
    assert scrubbed(text) == shown


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_sigterm_becomes_an_orderly_end() -> None:
    import os
    import signal

    before = signal.getsignal(signal.SIGTERM)
    cleaned = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned.append(True)

    with pytest.raises(SystemExit) as stopped, terminate_politely():
        work()
    assert stopped.value.code == 143
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) == before
