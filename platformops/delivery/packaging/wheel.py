"""Wheels (the binary distribution format of PEP 427) whose bytes depend on their content alone."""

from __future__ import annotations

import base64
import io
import re
import zipfile
from collections.abc import Mapping
from hashlib import sha256

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest date that a zip file can hold: with one date for all, equal files make equal wheels."""
_TAG = "py3-none-any"


def wheel_name(name: str, version: str) -> str:
    return f"{_escaped(name)}-{version}-{_TAG}.whl"


def wheel(name: str, version: str, files: Mapping[str, bytes], info: Mapping[str, str]) -> bytes:
    """The wheel's bytes. `files` are paths within site-packages; `info` are further files of its metadata folder."""
    folder = f"{_escaped(name)}-{version}.dist-info"
    head = f"Wheel-Version: 1.0\nGenerator: platformops\nRoot-Is-Purelib: true\nTag: {_TAG}\n"
    metadata = {"METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", "WHEEL": head, **info}
    whole = {**files, **{f"{folder}/{path}": text.encode() for path, text in metadata.items()}}
    record = "".join(f"{path},sha256={_digest(content)},{len(content)}\n" for path, content in sorted(whole.items()))
    whole[f"{folder}/RECORD"] = f"{record}{folder}/RECORD,,\n".encode()
    return _zipped(whole)


def data_path(name: str, version: str, path: str) -> str:
    """Where a file stands in the wheel that is to be installed at `path` below the environment's own folder."""
    return f"{_escaped(name)}-{version}.data/data/{path}"


def _zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in sorted(files.items()):
            entry = zipfile.ZipInfo(path, EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(sha256(content).digest()).decode().rstrip("=")


def _escaped(name: str) -> str:
    return re.sub(r"[^\w.]+", "_", name.replace("-", "_"))
