"""Where the platform keeps what it knows on this machine; which place it is, is decided at the edge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """Places below one folder (`~/.platformops` unless PLATFORMOPS_HOME or `--home` says otherwise)."""

    root: Path
    store_url: str
    """`sqlite:///path` or `postgresql://...` (PLATFORMOPS_STORE)."""
    artifacts_url: str
    """A local path or an fsspec URL such as `s3://bucket/prefix` (PLATFORMOPS_ARTIFACTS)."""

    @property
    def scratch(self) -> Path:
        """What unfinished steps keep over kills: `<scratch>/<fingerprint>/`."""
        return self.root / "scratch"

    @property
    def cache(self) -> Path:
        """Local copies of remote artifacts."""
        return self.root / "cache"

    @property
    def logs(self) -> Path:
        """`<run id>.jsonl`, one structured line an event."""
        return self.root / "logs"

    @property
    def inputs(self) -> Path:
        """`<system>/<request id>`: sampled inputs of systems that retrain, for some days."""
        return self.root / "inputs"

    @property
    def retraining(self) -> Path:
        """`<system>/<number>/`: rows that a drift loop trains on and judges by."""
        return self.root / "retraining"

    @property
    def errands(self) -> Path:
        """`<id>.json`, one for each `up` or `run` under way on this machine."""
        return self.root / "errands"

    @property
    def keys(self) -> Path:
        """`<system>.key`, mode 0600: what the CLI sends; the store holds hashes only."""
        return self.root / "keys"


def home_at(root: Path, *, store_url: str | None = None, artifacts_url: str | None = None) -> Home:
    """The home at `root` with the embedded store and local artifacts unless told otherwise."""
    return Home(
        root=root,
        store_url=store_url or f"sqlite:///{root / 'store.db'}",
        artifacts_url=artifacts_url or str(root / "artifacts"),
    )
