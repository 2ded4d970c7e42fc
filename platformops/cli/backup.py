"""`platformops backup`: a proven copy of what the platform knows, with a certificate, and the way back from one."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson

if TYPE_CHECKING:
    from platformops.home import Home
    from platformops.store.records import JsonObject

ARTIFACTS, CERTIFICATE = "artifacts", "backup.json"
STORE = re.compile(r"store-[0-9a-f]{16}\.db")
"""By what is in it: the certificate names it, so that both change in one instant."""
LOCAL_STORE = "sqlite:///"

Folder = Annotated[
    Path, typer.Argument(help="Of the backup; the next one there copies only what is new.", show_default=False)
]
Restore = Annotated[bool, typer.Option("--restore", help="Bring back into an empty home what is in the folder.")]


def backup(folder: Folder, restore: Restore = False, json_: AsJson = False) -> None:
    """Copy the store and all artifacts while everything runs, check every byte of them, and certify it."""
    from platformops.cli import settings
    from platformops.cli.output import next_step, print_json, say
    from platformops.clock import SystemClock

    where, place = settings.home(), folder.expanduser().absolute()
    told = restored(place, where) if restore else made(place, where, SystemClock().now())
    if json_:
        print_json(told)
    else:
        say(_said(told, place, is_restored=restore))
        for line in told["damaged"]:  # type: ignore[union-attr]  # as this module made it
            say(f"damaged, and left out: {line}")
        next_step("platformops status" if restore else f"platformops backup {folder} --restore, in an empty home")
    if told["damaged"]:
        raise typer.Exit(1)


def made(folder: Path, home: Home, now: float) -> JsonObject:
    """The certificate of a backup in `folder`; it is in the store as well. Raises PlatformError, and then the backup
    that was there before is as it was."""
    from platformops.cli import settings
    from platformops.store.backup import LAST, copy_artifacts, copy_store
    from platformops.store.trouble import named

    store_path, artifacts = _local(home)
    with named(f"backup {folder}", "making the folder"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = folder / ".store.db"
    copied = copy_store(store_path, aside)
    found = copy_artifacts(artifacts, folder / ARTIFACTS)
    name = f"store-{copied.sha256[:16]}.db"
    certificate: JsonObject = {
        "at": now,
        "store": name,
        "commits": copied.commits,
        "entries": copied.entries,
        "store_bytes": copied.bytes,
        "store_sha256": copied.sha256,
        "artifacts": found.copied + found.there,
        "artifacts_new": found.copied,
        "damaged": list(found.damaged),
    }
    with named(f"backup {folder}", "writing the certificate", at=folder):
        aside.replace(folder / name)
        _write(folder, certificate)
        for old in folder.glob("store-*.db"):
            if old.name != name:
                old.unlink()
    with settings.opened_store(home) as store:
        store.put(LAST, {**certificate, "to": str(folder)}, expect=None)
    return certificate


def restored(folder: Path, home: Home) -> JsonObject:
    """What was brought back. Raises UserError for a home that has a store, PlatformError for a backup that is not what
    its certificate says."""
    from platformops.errors import PlatformError, UserError
    from platformops.store.backup import copy_artifacts, copy_store, sha256_of
    from platformops.store.trouble import named
    from platformops.store.witness import Witness

    store_path, artifacts = _local(home)
    certificate = _certificate(folder)
    if store_path.exists():
        raise UserError(
            f"{store_path} exists: nothing is overwritten",
            remedy="platformops down, move it away, or set PLATFORMOPS_HOME to a new folder",
        )
    with named(f"backup {folder}", "reading the store"):
        kept = folder / str(certificate["store"])
        if sha256_of(kept) != certificate["store_sha256"]:
            raise PlatformError(f"{kept} is not what its certificate says", remedy="restore from an earlier backup")
    with named(f"home {home.root}", "making the folder"):
        store_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = copy_artifacts(folder / ARTIFACTS, artifacts)
    Witness(store_path).path.unlink(missing_ok=True)  # of a store that is no more
    copied = copy_store(kept, store_path)
    return {**certificate, "entries": copied.entries, "artifacts_new": found.copied, "damaged": list(found.damaged)}


def _local(home: Home) -> tuple[Path, Path]:
    """Files of the store and the artifacts. Raises UserError where a server keeps them."""
    from platformops.errors import UserError

    if not home.store_url.startswith(LOCAL_STORE):
        raise UserError(
            "this store is on a database server, which has backups of its own",
            remedy="pg_dump, or what its host offers",
        )
    scheme, separator, rest = home.artifacts_url.partition("://")
    if separator and scheme != "file":
        raise UserError(
            f"these artifacts are in {scheme}://, which keeps copies of its own",
            remedy="turn on versions of that bucket",
        )
    return Path(home.store_url.removeprefix(LOCAL_STORE)), Path(rest if separator else home.artifacts_url)


def _write(folder: Path, certificate: JsonObject) -> None:
    """The certificate takes the place of the one before at once."""
    from platformops.store.directory import sync_folder

    aside = folder / f".{CERTIFICATE}"
    with aside.open("w", encoding="utf-8") as file:
        file.write(json.dumps(certificate, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(folder / CERTIFICATE)
    sync_folder(folder)


def _certificate(folder: Path) -> JsonObject:
    from platformops.errors import UserError

    try:
        value = json.loads((folder / CERTIFICATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        value = None
    if not isinstance(value, dict) or not STORE.fullmatch(str(value.get("store"))):
        raise UserError(f"{folder} holds no backup", remedy="name the folder that `platformops backup` wrote")
    return value


def _said(told: JsonObject, folder: Path, *, is_restored: bool) -> str:
    what = f"{told['entries']} records and {told['artifacts_new']} artifacts"
    if is_restored:
        return f"Restored {what} from {folder}."
    more = f", {told['artifacts']} in all" if told["artifacts"] != told["artifacts_new"] else ""
    return f"Copied and checked {what}{more}: {folder}"
