"""How a run was measured, as a paragraph for a paper, and BibTeX of the methods behind its numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from workbench.metrics import parse_metric
from workbench.normalize import METHODS
from workbench.runs import Run

ENTRIES: dict[str, str] = {
    "workbench": """@software{{workbench,
  title = {{retrieval-workbench: an audit bench for image-text retrieval}},
  version = {{{version}}},
  note = {{git revision {revision}}}
}}""",
    "efron1979": """@article{efron1979,
  author = {Bradley Efron},
  title = {Bootstrap Methods: Another Look at the Jackknife},
  journal = {The Annals of Statistics},
  volume = {7},
  year = {1979},
  doi = {10.1214/aos/1176344552}
}""",
    "davison1997": """@book{davison1997,
  author = {A. C. Davison and D. V. Hinkley},
  title = {Bootstrap Methods and their Application},
  publisher = {Cambridge University Press},
  year = {1997}
}""",
    "mcsherry2008": """@inproceedings{mcsherry2008,
  author = {Frank McSherry and Marc Najork},
  title = {Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores},
  booktitle = {Advances in Information Retrieval (ECIR)},
  year = {2008}
}""",
    "jarvelin2002": """@article{jarvelin2002,
  author = {Kalervo J{\\"a}rvelin and Jaana Kek{\\"a}l{\\"a}inen},
  title = {Cumulated Gain-Based Evaluation of {IR} Techniques},
  journal = {ACM Transactions on Information Systems},
  volume = {20},
  year = {2002},
  doi = {10.1145/582415.582418}
}""",
    "ye2021": """@article{ye2021,
  author = {Mang Ye and others},
  title = {Deep Learning for Person Re-identification: A Survey and Outlook},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  year = {2021},
  eprint = {2001.04193},
  archiveprefix = {arXiv}
}""",
    "radovanovic2010": """@article{radovanovic2010,
  author = {Milo{\\v{s}} Radovanovi{\\'c} and Alexandros Nanopoulos and Mirjana Ivanovi{\\'c}},
  title = {Hubs in Space: Popular Nearest Neighbors in High-Dimensional Data},
  journal = {Journal of Machine Learning Research},
  volume = {11},
  year = {2010},
  url = {https://jmlr.org/papers/v11/radovanovic10a.html}
}""",
    "liang2022": """@inproceedings{liang2022,
  author = {Victor Weixin Liang and others},
  title = {Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive Representation Learning},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2022},
  eprint = {2203.02053},
  archiveprefix = {arXiv}
}""",
    "smucker2007": """@inproceedings{smucker2007,
  author = {Mark D. Smucker and James Allan and Ben Carterette},
  title = {A Comparison of Statistical Significance Tests for Information Retrieval Evaluation},
  booktitle = {Proceedings of CIKM},
  year = {2007},
  doi = {10.1145/1321440.1321528}
}""",
    "holm1979": """@article{holm1979,
  author = {Sture Holm},
  title = {A Simple Sequentially Rejective Multiple Test Procedure},
  journal = {Scandinavian Journal of Statistics},
  volume = {6},
  year = {1979},
  url = {https://www.jstor.org/stable/4615733}
}""",
    "mogstad2024": """@article{mogstad2024,
  author = {Magne Mogstad and Joseph P. Romano and Azeem M. Shaikh and Daniel Wilhelm},
  title = {Inference for Ranks with Applications to Mobility across Neighbourhoods and Academic Achievement across
           Countries},
  journal = {The Review of Economic Studies},
  volume = {91},
  year = {2024},
  doi = {10.1093/restud/rdad006}
}""",
    "romano2005": """@article{romano2005,
  author = {Joseph P. Romano and Michael Wolf},
  title = {Exact and Approximate Stepdown Methods for Multiple Hypothesis Testing},
  journal = {Journal of the American Statistical Association},
  volume = {100},
  year = {2005},
  doi = {10.1198/016214504000000539}
}""",
    "searle1992": """@book{searle1992,
  author = {Shayle R. Searle and George Casella and Charles E. McCulloch},
  title = {Variance Components},
  publisher = {Wiley},
  year = {1992}
}""",
    "welch1947": """@article{welch1947,
  author = {B. L. Welch},
  title = {The Generalization of `{Student's}' Problem when Several Different Population Variances are Involved},
  journal = {Biometrika},
  volume = {34},
  year = {1947},
  doi = {10.1093/biomet/34.1-2.28}
}""",
}
_OF_METRICS = {"nDCG": "jarvelin2002", "mINP": "ye2021"}
_SOURCE = re.compile(r"^(?P<who>.+?), (?P<where>.*?)(?P<year>(?:19|20)\d\d)(?:, (?P<url>https?://\S+?))?(?:;.*)?$")


_OF_RESULTS = {
    "missing": "Chun et al., ECCV 2022, https://arxiv.org/abs/2204.03359",
    "space": "Wang & Isola, ICML 2020, https://arxiv.org/abs/2005.10242",
    "cka": "Kornblith et al., ICML 2019, https://arxiv.org/abs/1905.00414",
    "consistency": "Nie et al., KDD 2024, https://arxiv.org/abs/2406.18254",
}
"""Where the idea of a result comes from, by the first word of its name."""


def citation(run: Run) -> str:
    """The paragraph *How this was measured*, then one BibTeX entry per method that the run used.

    run : a finished run folder of any report; everything is taken from its manifest and the names of its results.
    """
    return f"How this was measured\n\n{measured(run)}\n\n" + "\n\n".join(bibtex(run).values()) + "\n"


def measured(run: Run) -> str:
    """The protocol of a run as sentences, ready to be pasted into a paper."""
    manifest = run.manifest
    protocol: Mapping[str, str] = manifest.get("protocol", {})
    titles = {"data": "Data", "relevance": "Relevance", "encoder": "Encoder", "search": "Search", "gallery": "Gallery",
              "ties": "Ties", "systems": "Systems compared", "baseline": "Baseline", "intervals": "Intervals",
              "tests": "Tests", "places": "Places", "repairs": "Repairs"}  # fmt: skip
    said = [f"{title}: {protocol[name]}." for name, title in titles.items() if protocol.get(name, "none") != "none"]
    metrics = [f"{name} is the {text}." for name, text in protocol.items() if name not in titles and _is_metric(name)]
    versions = manifest.get("versions", {})
    shown = ", ".join(f"{name} {versions[name]}" for name in ("python", "numpy", "torch") if name in versions)
    tool = f"Measured with retrieval-workbench {manifest['workbench']} ({manifest['git_revision'][:12]}; {shown})."
    digest = f"Content hash of the test: {protocol['content hash']}." if "content hash" in protocol else ""
    return " ".join(part for part in (tool, *said, *metrics, digest) if part)


def study_citation(key: str) -> str:
    """What was asked of a paper, as a sentence, then BibTeX of the paper and of this package.

    >>> from workbench.studies import STUDIES
    >>> bool(STUDIES) and study_citation(next(iter(STUDIES))).startswith("How this was measured")
    True
    """
    from workbench import __version__
    from workbench.machine import git_revision
    from workbench.studies import STUDIES

    card = STUDIES[key].card
    last = card.authors[0].split()[-1]
    name = f"{safe_key(last)}{card.year}{safe_key(card.title.split()[0])}"
    lines = {"title": _inside(card.title), "author": _inside(" and ".join(card.authors)),
             "howpublished": _inside(card.venue), "year": str(card.year), "url": card.link}  # fmt: skip
    entry = f"@misc{{{name},\n" + ",\n".join(f"  {field} = {{{value}}}" for field, value in lines.items()) + "\n}"
    own = ENTRIES["workbench"].format(version=__version__, revision=git_revision()[:12])
    said = (
        f"The claim \u201c{card.claim}\u201d ({', '.join(card.authors)}, {card.venue} {card.year}) was measured as the "
        f"study {card.key} of retrieval-workbench {__version__}. Conditions: {card.conditions} Baselines: {card.tuned} "
        "A claim holds where the 95 % interval over seeds of the difference to the strongest control lies at or above "
        "the least difference that counts."
    )
    return f"How this was measured\n\n{said}\n\n{entry}\n\n{own}\n"


def _is_metric(name: str) -> bool:
    try:
        parse_metric(name.split(", ")[0])
    except ValueError:
        return False
    return True


def bibtex(run: Run) -> dict[str, str]:
    """BibTeX entries by key: this package, the tests and intervals, the metrics, the diagnostics and the repairs."""
    manifest, results = run.manifest, run.results
    version = {"version": manifest["workbench"], "revision": manifest["git_revision"][:12]}
    keys = ["efron1979", "davison1997", "mcsherry2008"]
    shown = [name.split(" gain(")[0].partition("/")[2] for name in run.metrics]
    keys += [key for name, key in _OF_METRICS.items() if any(one.startswith(name) for one in shown)]
    kinds = {name.split()[0] for name in results}
    keys += ["radovanovic2010"] if "hubness" in kinds else []
    keys += ["liang2022"] if "gap" in kinds else []
    paired = bool(results.get("gains")) or bool(getattr(results.get("repairs"), "outcomes", ()))
    keys += ["smucker2007", "holm1979"] if paired else []
    keys += ["mogstad2024", "romano2005"] if results.get("places") else []
    keys += ["searle1992", "welch1947"] if results.get("seeds") else []
    found = {"workbench": ENTRIES["workbench"].format(**version)} | {key: ENTRIES[key] for key in keys}
    for name in dict.fromkeys(one.repair for one in getattr(results.get("repairs"), "outcomes", ())):
        key, entry = _of_source(name, METHODS[name].source)
        found.setdefault(key, entry)
    for name, source in _OF_RESULTS.items():
        if name in kinds:
            found.setdefault(*_of_source(name, source))
    return found | _data_entry(manifest)


def _of_source(name: str, source: str) -> tuple[str, str]:
    """The entry of a repair from its stated source: authors, venue, year, link.

    >>> print(_of_source("csls", "Conneau et al., ICLR 2018, https://arxiv.org/abs/1710.04087")[1])
    @misc{conneau2018,
      author = {Conneau and others},
      howpublished = {ICLR},
      year = {2018},
      url = {https://arxiv.org/abs/1710.04087},
      note = {csls}
    }
    """
    found = _SOURCE.match(source)
    if found is None:
        return safe_key(name), f"@misc{{{safe_key(name)},\n  url = {{{source}}},\n  note = {{{name}}}\n}}"
    who = found["who"].replace(" et al.", " and others").replace(" & ", " and ")
    key = safe_key(who.split()[0]) + found["year"]
    lines = {"author": who, "howpublished": found["where"].strip(), "year": found["year"], "url": found["url"] or "",
             "note": name}  # fmt: skip
    body = ",\n".join(f"  {field} = {{{value}}}" for field, value in lines.items() if value)
    return key, f"@misc{{{key},\n{body}\n}}"


def safe_key(text: str) -> str:
    """Letters and digits only, in lower case."""
    return re.sub(r"[^a-z0-9]+", "", text.lower())


def _data_entry(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What the card of the data asks to be cited."""
    card = manifest.get("card", {})
    stated = str(card.get("citation", "not stated"))
    if stated in ("not stated", ""):
        return {}
    if stated.lstrip().startswith("@"):
        return {"data": stated.strip()}
    key = f"data-{safe_key(str(card.get('name', '')))}"
    title = _inside(str(card.get("title", card.get("name", ""))))
    return {key: f"@misc{{{key},\n  title = {{{title}}},\n  note = {{{_inside(stated)}}}\n}}"}


def _inside(text: str) -> str:
    """Plain text within the braces of an entry: its own braces would end it, and LaTeX reads the marks as commands.

    >>> print(_inside("R&D {2020} at 50%"))
    R\\&D (2020) at 50\\%
    """
    return re.sub(r"[&%$#_]", r"\\\g<0>", text.replace("{", "(").replace("}", ")"))
