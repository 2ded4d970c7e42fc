"""Where a drill's node lives, so that what is taken from it is taken from nobody else: a share of memory and processor,
a disk, and a network of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path

from platformops.errors import ClusterError
from platformops.on_ray.undoing import Undoing

GROUPS = Path("/sys/fs/cgroup")
MEMORY_BYTES = 1_500_000_000
DISK = "128m"
PERIOD_US, SLOW_US = 100_000, 5_000
PREFIX_BITS = 30
COMMAND_S = 20.0


class Place(Enum):
    """What a node has for itself alone."""

    SHARED = "nothing"
    MEMORY = "memory"
    PROCESSOR = "processor"
    DISK = "disk"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Settled:
    """A place that is ready: what to put before the command that starts the node, and its arguments there."""

    place: Place
    wrapper: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    group: Path | None = None
    network: str = ""
    gateway: str = ""


@cache
def why_not(place: Place, head: str) -> str:
    """Why this machine has no such place from which the head's address is reached; empty where it has."""
    if place is Place.SHARED:
        return ""
    if place is Place.NETWORK and (head.startswith("127.") or head in ("localhost", "::1")):
        return f"the head listens at {head} only, which no other network reaches"
    if os.getuid() != 0:
        return f"only root can give a node {place.value} of its own"
    if place in (Place.MEMORY, Place.PROCESSOR):
        return "" if _controller(place) else f"no control group for {place.value} can be made here"
    needed = ("unshare", "mount") if place is Place.DISK else ("ip", "nsenter")
    if missing := [name for name in needed if shutil.which(name) is None]:
        return f"there is no `{missing[0]}` here"
    flag = "--mount" if place is Place.DISK else "--net"
    tried = subprocess.run(["unshare", flag, "true"], capture_output=True, timeout=COMMAND_S, check=False)
    return f"this machine does not allow a {place.value} of its own" if tried.returncode else ""


def settle(place: Place, name: str, undoing: Undoing, *, disk_at: str) -> Settled:
    """Makes the place; `disk_at` is the folder that its own disk hides.

    Raises ClusterError where it cannot be made.
    """
    try:
        match place:
            case Place.SHARED:
                return Settled(place)
            case Place.MEMORY | Place.PROCESSOR:
                return _group(place, name, undoing)
            case Place.DISK:
                script = f'mount -t tmpfs -o size={DISK} tmpfs "$1" && shift && exec "$@"'
                return Settled(place, ("unshare", "--mount", "sh", "-c", script, "sh", disk_at))
            case Place.NETWORK:
                return _network(name, undoing)
    except (OSError, subprocess.SubprocessError) as error:
        raise ClusterError(f"no {place.value} of its own can be made for the drill's node: {error}") from error


def slow_down(settled: Settled) -> None:
    """Every process of the node together gets a twentieth of a processor."""
    _set_quota(settled, SLOW_US)


def speed_up(settled: Settled) -> None:
    _set_quota(settled, None)


def cut(settled: Settled) -> None:
    """At the node's end: everything that is sent there is lost, as it is when a cable is pulled far away."""
    _ip("-n", settled.network, "link", "set", f"{settled.network}n", "down")


def mend(settled: Settled) -> None:
    _ip("-n", settled.network, "link", "set", f"{settled.network}n", "up")
    _ip("-n", settled.network, "route", "add", "default", "via", settled.gateway)


def _controller(place: Place) -> Path | None:
    """The folder in which groups are made: of version 2 where it controls this, else of version 1."""
    name = "memory" if place is Place.MEMORY else "cpu"
    with suppress(OSError):
        if name in (GROUPS / "cgroup.subtree_control").read_text().split():
            return GROUPS
    limit = "memory.limit_in_bytes" if place is Place.MEMORY else "cpu.cfs_quota_us"
    folder = GROUPS / name
    return folder if (folder / limit).exists() and os.access(folder, os.W_OK) else None


def _group(place: Place, name: str, undoing: Undoing) -> Settled:
    controller = _controller(place)
    assert controller is not None, "asked by why_not"
    folder = controller / name
    undoing.add("remove_group", str(folder))
    folder.mkdir()
    if place is Place.MEMORY:
        limit = "memory.max" if (folder / "memory.max").exists() else "memory.limit_in_bytes"
        (folder / limit).write_text(str(MEMORY_BYTES))
    joined = f'echo $$ > "{folder}/cgroup.procs" && exec "$@"'
    return Settled(place, ("sh", "-c", joined, "sh"), group=folder)


def _set_quota(settled: Settled, quota_us: int | None) -> None:
    assert settled.group is not None, "made with the place"
    if (settled.group / "cpu.max").exists():
        (settled.group / "cpu.max").write_text(f"{quota_us or 'max'} {PERIOD_US}")
    else:
        (settled.group / "cpu.cfs_quota_us").write_text(str(quota_us or -1))


def _network(name: str, undoing: Undoing) -> Settled:
    """A cable between this machine and a network with nothing but the node, numbered within 198.18.0.0/15, which RFC
    2544 sets aside for such things."""
    number = int(name[-6:], 16) % (1 << 15)
    ours, theirs = (f"198.18.{number >> 6 & 255}.{(number & 63) * 4 + end}" for end in (1, 2))
    undoing.add("remove_network", name)
    _ip("netns", "add", name)
    _ip("link", "add", f"{name}h", "type", "veth", "peer", "name", f"{name}n", "netns", name)
    _ip("addr", "add", f"{ours}/{PREFIX_BITS}", "dev", f"{name}h")
    _ip("link", "set", f"{name}h", "up")
    _ip("-n", name, "addr", "add", f"{theirs}/{PREFIX_BITS}", "dev", f"{name}n")
    for device in ("lo", f"{name}n"):
        _ip("-n", name, "link", "set", device, "up")
    _ip("-n", name, "route", "add", "default", "via", ours)
    entered = ("nsenter", f"--net=/var/run/netns/{name}")
    return Settled(Place.NETWORK, entered, (f"--node-ip-address={theirs}",), network=name, gateway=ours)


def _ip(*arguments: str) -> None:
    command: Sequence[str] = ("ip", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    if done.returncode:
        raise ClusterError(f"`{' '.join(command)}`: {done.stderr.strip() or done.returncode}")
