"""The executed notebooks as a book of HTML pages that needs no network: equations become MathML, pictures are inlined."""
from __future__ import annotations

import html
import os
import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import jinja2
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from facelab.core import PACKAGE
from facelab.course import Result, read, recorded

WIDGET = "application/vnd.jupyter.widget-view+json"

FUNCTIONS = "log|exp|sin|cos|tan|tanh|arg|det|dim|ker"  # upright names that need room before their argument


def mathml(latex: str, *, display: bool) -> str:
    """An equation as MathML, which browsers draw by themselves; its source in a ``code.tex`` where it uses an unknown command."""
    from latex2mathml.converter import convert

    source = re.sub(r"\\(begin|end)\{(aligned|align|split|gathered)\*?\}", r"\\\1{align*}", latex.strip())
    source = re.sub(r"\\(begin|end)\{equation\*?\}", "", source)
    source = re.sub(r"\\arg(?![a-z])", r"\\operatorname{arg}", source).replace(r"\tag", r"\qquad\tag")
    try:
        drawn = convert(source, display="block" if display else "inline")
    except Exception:  # the converter's own errors share no base
        drawn = "\\"
    if "\\" in drawn or "<mi>&</mi>" in drawn:  # a command it does not know, or columns outside a table
        return f'<code class="tex">{html.escape(latex.strip())}</code>'
    return re.sub(rf"<mi>({FUNCTIONS})</mi>(?!<mo[^>]*>&#x00028;)", r'<mo form="prefix" lspace="0" rspace="0.167em">\1</mo>', drawn)


class _Markdown(IPythonRenderer):
    def block_math(self, body: str) -> str:
        return mathml(body, display=True)

    def inline_math(self, body: str) -> str:
        return mathml(body, display=False)

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", display=True)


class _Exporter(HTMLExporter):
    @jinja2.pass_context
    def markdown2html(self, context: jinja2.runtime.Context, source: str) -> str:
        attachments = context.get("cell", {}).get("attachments", {})
        path = context.get("resources", {}).get("metadata", {}).get("path", "")
        return MarkdownWithMath(renderer=_Markdown(escape=False, attachments=attachments, embed_images=True, path=path)).render(source)


def body(notebook: NotebookNode, folder: Path) -> str:
    """An executed notebook's cells as HTML without scripts; pictures that it links to are looked up in ``folder``."""
    notebook = deepcopy(notebook)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [still for output in cell.outputs if (still := _still(output))]
    return _Exporter(template_name="basic", embed_images=True).from_notebook_node(notebook, {"metadata": {"path": str(folder)}})[0]


def _still(output: NotebookNode) -> NotebookNode | None:
    """An output as a page without JavaScript can show it: a widget becomes a remark, a finished progress bar nothing."""
    data = output.get("data", {})
    if WIDGET in data:
        if "%|" in data.get("text/plain", ""):
            return None
        return NotebookNode(output, data=NotebookNode({"text/html": '<p class="widget">A widget: open the notebook to move it.</p>'}))
    if "text/latex" in data:
        return NotebookNode(output, data=NotebookNode({"text/html": mathml(data["text/latex"].strip().strip("$"), display=True)}))
    return output


@dataclass(frozen=True)
class _Page:
    notebook: NotebookNode
    folder: Path
    result: Result

    @property
    def file(self) -> str:
        return f"{self.result.name}.html"

    @property
    def title(self) -> str:
        heading = re.search(r"^#\s+(.+)$", "\n".join(c.source for c in self.notebook.cells if c.cell_type == "markdown"), re.MULTILINE)
        return re.sub(r"[*`$]", "", heading[1]).strip() if heading else self.result.name

    @property
    def status(self) -> str:
        return html.escape(self.result.error or "ran to the end")


def write(paths: Sequence[Path], out: Path) -> Path:
    """Pages for those notebooks that have been run into ``out``, in order, and their index, whose path is returned."""
    pages = [_Page(read(out / p.name), p.parent, result) for p in paths if (result := recorded(out / p.name))]
    files = {page.file for page in pages}
    for i, page in enumerate(pages):
        before, after = pages[i - 1 : i] if i else [], pages[i + 1 : i + 2]
        links = "".join(
            f'<a rel="{rel}" href="{p.file}">{arrow.format(html.escape(p.title))}</a>'
            for rel, arrow, where in (("prev", "← {}", before), ("next", "{} →", after))
            for p in where
        )
        nav = f'<nav><a href="index.html">Contents</a>{links}</nav>'
        failed = f'<p class="failed">This notebook stopped: {page.status}</p>' if page.result.error else ""
        text = body(page.notebook, page.folder)
        text = re.sub(r'href="(\d\d_[\w-]+)\.ipynb', lambda m: f'href="{m[1]}.html' if f"{m[1]}.html" in files else m[0], text)
        _save(out / page.file, page.title, f"{nav}{failed}<main>{text}</main>{nav}")
    rows = "".join(
        f'<tr class="{"failed" if p.result.error else "done"}">'
        f'<td>{p.result.name[:2]}</td><td><a href="{p.file}">{html.escape(p.title)}</a></td>'
        f"<td>{p.result.seconds:.0f} s</td><td>{p.result.memory / 2**30:.1f} GiB</td><td>{p.status}</td></tr>"
        for p in pages
    )
    head = "<tr><th></th><th>Notebook</th><th>Time</th><th>Peak memory</th><th>Run</th></tr>"
    _save(out / "index.html", "facelab: the course", f"<main><h1>facelab: the course</h1><table>{head}{rows}</table></main>")
    return out / "index.html"


def _save(path: Path, title: str, content: str) -> None:
    from pygments.formatters import HtmlFormatter

    style = (PACKAGE / "book.css").read_text() + HtmlFormatter().get_style_defs(".highlight")
    page = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{style}</style></head><body>{content}</body></html>\n"
    )
    partial = path.with_name(f".{path.name}")
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, path)
