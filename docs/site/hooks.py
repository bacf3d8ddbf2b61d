"""Hooks of mkdocs: adds the generated pages, and turns links into the repository into names of its files."""

import re
import sys
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from docs.site import loss_pages, reference_pages  # noqa: E402

_SHIM = "https://unpkg.com/iframe-worker/shim"
"""What mkdocs-material would load from elsewhere for the search in pages that are opened from a folder."""
_OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#]+)(?:#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add a page for every loss and the reference, made from the declarations."""
    for uri, content in {**loss_pages.pages(), **reference_pages.pages()}.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_config(config: Any) -> Any:
    """List the pages of the losses, family by family."""
    for entry in config["nav"]:
        if "Losses" in entry:
            entry["Losses"] = loss_pages.navigation()
    return config


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Name files of the repository that are not part of the site instead of linking to them."""

    def replacement(found: re.Match[str]) -> str:
        target = normpath(join(dirname(page.file.src_uri), found[2]))
        if files.get_file_from_path(target) is not None:
            return found[0]
        return f"{found[1]} (`{found[2].removeprefix('../')}` in the repository)"

    return _OUTSIDE.sub(replacement, markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Load the one script that would come from elsewhere from the site itself."""
    return output.replace(_SHIM, relpath("site/worker.js", dirname(page.file.dest_uri) or "."))


def on_post_template(output_content: str, template_name: str, **_: Any) -> str:
    """Do the same on the page for an address that there is not."""
    return output_content.replace(_SHIM, "site/worker.js")
