"""The report of a table of methods: one HTML page, the same in Markdown, and the figures."""

import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ocsvm_jax.evaluation.metrics import METRICS
from ocsvm_jax.experiments.table import comparisons, contents, visits
from ocsvm_jax.experiments.table.captions import NAMES, Picture, draw
from ocsvm_jax.experiments.table.latent_maps import LatentMap as LatentMap
from ocsvm_jax.experiments.table.pictures import PicturesData as PicturesData
from ocsvm_jax.experiments.table.schema import PROTOCOLS, checked, protocols
from ocsvm_jax.files import whole_file
from ocsvm_jax.reports import page
from ocsvm_jax.reports.numbers import duration


def write(workdir: Path, record: Mapping[str, Any], pictures_data: PicturesData) -> Path:
    """Writes ``table.md``, ``report.html`` and ``figures/*.png`` into `workdir`.

    Each file is written under another name first and then renamed, so that a reader never finds
    half of it. A figure of an earlier report that this one does not have is removed.

    Args:
      workdir: directory of the table; made where it is missing.
      record: the content of the results file, JSON types only. ``rows`` are the rows of the table:
        ``name``, ``score``, ``group`` (``"paper"`` or ``"ours"``), ``paper`` (its published
        figures by metric, or None) and ``protocols``, which holds for ``"paper"`` and
        ``"leak_free"`` the chosen ``settings``, the figures ``valid`` and ``test`` by metric (None
        without a result), ``by_corruption`` (test AUROC) and the seeds that ``collapsed`` or
        ``diverged``, and may hold ``dimensions``, the effective number of those of the latents,
        ``ensemble``, the figures by metric of all runs as one detector, and ``scored_before``,
        other settings whose test figures came first. A figure is
        ``{"mean": m, "sd": s or None, "values": [one per seed]}``.
        ``comparisons`` holds by protocol and metric the ``best`` row and its ``rivals``, as
        `stats.Rival` has them with ``bonferroni`` and ``holm`` for the adjusted values;
        ``comparisons_of_paper``, the same among the rows of that group alone, may be left out.
        ``visited`` are the runs of the search: ``method``, ``settings``, ``seed``, ``stage``,
        ``epochs``, ``valid`` (AUROC by score), ``status`` and ``seconds``, and ``commit`` where it
        was recorded; ``guide``, the protocol that ``valid`` is of, may be left out, and so may
        ``prevalence``, the share of anomalous test images by protocol. ``wall_seconds`` is None
        where it was not measured.
      pictures_data: the arrays behind the figures.

    Returns:
      The path of ``report.html``.

    Raises:
      ValueError: the record lacks something, or the arrays of a latent map are not aligned.
    """
    record = {"prevalence": _prevalence(pictures_data)} | dict(checked(record))
    drawn = draw(record, pictures_data)
    folder = workdir / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        if name in drawn:
            with whole_file(folder / f"{name}.png") as file:
                file.write(drawn[name].image)
        else:
            (folder / f"{name}.png").unlink(missing_ok=True)
    path = workdir / "report.html"
    for target, content in ((workdir / "table.md", markdown(record)), (path, _html(record, drawn))):
        with whole_file(target) as file:
            file.write(content.encode("utf-8", errors="replace"))
    return path


def markdown(record: Mapping[str, Any]) -> str:
    """All tables of the report but the list of the points visited, in GitHub's Markdown.

    Args:
      record: see `write`.

    Raises:
      ValueError: the record lacks something.
    """
    text, parts = page.markdown_text, [f"# {page.markdown_text(checked(record)['title'])}"]
    for protocol in protocols(record):
        parts.append(f"## Results, {PROTOCOLS[protocol]}")
        parts.append(contents.results(record, protocol).markdown())
        parts.append(text(contents.reading(record, protocol)))
        if protocol == protocols(record)[0]:
            parts.append(text(contents.choice(record)))
    parts.append("## Paired bootstrap")
    parts.append(text(comparisons.bootstrap(record)))
    for among, protocol in itertools.product(comparisons.kinds(record), protocols(record)):
        for metric, table in comparisons.tables(record, protocol, among).items():
            where = f"{metric}, {PROTOCOLS[protocol]}{comparisons.AMONG[among]}"
            parts.append(f"### {text(where)}")
            parts.append(text(comparisons.verdict(record, protocol, metric, among)))
            if table.blocks[""]:
                parts.append(table.markdown())
    corruptions = _captioned(contents.by_corruption(record, p) for p in protocols(record))
    parts += ["## AUROC by corruption", *corruptions] if corruptions else []
    together = _captioned(contents.ensembles(record, p) for p in protocols(record))
    parts += ["## Ensembles", text(contents.ENSEMBLES), *together] if together else []
    parts.append("## Search")
    parts += _captioned(contents.settings(record, p) for p in protocols(record))
    parts += _captioned([visits.counts(record)])
    parts.append("## Run")
    parts.append(page.markdown_code(record["command"]))
    parts.append("\n".join(f"- {text(k)}: {text(v)}" for k, v in _facts(record).items()))
    return "\n\n".join(parts) + "\n"


def _captioned(tables: Iterable[page.Table | None]) -> list[str]:
    shown = [table for table in tables if table is not None]
    return [part for t in shown for part in (f"### {page.markdown_text(t.caption)}", t.markdown())]


def _html(record: Mapping[str, Any], drawn: Mapping[str, Picture]) -> str:
    ran = protocols(record)
    body = [f"<h1>{page.text(record['title'])}</h1>"]
    for protocol in ran:
        body.append(f"<h2>Results, {page.text(PROTOCOLS[protocol])}</h2>")
        body.append(contents.results(record, protocol).html())
        body.append(page.note(contents.reading(record, protocol)))
        if protocol == ran[0]:
            body.append(f"<p>{page.text(contents.choice(record))}</p>")
        body += _shown(drawn, f"dots_{protocol}")
    body += ["<h2>Paired bootstrap</h2>", page.note(comparisons.bootstrap(record))]
    for among, protocol in itertools.product(comparisons.kinds(record), ran):
        for metric, table in comparisons.tables(record, protocol, among).items():
            body.append(f"<p>{page.text(_sentence(record, protocol, metric, among))}</p>")
            if table.blocks[""]:
                # The table that the choice of settings aimed at; the others on demand.
                shown = protocol == ran[0] and metric == METRICS[0]
                summary = f"Table: {metric}, {PROTOCOLS[protocol]}{comparisons.AMONG[among]}"
                body.append(table.html() if shown else page.details(summary, table.html()))
    corruptions = [contents.by_corruption(record, protocol) for protocol in ran]
    tables = [table.html() for table in corruptions if table is not None]
    body += ["<h2>AUROC by corruption</h2>", *tables] if tables else []
    together = [contents.ensembles(record, protocol) for protocol in ran]
    tables = [table.html() for table in together if table is not None]
    body += ["<h2>Ensembles</h2>", page.note(contents.ENSEMBLES), *tables] if tables else []
    curves = [part for protocol in ran for part in _shown(drawn, f"roc_{protocol}")]
    body += ["<h2>ROC curves</h2>", *curves] if curves else []
    maps = _shown(drawn, "latent")
    body += ["<h2>Latents</h2>", *maps] if maps else []
    body.append("<h2>Search</h2>")
    body += [contents.settings(record, protocol).html() for protocol in ran]
    body.append(visits.counts(record).html())
    every = f"Every run of the search, {len(record['visited']):,} in all"
    body.append(page.details(every, visits.runs(record).html()))
    body += ["<h2>Run</h2>", f"<pre><code>{page.text(record['command'])}</code></pre>"]
    body.append(page.definitions(_facts(record)))
    config = json.dumps(record["config"], indent=2, ensure_ascii=False, default=str)
    body.append(page.details("Configuration in full", f"<pre>{page.text(config)}</pre>"))
    return page.page(record["title"], body)


def _sentence(record: Mapping[str, Any], protocol: str, metric: str, among: str) -> str:
    name = PROTOCOLS[protocol]
    return f"{name[0].upper()}{name[1:]}, {comparisons.verdict(record, protocol, metric, among)}"


def _shown(drawn: Mapping[str, Picture], name: str) -> list[str]:
    if name not in drawn:
        return []
    image, alt, caption, label = drawn[name]
    return [page.figure(image, alt=alt, caption=caption, scrolls=label)]


def _facts(record: Mapping[str, Any]) -> dict[str, str]:
    images = ", ".join(f"{name} {count:,}" for name, count in record["counts"].items())
    seconds = record["wall_seconds"]
    commits = {visit.get("commit") or "not recorded" for visit in record["visited"]}
    return {
        **record["facts"],
        "commits of the runs": ", ".join(sorted(commits)),
        "images": images,
        "seeds": ", ".join(map(str, record["seeds"])),
        "wall time of all calls": "not measured" if seconds is None else duration(seconds),
    }


def _prevalence(data: PicturesData) -> dict[str, float]:
    """The share of anomalous images by protocol, of any run: all score the same images."""
    labels = {
        protocol: next((run[0] for runs in rows.values() for run in runs), None)
        for protocol, rows in data.roc.items()
    }
    return {protocol: float(np.mean(own)) for protocol, own in labels.items() if own is not None}
