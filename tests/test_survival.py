"""Killed, terminated, interrupted, out of space, twice at once: nothing is lost, half-written, or different afterwards.

A helper process imports everything once and forks one child per trial, which runs the command line and is stopped at a
chosen file operation (counted by an audit hook) or after a chosen time.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fork and signals are POSIX")
REPOSITORY = Path(__file__).resolve().parent.parent
TIMED = ("finished", "seconds", "peak_memory_bytes", "vectors", "notes")

HELPER = """
import json, os, resource, signal, sys, time

sys.path.insert(0, {repository!r})
import numpy as np
import workbench.encoders, workbench.evaluate, workbench.cli, workbench.runs
import workbench.encoders.encode as encoding
import filelock, pyarrow.parquet, pandas, scipy.stats, PIL.Image, sklearn.decomposition, sklearn.linear_model

encoding.SHARD_ITEMS = {shard_items}


class Toy:
    name = "toy"

    def describe(self):
        return {{"name": "toy"}}

    def prepare(self, modality, items):
        if modality == "image":
            return np.stack([np.asarray(image.resize((4, 4)), np.float32).ravel()[:16] for image in items])
        return np.array([[text.count(letter) for letter in "abcdefghiklmnopr"] for text in items], np.float32)

    def forward(self, modality, array):
        time.sleep(0.002)
        return array + 1

    def encode_image(self, images):
        return self.forward("image", self.prepare("image", images))

    def encode_text(self, texts):
        return self.forward("text", self.prepare("text", texts))


if {toy}:
    workbench.encoders.load = lambda *_, **__: Toy()
else:
    workbench.encoders.load("tiny-clip")


def child(trial):
    seen = [0]
    places = (trial["out"], trial["cache"])

    def watch(event, args):
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir") and str(args[0]).startswith(places):
            seen[0] += 1
            if seen[0] == trial.get("event"):
                os.kill(os.getpid(), trial["signal"])
            if trial.get("count"):
                print(seen[0], event, args[0], file=sys.stderr)

    os.environ["WORKBENCH_CACHE"] = trial["cache"]
    log = os.open(trial["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    sys.addaudithook(watch)
    if trial.get("largest_file"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (trial["largest_file"],) * 2)
    workbench.cli.main(trial["arguments"] + ["--out", trial["out"]])


def started(trial):
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            child(trial)
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)
    if trial.get("after"):
        time.sleep(trial["after"])
        os.kill(pid, trial["signal"])
    return pid


for line in sys.stdin:
    begin = time.perf_counter()
    pids = [started(trial) for trial in json.loads(line)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    print(json.dumps([codes, time.perf_counter() - begin]), flush=True)
"""


class Trials:
    """Runs ``workbench evaluate`` in forked children; every trial has a cache, an output folder and a log."""

    def __init__(self, root: Path, arguments: list[str], *, toy: bool, shard_items: int) -> None:
        self.root, self.arguments = root, arguments
        code = HELPER.format(repository=str(REPOSITORY), toy=toy, shard_items=shard_items)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self.helper = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, name: str, **trial: Any) -> int:
        return self.together([{"name": name, **trial}])[0]

    def together(self, trials: list[dict[str, Any]]) -> list[int]:
        assert self.helper.stdin is not None
        assert self.helper.stdout is not None
        self.helper.stdin.write(json.dumps([self._placed(**trial) for trial in trials]) + "\n")
        self.helper.stdin.flush()
        codes, self.seconds = json.loads(self.helper.stdout.readline())
        return list(codes)

    def _placed(self, name: str, **trial: Any) -> dict[str, Any]:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        places = {part: str(folder / part) for part in ("out", "cache", "log")}
        return {"arguments": self.arguments, **places, **trial}

    def log(self, name: str) -> str:
        return (self.root / name / "log").read_text()

    def end(self) -> None:
        assert self.helper.stdin is not None
        self.helper.stdin.close()
        assert self.helper.wait(timeout=60) == 0


def made(root: Path, arguments: list[str], **options: Any) -> Any:
    trials = Trials(root, arguments, **options)
    assert trials.run("whole", count=True) == 0, trials.log("whole")
    yield trials
    trials.end()


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Any:
    arguments = ["evaluate", "-p", "n_images=12", "-p", "batch_size=4", "-p", "n_resamples=100", "-p", "encoder=toy"]
    yield from made(tmp_path_factory.mktemp("survival"), arguments, toy=True, shard_items=8)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def content(run: Path) -> dict[str, Any]:
    """Every file of a run folder; of the manifest what does not depend on the clock or on the cache."""
    found: dict[str, Any] = files(run)
    manifest = json.loads(found["manifest.json"])
    found["manifest.json"] = {name: value for name, value in manifest.items() if name not in TIMED}
    return found


def the_run(trials: Trials, name: str) -> Path:
    """The only thing in an output folder, or one of two equal ones when the killed run had just finished."""
    found = sorted((trials.root / name / "out").iterdir())
    assert [path.name.removesuffix("-2") for path in found] == [found[0].name] * len(found), found
    assert all(content(path) == content(found[0]) for path in found)
    return found[0]


def assert_as_uninterrupted(trials: Trials, name: str) -> None:
    assert content(the_run(trials, name)) == content(the_run(trials, "whole"))
    assert files(trials.root / name / "cache") == files(trials.root / "whole" / "cache")


def operations(trials: Trials) -> list[str]:
    """The file operations of the uninterrupted run, in order."""
    lines = [line.split(" ", 1) for line in trials.log("whole").splitlines()]
    return [words[1] for words in lines if len(words) == 2 and words[0].isdigit()]


def moments(trials: Trials, n: int, seed: int) -> list[int]:
    """One file operation drawn from each of n equal parts of the run."""
    edges = np.linspace(1, len(operations(trials)) + 1, n + 1)
    rng = np.random.default_rng(seed)
    return [int(rng.integers(int(low), max(int(high), int(low) + 1))) for low, high in itertools.pairwise(edges)]


def kill_and_finish(trials: Trials, name: str, **moment: Any) -> bool:
    """Run, kill, run again: equal to uninterrupted. Whether the first run was killed before it ended."""
    code = trials.run(name, signal=signal.SIGKILL, **moment)
    assert code in (-signal.SIGKILL, 0), trials.log(name)
    assert trials.run(name) == 0, trials.log(name)
    assert_as_uninterrupted(trials, name)
    return code != 0


def test_the_uninterrupted_run_does_what_the_kills_rely_on(trials: Trials) -> None:
    done = " ".join(operations(trials))
    assert len(list((trials.root / "whole" / "cache").rglob("shard-*.safetensors"))) > 4
    for word in (".lock", "shard-", "key.json", "metrics.json", "results.json", "manifest.json", ".partial"):
        assert word in done


@pytest.mark.parametrize("part", range(4))
def test_killed_then_finished_equals_uninterrupted(trials: Trials, part: int) -> None:
    event = moments(trials, 4, seed=2)[part]
    assert kill_and_finish(trials, f"killed-{part}", event=event)


@pytest.mark.slow
def test_killed_at_any_file_operation(trials: Trials) -> None:
    """Every file operation of the run in turn, five minutes and more; the last ones may not come before the end."""
    n = len(operations(trials))
    killed = [kill_and_finish(trials, f"every-{event}", event=event) for event in range(1, n + 1)]
    assert sum(killed) >= n - 3


@pytest.mark.slow
def test_thirty_random_kills_of_the_shipped_model(tmp_path: Path) -> None:
    """tiny-clip on 60 images: 15 kills at file operations, then kills at random times until there are 30."""
    arguments = ["evaluate", "-p", "n_images=60", "-p", "batch_size=8", "-p", "n_resamples=200"]
    for trials in made(tmp_path, arguments, toy=False, shard_items=64):
        rng = np.random.default_rng(0)
        killed = [kill_and_finish(trials, f"event-{event}", event=event) for event in moments(trials, 15, seed=1)]
        while sum(killed) < 30 and len(killed) < 60:
            after = float(rng.random()) * trials.seconds
            killed.append(kill_and_finish(trials, f"time-{len(killed)}", after=after))
        assert sum(killed) == 30


def operation(trials: Trials, word: str) -> int:
    return next(number for number, done in enumerate(operations(trials), start=1) if word in done)


@pytest.mark.parametrize(("which", "code"), [(signal.SIGTERM, (143,)), (signal.SIGINT, (1, 130))])
def test_stopped_politely_while_writing(trials: Trials, which: int, code: tuple[int, ...]) -> None:
    name = f"stopped-{int(which)}"
    assert trials.run(name, signal=which, event=operation(trials, "results.json")) in code, trials.log(name)
    (left,) = (trials.root / name / "out").iterdir()
    assert left.name.endswith(".failed")
    failure = json.loads((left / "failure.json").read_text())
    assert failure["stage"] == "writing"
    assert failure["error"] == ("terminated" if which == signal.SIGTERM else "interrupted")
    assert not list((trials.root / name).rglob("*.tmp"))
    assert "Traceback" not in trials.log(name)
    assert trials.run(name) == 0
    finished = next(path for path in (trials.root / name / "out").iterdir() if path != left)
    assert content(finished) == content(the_run(trials, "whole"))


def test_stopped_politely_while_encoding(trials: Trials) -> None:
    event = [number for number, done in enumerate(operations(trials), start=1) if "rename" in done and "shard-" in done]
    assert trials.run("encoding", signal=signal.SIGTERM, event=event[2]) == 143
    assert not (trials.root / "encoding" / "out").exists()
    assert not list((trials.root / "encoding").rglob("*.tmp"))
    assert trials.run("encoding") == 0
    assert_as_uninterrupted(trials, "encoding")


def test_disk_full_keeps_what_there_is(trials: Trials) -> None:
    largest = max(len(data) for data in files(the_run(trials, "whole")).values())
    assert trials.run("full", largest_file=largest - 1) == 1, trials.log("full")
    (left,) = (trials.root / "full" / "out").iterdir()
    assert left.name.endswith(".failed")
    failure = json.loads((left / "failure.json").read_text())
    assert "File too large" in failure["error"]
    assert str(trials.root) not in (left / "failure.json").read_text()
    whole = files(the_run(trials, "whole"))
    assert all(whole[name] == data for name, data in files(left).items() if name != "failure.json")
    assert str(left) in trials.log("full")


@pytest.mark.parametrize("cache", ["/proc/self/nothing", "/dev/null/cache"])
def test_cache_that_cannot_be_written_costs_a_warning(trials: Trials, cache: str) -> None:
    name = f"cache-{cache.split('/')[1]}"
    assert trials.run(name, cache=cache) == 0, trials.log(name)
    run = the_run(trials, name)
    assert content(run) == content(the_run(trials, "whole"))
    notes = json.loads((run / "manifest.json").read_text())["notes"]
    assert [note for note in notes if "the cache cannot be written" in note and "vectors were not kept" in note]


@pytest.mark.parametrize("out", ["/proc/self/nothing", "/dev/null/runs"])
def test_output_folder_that_cannot_be_written_is_an_error(trials: Trials, out: str) -> None:
    name = f"out-{out.split('/')[1]}"
    assert trials.run(name, out=out) in (1, 2)
    assert "Traceback" not in trials.log(name)
    assert out in trials.log(name)


def test_two_runs_at_once_on_one_cache_and_one_folder(trials: Trials) -> None:
    assert trials.together([{"name": "both"}, {"name": "both"}]) == [0, 0], trials.log("both")
    assert len(list((trials.root / "both" / "out").iterdir())) == 2
    assert_as_uninterrupted(trials, "both")
