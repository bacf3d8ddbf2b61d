"""One study, one content of its data: values found on another one could not be compared."""

from tuner.errors import ConflictError


def check_same_data(dataset: str, study: str, *, found: str, stored: str | None, where: str) -> None:
    """Raise ConflictError when the fingerprint of the data is another one than was stored with the study.

    Args:
        dataset: Name of the data set.
        study: Name of the study.
        found: Fingerprint of the data that is here.
        stored: Fingerprint that the study began with; None when nobody has looked yet.
        where: Where the data was read from.
    """
    if stored is None or stored == found:
        return
    raise ConflictError(
        f"the data of {dataset!r} here is not what study {study!r} began with: fingerprint {found[:16]}, "
        f"stored {stored[:16]}. Its trials could not be compared.",
        hint="Bring the data back, or begin another study by --name.",
        where=where,
    )
