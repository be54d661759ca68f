"""The report on several runs: Markdown, a page of HTML that needs nothing else, and pictures."""

import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from uniovseg_jax import html
from uniovseg_jax.eval.reports.found_results import Document
from uniovseg_jax.eval.reports.gallery import Gallery
from uniovseg_jax.eval.reports.report_tables import ReportTable
from uniovseg_jax.eval.reports.run_labels import RunLabels
from uniovseg_jax.eval.sentences import sentences_of_results
from uniovseg_jax.files import make_folder, write_text_whole, write_whole
from uniovseg_jax.visualize import contact_sheet

# Least width of a picture on the page, and where there are more than three in a row.
_CELL_PX, _MANY_CELL_PX = 320, 230
REPORT_MD, REPORT_HTML = "report.md", "report.html"
_TITLE = "Open-vocabulary segmentation: results beside the paper's"
_INTRODUCTION = (
    "Numbers of other methods and of Uni-OVSeg are those that arXiv 2402.08960 prints; scores are "
    "in percent. Rows that stand out were measured with this code. Settings are in each run's "
    "results.json."
)


def write_report(
    documents: Sequence[Document],
    labels: RunLabels,
    tables: Sequence[ReportTable],
    galleries: Sequence[Gallery],
    output: pathlib.Path,
) -> None:
    """Writes `report.md`, `report.html` and a PNG file per gallery."""
    make_folder(output)
    sentences = sentences_of_results(documents)
    body = [f"<h1>{html.text(_TITLE)}</h1>", html.paragraph(_INTRODUCTION)]
    markdown = [f"# {_TITLE}\n", f"{_INTRODUCTION}\n"]
    for table in tables:
        body.append(f"<h2>{html.text(table.title)}</h2>")
        body.append(
            html.table(table.header, table.rows, table.strong, table.groups, table.text_columns)
        )
        body += [html.paragraph(table.note, note=True)] if table.note else []
        markdown.append(table.markdown())
    for number, gallery in enumerate(galleries):
        of = gallery.document
        title = f"{of['benchmark']}, {gallery.by}: {labels.model(of)}"
        body.append(f"<h2>{html.text(title)}</h2>")
        body.append(html.paragraph(gallery.note, note=True))
        for image_id, pictures in gallery.images.items():
            figures = [
                html.figure(picture, html.text(caption), f"{image_id}, {caption}")
                for caption, picture in pictures.items()
            ]
            cell = _CELL_PX if len(figures) <= 3 else _MANY_CELL_PX
            body += [f"<h3>{html.text(image_id)}</h3>", html.grid(figures, cell)]
        name = f"gallery_{number}.png"
        write_whole(output / name, Image.fromarray(_sheet(gallery)).save)
        markdown.append(f"## {title}\n\n{gallery.note}\n\n![pictures]({name})\n")
    if sentences:
        body.append("<h2>Notes</h2>")
        body += map(html.paragraph, sentences)
        markdown.append("## Notes\n\n" + "\n".join(f"- {text}" for text in sentences) + "\n")
    page, text = html.page(_TITLE, body), "\n".join(markdown)
    write_text_whole(output / REPORT_HTML, page)
    write_text_whole(output / REPORT_MD, text)


def _sheet(gallery: Gallery) -> UInt8[np.ndarray, "h w 3"]:
    """Returns all pictures, a row per image."""
    titles, pictures, columns = [], [], 1
    for image_id, row in gallery.images.items():
        columns = len(row)
        titles += [image_id, *list(row)[1:]]
        pictures += row.values()
    return contact_sheet(pictures, titles, columns)
