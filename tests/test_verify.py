"""Run folders as evidence: a clean one passes every check, and each way of damaging one is refused with its reason."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.worlds import paired_vectors, write_vectors
from workbench.cli import main
from workbench.evaluate import evaluate, evaluate_into
from workbench.files import write_json
from workbench.report import schema_of
from workbench.runs import Run, file_digests, read_parquet, write_parquet
from workbench.runs.schema import inside
from workbench.runs.verify import Verification, verify

FAST: dict[str, Any] = {"n_resamples": 100, "repairs": []}
VECTORS = {**FAST, "keep_embeddings": True, "metrics": ["hit@1", "hit@5", "R@5", "MRR", "MedR", "AP@10", "hit@20"]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("verify")


@pytest.fixture(scope="module")
def clean(root: Path) -> Path:
    """12 images with 36 captions, hard enough that values differ from query to query; hit@20 exceeds one gallery."""
    return evaluate(write_vectors(root / "v.npz", n_images=12, noise=4.0), out=root / "clean", **VECTORS).path


@pytest.fixture(scope="module")
def other(root: Path) -> Path:
    """The same ids and sizes, other vectors, and the captions belong to other images."""
    arrays = paired_vectors(n_images=12, noise=4.0, seed=1)
    np.savez(root / "w.npz", **{**arrays, "text_image": np.roll(arrays["text_image"], 5)})
    return evaluate(f"embeddings:{root / 'w.npz'}", out=root / "other", **VECTORS).path


def tied_vectors(path: Path) -> str:
    """Small whole numbers: most scores are shared by several items."""
    rng = np.random.default_rng(2)
    own = np.repeat(np.arange(15), 2)
    images = rng.integers(1, 3, (15, 3)).astype(np.float32)
    np.savez(path, image=images, text=images[own] + rng.integers(0, 2, (30, 3)).astype(np.float32), text_image=own)
    return f"embeddings:{path}"


def write_lists(folder: Path) -> None:
    """20 lists of 25 or 5 items, every score twice, and judgements, also of two queries without a list."""
    rng, lines = np.random.default_rng(0), []
    for query in range(20):
        items = rng.permutation(30)[: 25 if query % 3 else 5]
        lines += [f"q{query} Q0 d{item} {rank} {50 - (rank + 1) // 2} sys" for rank, item in enumerate(items, start=1)]
    (folder / "lists.trec").write_text("\n".join(lines) + "\n")
    judged = [f"q{query} 0 d{rng.integers(30)} {1 + query % 2}" for query in range(22)]
    (folder / "judged.qrels").write_text("\n".join(judged) + "\n")


def hubness_run(source: str, out: Path) -> Path:
    schema = schema_of("hubness")
    asked = {"dataset": source, "n_resamples": 100, "methods": ["csls"], "tune": False}
    with evaluate_into(out, schema.check({**schema.defaults, **asked}), report="hubness") as folder:
        return folder.finish()


class Colours:
    """An encoder of pictures as twelve pixels and of texts as how often twelve letters occur."""

    name = "colours"

    def encode_image(self, images: Any) -> np.ndarray:
        return np.array([np.asarray(image.convert("RGB").resize((2, 2)), float).ravel() + 1 for image in images])

    def encode_text(self, texts: Any) -> np.ndarray:
        return np.array([[text.count(letter) + 0.1 for letter in "abcdefghilmn"] for text in texts])


def texts(found: Verification) -> dict[str, str]:
    return {line.name: line.text for line in found.lines}


def test_a_clean_run_passes_everything(clean: Path, other: Path) -> None:
    for path in (clean, other):
        found = verify(path)
        assert found.ok
        assert not found.unchecked
        assert [line.name for line in found.lines] == [
            "finished", "files", "form", "items", "vectors",
            *(f"{way} {what}" for way in ("t2i", "i2t") for what in ("metrics", "lists", "trec", "values", "scores")),
            "content hash", "name", "findings", "results",
        ]  # fmt: skip
        assert "36 of 36 queries" in texts(found)["t2i scores"]
        assert len(found.table()) == len(found.lines)
        assert found.flat() == {"passed": float(len(found.lines)), "failed": 0.0, "not checked": 0.0}


@pytest.mark.parametrize(
    "parameters",
    [
        {"depth": 2, "k": 2}, {"depth": 15, "k": 3}, {"depth": 2, "k": 1, "keep_embeddings": True},
        {"share": "no-content", "k": 4, "depth": 4}, {"share": "no-images"}, {"n_images": 9, "k": 3, "depth": 3},
    ],
    ids=str,
)  # fmt: skip
def test_ties_and_short_lists_are_no_damage(root: Path, tmp_path: Path, parameters: dict[str, Any]) -> None:
    source = tied_vectors(root / "tied.npz")
    found = verify(evaluate(source, out=tmp_path, similarity="dot", **{**FAST, **parameters}))
    assert found.ok, found.failed
    kept = "keep_embeddings" in parameters
    assert {line.name for line in found.unchecked} == (set() if kept else {"vectors", "t2i scores", "i2t scores"}) | (
        {"content hash"} if parameters.get("share") == "no-content" else set()
    )
    if "depth" in parameters and parameters["depth"] < 15:
        assert "are decided deeper than the lists reach" in texts(found)["t2i values"]


@pytest.mark.parametrize("parameters", [{"depth": 100, "gallery_size": 40}, {"short_lists": "as is"}], ids=str)
def test_lists_alone(tmp_path: Path, parameters: dict[str, Any]) -> None:
    write_lists(tmp_path)
    lists, judged = tmp_path / "lists.trec", str(tmp_path / "judged.qrels")
    found = verify(evaluate(f"run:{lists}", qrels=judged, out=tmp_path / "runs", **{**FAST, **parameters}))
    assert found.ok, found.failed
    cut = {"content hash"} if "depth" not in parameters else set()
    assert {line.name for line in found.unchecked} == {"vectors", "q2d scores"} | cut


def test_hubness_report_and_pictures(root: Path, tmp_path: Path) -> None:
    assert verify(hubness_run(write_vectors(tmp_path / "h.npz", n_images=20, noise=3.0), tmp_path)).ok
    run = evaluate("scenes", Colours(), n_images=24, out=tmp_path / "scenes", **FAST)
    assert run.thumbnails
    assert verify(run).ok


def test_folders_of_older_versions_say_what_cannot_be_checked(clean: Path, tmp_path: Path) -> None:
    old = copied(clean, tmp_path)
    (old / "layers" / "relevance.parquet").unlink()
    (old / "layers" / "embeddings.safetensors").unlink()
    change(old, "manifest.json", lambda manifest: manifest.pop("files"))
    found = verify(old)
    assert found.ok, found.failed
    assert {line.name for line in found.unchecked} == {
        "files", "vectors", "t2i values", "t2i scores", "i2t values", "i2t scores", "content hash",
    }  # fmt: skip
    assert texts(found)["files"] == (
        "manifest.json has no digests of the files: it is of an older version, which wrote none"
    )
    assert Run(old).metrics["t2i/hit@1"]["n"] == 36
    with pytest.raises(FileNotFoundError, match=r"has no layers/relevance\.parquet"):
        Run(old).relevance  # noqa: B018


def copied(source: Path, out: Path) -> Path:
    return Path(shutil.copytree(source, out / source.name))


def change(folder: Path, name: str, edit: Callable[[Any], Any]) -> None:
    content = json.loads((folder / name).read_text())
    edit(content)
    (folder / name).write_text(json.dumps(content, indent=2))


def change_table(folder: Path, name: str, edit: Callable[[dict[str, Any]], Any]) -> None:
    columns = {key: list(values) for key, values in read_parquet(folder / name).items()}
    edit(columns)
    write_parquet(folder / name, columns)


def repair(folder: Path) -> None:
    """What a careful forger does: the manifest holds the digests of the files as they now are."""
    change(folder, "manifest.json", lambda manifest: manifest.update(files=file_digests(folder)))


def cut(name: str) -> Callable[[Path, Path], None]:
    return lambda folder, _: (folder / name).write_bytes((folder / name).read_bytes()[: -len(name) * 4])  # type: ignore[return-value]


def metric(**values: Any) -> Callable[[Path, Path], None]:
    return lambda folder, _: change(folder, "metrics.json", lambda all_: all_["t2i/hit@5"].update(values))


def cell(column: str, row: int, value: Any, name: str = "per_query.parquet") -> Callable[[Path, Path], None]:
    return lambda folder, _: change_table(folder, name, lambda columns: columns[column].__setitem__(row, value))


def swapped(name: str, rows: tuple[int, int], *columns: str) -> Callable[[Path, Path], None]:
    def edit(table: dict[str, Any]) -> None:
        for column in columns:
            one, two = rows
            table[column][one], table[column][two] = table[column][two], table[column][one]

    return lambda folder, _: change_table(folder, name, edit)


def of_the_other(name: str) -> Callable[[Path, Path], None]:
    return lambda folder, other: shutil.copy(other / name, folder / name)  # type: ignore[return-value]


def bytes_of(name: str, edit: Callable[[bytearray], Any]) -> Callable[[Path, Path], None]:
    def corrupt(folder: Path, _: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        edit(data)
        (folder / name).write_bytes(data)

    return corrupt


def text_of(name: str, old: str, new: str) -> Callable[[Path, Path], None]:
    def corrupt(folder: Path, _: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return corrupt


def linked(name: str) -> Callable[[Path, Path], None]:
    def corrupt(folder: Path, other: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(other / name)

    return corrupt


def both(*steps: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    def corrupt(folder: Path, other: Path) -> None:
        for step in steps:
            step(folder, other)

    return corrupt


def new_vectors_digest(folder: Path, _: Path) -> None:
    from safetensors.numpy import load_file

    from workbench.datasets import content_digest

    digest = content_digest(load_file(folder / VECTOR_FILE)["image"])
    change(folder, "layers/embeddings.json", lambda about: about["image"].update(sha256=digest))


VECTOR_FILE, LISTS, TRUTH = "layers/embeddings.safetensors", "layers/neighbours_t2i.parquet", "layers/relevance.parquet"


def flip(data: bytearray) -> None:
    data[-16 * 36 * 4 - 8] ^= 1


def same_cluster(folder: Path) -> tuple[int, int]:
    """Two captions of one image whose values differ: swapping them leaves every mean and interval as it was."""
    table = Run(folder).per_query
    rows = range(len(table["query_id"]))
    return next(
        (i, j) for i in rows for j in rows
        if table["direction"][i] == table["direction"][j] == "t2i" and table["cluster_id"][i] == table["cluster_id"][j]
        and table["hit@1"][i] > table["hit@1"][j]
    )  # fmt: skip


def swap_within_cluster(folder: Path, other: Path) -> None:
    names = ("hit@1", "hit@5", "R@5", "MRR", "MedR", "AP@10", "best_place", "n_better", "n_tied")
    swapped("per_query.parquet", same_cluster(folder), *names)(folder, other)


@dataclass(frozen=True)
class Damage:
    """What is done to a clean folder, the lines that must fail (others may not), and what they must say.

    mended : the digests in the manifest are made to fit, so that only form and numbers can tell.
    """

    name: str
    do: Callable[[Path, Path], None]
    fails: set[str]
    says: str
    mended: bool = True


DAMAGES = [
    Damage("truncated json", cut("metrics.json"), {"metrics.json"},
           r"metrics\.json is damaged \("),
    Damage("truncated parquet", cut("per_query.parquet"), {"per_query.parquet"},
           r"per_query\.parquet is damaged"),
    Damage("empty parquet", bytes_of(TRUTH, bytearray.clear), {TRUTH},
           r"layers/relevance\.parquet is damaged"),
    Damage("edited metric, digest left", metric(value=0.75), {"files", "t2i metrics", "results"},
           r"metrics\.json is changed: another SHA-256", mended=False),
    Damage("edited metric, digest mended", metric(value=0.75), {"t2i metrics", "results"},
           r"metrics\.json: t2i/hit@5 has value 0\.75, but the values in per_query\.parquet give 0\.\d+"),
    Damage("edited interval", metric(low=0.01), {"t2i metrics", "results"}, r"t2i/hit@5 has low 0\.01, but the values"),
    Damage("edited chance", metric(chance=0.01), {"t2i values", "results"}, r"t2i/hit@5 has chance 0\.01, but layers/"),
    Damage("edited best case", metric(best=0.99), {"t2i values", "results"}, r"t2i/hit@5 has best 0\.99, but layers/"),
    Damage("edited n", metric(n=35), {"t2i metrics", "results"}, r"t2i/hit@5 has n 35, but .* give 36"),
    Damage("value outside of its interval", metric(low=0.99, high=1.0),
           {"metrics.json"},
           r"metrics\.json: t2i/hit@5 has value .* outside of low 0\.99 \.\. high 1\.0; expected low <= value <= high"),
    Damage("metric hidden", both(metric(value=None, low=None, high=None, worst=None, best=None, chance=None, n=0,
           clusters=0), lambda folder, _: change_table(folder, "per_query.parquet", lambda t: t.pop("hit@5"))),
           {"t2i metrics", "i2t metrics", "results"}, r"per_query\.parquet has no value of hit@5 in t2i, though 36 "),
    Damage("metric without n", lambda folder, _: change(folder, "metrics.json", lambda m: m["t2i/hit@5"].pop("n")),
           {"metrics.json"}, r"metrics\.json: t2i/hit@5 lacks n"),
    Damage("value as text", metric(value="0.5"), {"metrics.json"},
           r"t2i/hit@5 has value = '0\.5'; expected a finite number or null"),
    Damage("NaN in json", metric(value=float("nan")), {"metrics.json"},
           r"metrics\.json is damaged \(NaN is no JSON number\)"),
    Damage("a number beyond all numbers", text_of("metrics.json", '"low": ', '"low": 1e999, "was": '),
           {"metrics.json"}, r"has low = inf; expected a finite"),
    Damage("nested json", bytes_of("findings.json", lambda d: d.__setitem__(slice(None), b"[" * 200_000)),
           {"findings.json"}, r"findings\.json is damaged \(it is nested too deeply\)"),
    Damage("edited cell", cell("MRR", 0, 0.123), {"t2i metrics", "t2i values", "t2i scores"},
           r"per_query\.parquet: MRR of t2i query 'text-00' is 0\.123, but layers/neighbours_t2i\.parquet and"),
    Damage("edited place", cell("n_better", 40, 35), {"i2t values", "i2t scores"},
           r"per_query\.parquet: n_better of i2t query 'image-04' is 35, but"),
    Damage("two captions swapped", swap_within_cluster, {"t2i values", "t2i scores"},
           r"per_query\.parquet: \S+ of t2i"),
    Damage("infinity in a cell", cell("AP@10", 3, float("inf")), {"t2i metrics", "t2i values", "t2i scores"},
           r"per_query\.parquet: AP@10 of t2i holds what is no finite number"),
    Damage("a query twice", cell("query_id", 1, "text-00"), {"t2i metrics"},
           r"per_query\.parquet: in t2i the query id 'text-00' occurs 2 times; expected each once"),
    Damage("queries in another order", swapped("per_query.parquet", (0, 1), "query_id"), {"t2i metrics"},
           r"queries of t2i are not those of layers/items\.parquet: row 0 is 'text-01'"),
    Damage("a direction of nowhere", cell("direction", 0, "../../t2i"), {"t2i metrics", "../../t2i metrics",
           "../../t2i trec"}, r"per_query\.parquet has the direction '\.\./\.\./t2i'"),
    Damage("a column of text", lambda folder, _: change_table(folder, "per_query.parquet", lambda t: t.update(n_tied=[
           "x"] * len(t["n_tied"]))), {"per_query.parquet"},
           r"per_query\.parquet: the column 'n_tied' holds string; expected whole number"),
    Damage("a column missing", lambda folder, _: change_table(folder, LISTS, lambda t: t.pop("rank")),
           {LISTS}, r"neighbours_t2i\.parquet lacks the column 'rank'; it has query_id"),
    Damage("rank order swapped", swapped(LISTS, (0, 1), "item_id", "score"), {"t2i lists", "t2i trec"},
           r"neighbours_t2i\.parquet: row 1 \(query 'text-00', rank 2, .* is out of order"),
    Damage("ranks swapped", swapped(LISTS, (0, 1), "rank"), {"t2i lists", "t2i trec"}, r"row 0 .* is out of order"),
    Damage("two items swapped", swapped(LISTS, (0, 1), "item_id"), {"t2i trec", "t2i values", "t2i scores"},
           r"the list of query 'text-00' is not what its vector in layers/embeddings\.safetensors gives"),
    Damage("an item twice", lambda folder, _: change_table(folder, LISTS, lambda t: t["item_id"].__setitem__(
           1, t["item_id"][0])), {"t2i lists", "t2i trec"}, r"neighbours_t2i\.parquet: a list holds an item twice"),
    Damage("an item of nowhere", cell("item_id", 5, "stranger", LISTS), {"t2i lists", "t2i trec"},
           r"neighbours_t2i\.parquet: the item_id 'stranger' is not in layers/items\.parquet"),
    Damage("a score of NaN", cell("score", 5, float("nan"), LISTS), {"t2i lists", "t2i trec"},
           r"neighbours_t2i\.parquet: the score in row 5 is nan; expected a finite number"),
    Damage("a score changed", lambda folder, _: change_table(folder, LISTS, lambda t: t["score"].__setitem__(
           0, t["score"][0] + 1e-12)), {"t2i trec", "t2i scores"}, r"run_t2i\.trec: line 1 is 'text-00 Q0 image"),
    Damage("a list too short", lambda folder, _: change_table(folder, LISTS, lambda t: [c.pop() for c in t.values()]),
           {"t2i lists", "t2i trec"}, r"the list of query 'text-35' has 11 items; expected 12"),
    Damage("trec line edited", text_of("run_i2t.trec", " Q0 text-", " Q0 text-9"), {"i2t trec"},
           r"run_i2t\.trec: line 1 is .*; expected .*, as in layers/neighbours_i2t\.parquet"),
    Damage("per query of another run, digest left", of_the_other("per_query.parquet"),
           {"files", "t2i metrics", "i2t metrics", "t2i values", "i2t values", "t2i scores", "i2t scores"},
           r"per_query\.parquet is changed", mended=False),
    Damage("per query of another run", of_the_other("per_query.parquet"),
           {"t2i metrics", "i2t metrics", "t2i values", "i2t values", "t2i scores", "i2t scores"},
           r"metrics\.json: t2i/\S+ has value"),
    Damage("metrics of another run", of_the_other("metrics.json"),
           {"t2i metrics", "i2t metrics", "t2i values", "i2t values", "findings", "results"}, r"results\.json: t2i/"),
    Damage("results of another run", of_the_other("results.json"), {"results"}, r"results\.json: t2i/hit@1 is"),
    Damage("findings of another run", of_the_other("findings.json"), {"findings"}, r"findings\.json: t2i/hit@1 is"),
    Damage("lists of another run", of_the_other(LISTS), {"t2i trec", "t2i values", "t2i scores"},
           r"run_t2i\.trec: line 1 is"),
    Damage("judgements of another run", of_the_other(TRUTH),
           {"t2i values", "i2t values", "t2i scores", "i2t scores", "content hash"},
           r"layers/relevance\.parquet are not those of the content hash \w{16} in manifest\.json"),
    Damage("items of another run", of_the_other("layers/items.parquet"), {"content hash", "vectors"},
           r"layers/items\.parquet and"),
    Damage("a vector digest edited", cell("vector_digest", 3, "0" * 16, "layers/items.parquet"), {"vectors"},
           r"layers/items\.parquet: the vector_digest of 'image-03' is '0{16}', not that of its vector in"),
    Damage("vectors of another run", of_the_other(VECTOR_FILE), {"vectors"},
           r"embeddings\.safetensors: sha256 of the image vectors is"),
    Damage("one bit of a vector", bytes_of(VECTOR_FILE, flip), {"vectors"},
           r"embeddings\.safetensors: sha256 of the \w+ vectors is \w{64}, but layers/embeddings\.json has"),
    Damage("one bit of a vector, every digest mended", both(bytes_of(VECTOR_FILE, flip), new_vectors_digest),
           {"vectors"}, r"the vector_digest of 'image-\d\d' is"),
    Damage("one bit of a vector, no digest left", both(bytes_of(VECTOR_FILE, flip), new_vectors_digest,
           lambda folder, _: change_table(folder, "layers/items.parquet", lambda t: t.pop("vector_digest"))),
           {"t2i scores", "i2t scores"}, r"is not what its vector in layers/embeddings\.safetensors gives"),
    Damage("vectors are no safetensors", bytes_of(VECTOR_FILE, lambda d: d.__setitem__(slice(0, 8), b"\xff" * 8)),
           {"vectors"}, r"layers/embeddings\.safetensors is damaged \("),
    Damage("missing file", lambda folder, _: (folder / "run_t2i.trec").unlink(), {"files", "t2i trec"},
           r"run_t2i\.trec is missing", mended=False),
    Damage("missing file, not in the manifest", lambda folder, _: (folder / "run_t2i.trec").unlink(), {"t2i trec"},
           r"run_t2i\.trec is missing; expected the lists"),
    Damage("missing metrics", lambda folder, _: (folder / "metrics.json").unlink(),
           {"metrics.json"}, r"has no metrics\.json: the run was not finished"),
    Damage("missing items", lambda folder, _: (folder / "layers/items.parquet").unlink(),
           {"layers/items.parquet"}, r"has no layers/items\.parquet"),
    Damage("extra file", lambda folder, _: (folder / "layers/notes.txt").write_text("x"), {"files"},  # type: ignore[arg-type,return-value]
           r"layers/notes\.txt is extra: not in manifest\.json", mended=False),
    Damage("another schema", lambda folder, _: change(folder, "findings.json", lambda f: f.update(schema=2)),
           {"findings.json"}, r"findings\.json has schema 2, this version reads 1"),
    Damage("no UTF-8", bytes_of("findings.json", lambda d: d.__setitem__(40, 0xFF)), {"findings.json"},
           r"findings\.json is damaged \('utf-8' codec"),
    Damage("no UTF-8 in a list", bytes_of("run_t2i.trec", lambda d: d.__setitem__(3, 0xFF)), {"t2i trec"},
           r"run_t2i\.trec is damaged \('utf-8' codec"),
    Damage("a verdict of our own", lambda folder, _: change(folder, "findings.json", lambda f: f["findings"][0].update(
           verdict="fine")), {"findings.json"}, r"findings\.json: finding 0 has the verdict 'fine'"),
    Damage("a seed edited", lambda folder, _: change(folder, "manifest.json", lambda m: m["parameters"].update(seed=5)),
           {"t2i metrics", "i2t metrics", "name"}, r"manifest\.json was edited, or the folder renamed"),
    Damage("a threshold edited", lambda folder, _: change(folder, "manifest.json", lambda m: m["parameters"].update(
           near_duplicate=0.5)), {"name"}, r"parameters, content and encoder in manifest\.json give \w{8}, the folder"),
    Damage("a name that climbs", lambda folder, _: change(folder, "manifest.json", lambda m: m["files"].update(
           {"../x.json": "0" * 64})), {"files"}, r"'\.\./x\.json' leads out of the folder", mended=False),
    Damage("a name from the root", lambda folder, _: change(folder, "manifest.json", lambda m: m["files"].update(
           {"/etc/passwd": "0" * 64})), {"files"}, r"'/etc/passwd' leads out of the folder", mended=False),
    Damage("a link out of the folder", linked("findings.json"), {"files", "findings.json"},
           r"findings\.json is a link, which no run writes"),
    Damage("a folder that is a link", lambda folder, other: (folder / "more").symlink_to(other), {"files"},
           r"more is a link, which no run writes; it is not followed", mended=False),
    Damage("a pipe", lambda folder, _: os.mkfifo(folder / "pipe"), {"files"}, r"pipe is neither a file nor a folder",
           mended=False),
    Damage("a failure", lambda folder, _: write_json(folder / "failure.json", {"schema": 1, "stage": "drawing",
           "error": "boom"}), {"finished"}, r"the run stopped while drawing: boom \(failure\.json\)"),
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_damage_is_refused_with_the_reason(clean: Path, other: Path, tmp_path: Path, damage: Damage) -> None:
    folder = copied(clean, tmp_path)
    damage.do(folder, other)
    if damage.mended:
        repair(folder)
    found = verify(folder)
    assert {line.name for line in found.failed} == damage.fails, found.failed
    said = [line.text for line in found.failed]
    assert any(re.search(damage.says, text) for text in said), said
    assert not found.ok
    assert str(tmp_path) not in " ".join(said)
    shown = CliRunner().invoke(main, ["verify", str(folder)])
    assert shown.exit_code == 1, shown.output
    assert shown.output.count("  BAD  ") == len(damage.fails)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), r"is no run folder \(it has no manifest\.json\)"),
        (lambda folder: (folder / "manifest.json").write_text("{"), r"manifest\.json is damaged \("),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff{}"), r"manifest\.json is damaged \('utf-8'"),
        (lambda folder: change(folder, "manifest.json", lambda m: m.update(schema=2)),
         r"schema 2, this version reads 1"),
        (lambda folder: change(folder, "manifest.json", lambda m: m.pop("parameters")),
         r"manifest\.json lacks 'parameters' \(an object\)"),
        (lambda folder: change(folder, "manifest.json", lambda m: m.update(parameters=[])),
         r"manifest\.json: 'parameters' is a list; expected an object"),
        (lambda folder: change(folder, "manifest.json", lambda m: m["files"].update({"metrics.json": "abc"})),
         r"files\['metrics\.json'\] is 'abc'; expected a SHA-256, 64 hexadecimal digits"),
    ],
)  # fmt: skip
def test_without_a_manifest_nothing_can_be_checked(
    clean: Path, tmp_path: Path, edit: Callable[[Path], None], words: str
) -> None:
    folder = copied(clean, tmp_path)
    edit(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        verify(folder)
    shown = CliRunner().invoke(main, ["verify", str(folder)])
    assert shown.exit_code == 2
    assert re.search(words, shown.output)


def test_unfinished_folders(clean: Path, tmp_path: Path) -> None:
    for ending in (".partial", ".failed"):
        folder = copied(clean, tmp_path).rename(tmp_path / (clean.name + ending))
        found = verify(folder)
        assert [line.name for line in found.failed] == ["finished"]
        (folder / "manifest.json").unlink()
        with pytest.raises(FileNotFoundError, match="is no run folder"):
            verify(folder)


OPENED: list[str] | None = None


def _record(event: str, args: tuple[Any, ...]) -> None:
    if OPENED is not None and event == "open":
        OPENED.append(str(args[0]))


def test_nothing_outside_of_the_folder_is_opened(clean: Path, other: Path, tmp_path: Path) -> None:
    global OPENED
    folder = copied(clean, tmp_path)
    shutil.rmtree(folder / "layers")
    (folder / "layers").symlink_to(other / "layers")
    for name in ("metrics.json", "findings.json", "results.json", "per_query.parquet", "run_t2i.trec"):
        linked(name)(folder, other)
    change(folder, "manifest.json", lambda m: m["files"].update({f"../{folder.name}-secret": "0" * 64}))
    sys.addaudithook(_record)
    OPENED = []
    found = verify(folder)
    opened, OPENED = OPENED, None
    mine = [path for path in opened if str(other) in os.path.realpath(path) or path.endswith("-secret")]
    assert mine == []
    assert any(path.endswith("manifest.json") for path in opened)
    assert not found.ok
    for read in (lambda: Run(folder).metrics, lambda: Run(folder).items, lambda: Run(folder).neighbours("t2i")):
        with pytest.raises(ValueError, match="lies outside of the run folder"):
            read()
    with pytest.raises(ValueError, match="lies outside of the run folder"):
        inside(folder, "../x")


def test_exit_codes_of_several_runs(clean: Path, other: Path, tmp_path: Path) -> None:
    bad = copied(clean, tmp_path)
    (bad / "extra").write_text("x")
    run = CliRunner().invoke
    good = run(main, ["verify", str(clean), str(other)])
    assert good.exit_code == 0
    assert good.output.count("good: 19 checks passed, 0 failed") == 2
    assert run(main, ["verify", str(clean), str(bad)]).exit_code == 1
    mixed = run(main, ["verify", str(tmp_path / "nothing"), str(bad), str(clean)])
    assert mixed.exit_code == 2
    assert "not good: 18 checks passed, 1 failed" in mixed.output
    assert "is no run folder" in mixed.output
    assert run(main, ["verify"]).exit_code == 2
    told = run(main, ["verify", "--help"]).output
    assert "workbench verify runs/audit__" in told
    assert "Exit codes: 0" in told


def test_a_comparison_is_checked_as_far_as_it_goes(clean: Path, tmp_path: Path) -> None:
    folder = copied(clean, tmp_path)
    change(folder, "manifest.json", lambda m: m.update(report="compare"))
    found = verify(folder)
    assert found.ok
    assert [line.name for line in found.unchecked] == ["numbers"]
