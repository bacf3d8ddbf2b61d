"""What lies about at the address of the artifacts and nothing needs any more; see `tuner.artifacts.garbage`."""

import time
from collections.abc import Iterable, Iterator, Mapping

from tuner.artifacts.garbage import PART_AGE_S, Attempts, Waste
from tuner.artifacts.local import CHECKPOINT, STUDY_NAME
from tuner.artifacts.remote import Remote, RemoteFile
from tuner.settings import Settings
from tuner.storage.storage import Store

Tree = Mapping[str, RemoteFile]


def find_far_waste(store: Store, settings: Settings, names: Iterable[str], *, studies: bool) -> list[Waste]:
    """Return what may go there, nothing when the artifacts lie in a folder; arguments as of `find_waste`.

    Raises UnreachableError.
    """
    if settings.artifacts_url is None:
        return []
    remote = Remote(settings.artifacts_url)
    trees = {name: remote.tree(name) for name in names}  # before the database is asked: see `find_waste`
    strangers = [name for name in remote.folders() if STUDY_NAME.fullmatch(name)] if studies else []
    found: list[Waste] = []
    for name, tree in trees.items():
        found += _of_study(remote, name, tree, Attempts.of(store, name))
    known = {document["name"] for document in store.studies()} if strangers else set()
    for name in strangers:
        tree = {} if name in known else remote.tree(name)
        if any(_number(path) is not None and path.endswith("/config.yaml") for path in tree):
            found.append(Waste("study", name, sum(file.size for file in tree.values()), remote))
    return found


def _of_study(remote: Remote, name: str, tree: Tree, attempts: Attempts) -> Iterator[Waste]:
    unknown: dict[int, int] = {}
    for path, file in sorted(tree.items()):
        number = _number(path)
        if number is None:
            continue
        if number not in attempts.known:
            unknown[number] = unknown.get(number, 0) + file.size
        elif number in attempts.over and file.name == CHECKPOINT:
            yield Waste("checkpoint", f"{name}/{path}", file.size, remote)
        elif file.name.startswith(".") and file.name.endswith(".part") and _is_old(file):
            yield Waste("half-written", f"{name}/{path}", file.size, remote)
    for number, size in unknown.items():
        yield Waste("attempt", f"{name}/{number}", size, remote)


def _number(path: str) -> int | None:
    """Return the number of the trial that a path `<trial>/<file>` belongs to."""
    folder, _, name = path.partition("/")
    return int(folder) if name and folder.isdecimal() and str(int(folder)) == folder else None


def _is_old(file: RemoteFile) -> bool:
    return file.modified is not None and time.time() - file.modified > PART_AGE_S
