"""Where image rows come from: the kind of a source is read off its name, its slices can be read on any machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from platformops.apps.contract import Part, Row
from platformops.apps.image import folders, packaged, tables
from platformops.errors import DataRefused
from platformops.store.records import Json

DIGITS = "sklearn://digits"
TORCHVISION = "torchvision://"


def parts(source: str, options: Mapping[str, Json]) -> Sequence[Part]:
    """Slices of a source: Parquet row groups, a few hundred files each, or ranges of a packaged data set.

    Options: `image` and `label` name the columns of Parquet files; `root` and `download` belong to torchvision.
    Raises DataRefused for a source that is not there, is empty, or claims more than its bytes can hold.
    """
    if source == DIGITS:
        found = packaged.digit_parts(source)
    elif source.startswith(TORCHVISION):
        found = packaged.torchvision_parts(source, options)
    elif source.startswith("sklearn://"):
        raise DataRefused(f"{source}: not known", remedy=f"{DIGITS} is the one that is there")
    elif tables.is_table(source):
        found = tables.table_parts(source, options)
    else:
        found = folders.folder_parts(source)
    if not found:
        raise DataRefused(f"{source}: holds no rows", remedy="check the path and that files are below it")
    return found


def rows(part: Part) -> Iterable[Row]:
    """The rows of a part, in an order that never changes; one that cannot be read carries its problem."""
    if part.files:
        return folders.folder_rows(part)
    if part.uri == DIGITS:
        return packaged.digit_rows(part)
    if part.uri.startswith(TORCHVISION):
        return packaged.torchvision_rows(part)
    return tables.table_rows(part)
