"""Sphinx extension: executed pages say how long they ran, and are offered as notebooks."""

import re
from pathlib import Path

import nbformat
from docutils import nodes
from myst_nb.core.read import create_nb_reader
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx import addnodes

FOLDERS = ("tutorials/", "how-to/")
NEEDS = (
    "*To run this notebook, install the package with what notebooks need, from the directory of its source:* "
    "`pip install '.[fast,lm]' jupyter hmmlearn`"
)
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
# What unfolds on a page unfolds in its notebook, by tag of a cell.
FOLDED = {"hide-cell": ("source_hidden", "outputs_hidden"), "hide-input": ("source_hidden",)}


def plain_markdown(text):
    """Return Markdown that a notebook shows: without roles, and without links to pages that are no notebooks."""
    text = re.sub(r"\{numref\}`[^`]*`", "the figure below", text)
    text = re.sub(r"\{\w+\}`([^`<]*?)(?: <[^`]*>)?`", r"\1", text)
    text = re.sub(r"\]\((\d\d-[\w-]+)\.md\)", r"](\1.ipynb)", text)
    return re.sub(r"\[([^\]]*)\]\([^():]*\.md[^()]*\)", r"\1", text)


def metadata(tags):
    """Return the metadata of a cell of a notebook: its tags, and what of it is folded."""
    folded = {name: True for tag in tags for name in FOLDED.get(tag, ())}
    return nbformat.from_dict(({"tags": tags} if tags else {}) | ({"jupyter": folded} if folded else {}))


def as_notebook(env, docname):
    """Return a page as a notebook without results."""
    path = env.doc2path(docname)
    text = Path(path).read_text(encoding="utf-8")
    notebook = create_nb_reader(path, env.myst_config, env.mystnb_config, text).read(text)
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(NEEDS))
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        if cell.cell_type == "markdown":
            cell.source = plain_markdown(cell.source)
        cell.metadata = metadata(cell.metadata.get("tags", []))
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    return notebook


def add_line(app, doctree, docname):
    """Say below the title of a page how long it ran, and offer its notebook."""
    ran = NbMetadataCollector.get_doc_data(app.env).get(docname, {}).get("exec_data")
    if app.builder.format != "html" or not docname.startswith(FOLDERS) or not ran or ran["runtime"] is None:
        return
    place = f"_notebooks/{docname}.ipynb"
    file = Path(app.outdir, place)
    file.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(as_notebook(app.env, docname), file)
    line = nodes.paragraph(classes=["running-time"])
    line += nodes.Text(f"Ran in {ran['runtime']:.0f} s on one thread when this page was built. ")
    uri = "../" * docname.count("/") + place
    line += addnodes.download_reference("", "Download as a notebook", refuri=uri, reftarget=uri)
    title = next(doctree.findall(nodes.title))
    title.parent.insert(title.parent.index(title) + 1, line)


def setup(app):
    """Register the hook."""
    app.connect("doctree-resolved", add_line)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
