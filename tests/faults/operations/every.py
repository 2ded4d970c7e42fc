"""All operations that change durable state."""

from tests.faults.operations.on_artifacts import ON_ARTIFACTS
from tests.faults.operations.on_checkpoints import ON_CHECKPOINTS
from tests.faults.operations.on_journal import ON_JOURNAL
from tests.faults.operations.on_registry import ON_REGISTRY
from tests.faults.operations.on_store import ON_STORE

OPERATIONS = (*ON_STORE, *ON_ARTIFACTS, *ON_REGISTRY, *ON_JOURNAL, *ON_CHECKPOINTS)
