"""Check built pages: links within them end somewhere, images say what they show, and notebooks fold their solutions.

Needs no network: links to other sites are left alone. Usage: python docs/check_html.py docs/_build/html
"""

import json
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

GENERATED = {"_static", "_modules"}  # of the theme, and of sources: Sphinx's own, with links that it makes itself


class Page(HTMLParser):
    """The anchors, the links and the images of one page."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.images = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes[name] for name in ("id", "name") if name in attributes}
        self.links += [attributes[name] for name in ("href", "src") if attributes.get(name)]
        if tag == "img":
            self.images.append((attributes.get("src", ""), attributes.get("alt") or ""))


def check(root):
    """Return one line for each dead link, image without words and open solution, of all pages below a folder."""
    root = Path(root).resolve()
    files = (path for path in sorted(root.rglob("*.html")) if not GENERATED & set(path.relative_to(root).parts))
    pages = {path: Page(path) for path in files}
    faults = []
    for path, page in pages.items():
        name = path.relative_to(root)
        faults += [f"{name}: image {src} has no alt text" for src, alt in page.images if not alt or alt in src]
        for link in sorted(set(page.links)):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link == "#":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.is_file():
                faults.append(f"{name}: no file behind {link}")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                faults.append(f"{name}: no anchor behind {link}")
    return faults + [
        f"{path.relative_to(root)}: an open solution"
        for path in sorted(root.rglob("*.ipynb"))
        if any(is_open(cell["metadata"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])
    ]


def is_open(metadata):
    """Return whether a cell that a page folds is not folded in its notebook."""
    return "hide-cell" in metadata.get("tags", ()) and not metadata.get("jupyter", {}).get("source_hidden")


if __name__ == "__main__":
    found = check(sys.argv[1])
    print(*found, sep="\n")
    sys.exit(f"{len(found)} faults" if found else 0)
