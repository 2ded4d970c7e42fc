"""The errors that people see: each says what is wrong and what to do about it.

PlatformError                 exit 1
├── UserError                 exit 2   what was typed, written or passed in
│   ├── SpecError             a YAML file; carries every problem of the file
│   ├── AppError              an app module lacks a function or has a wrong one
│   └── BadInput              one request or one row cannot be read
├── DataRefused               the source is readable but breaks a declared limit
├── StageFailed               a step used up its attempts
├── Cancelled                 exit 130
├── StoreError
│   ├── StoreConflict         somebody else wrote first
│   └── StoreUnavailable      exit 3
├── DiskFull                  no room for what must be written; names the disk
├── LeaseLost                 a newer owner has the fencing token
├── ArtifactCorrupt           a digest does not match; names the file
├── InvalidTransition         a state machine was asked for a move that is not in its table
├── GateRefused               a candidate may not have traffic
└── ClusterError              exit 3   Ray is not there, or not as it should be
"""

from __future__ import annotations

from collections.abc import Sequence


class PlatformError(Exception):
    """Something a person can act on: `message` says what and where, `remedy` what to do."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  fix: {self.remedy}" if self.remedy else self.message


class UserError(PlatformError):
    exit_code = 2


class SpecError(UserError):
    """Every problem of one file, one line each: `file: path: what (got value)`."""

    def __init__(self, problems: Sequence[str], *, remedy: str | None = None) -> None:
        super().__init__("\n".join(problems), remedy=remedy)
        self.problems = tuple(problems)


class AppError(UserError):
    pass


class BadInput(UserError):
    """One request body or row that cannot be read; `code` is stable and machine-readable."""

    def __init__(self, code: str, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code

    def __reduce__(self) -> tuple[type[BadInput], tuple[str, str]]:
        return (BadInput, (self.code, self.message))


class DataRefused(PlatformError):
    pass


class StageFailed(PlatformError):
    pass


class Cancelled(PlatformError):
    exit_code = 130


class StoreError(PlatformError):
    pass


class StoreConflict(StoreError):
    pass


class StoreUnavailable(StoreError):
    exit_code = 3


class DiskFull(PlatformError):
    pass


class LeaseLost(PlatformError):
    pass


class ArtifactCorrupt(PlatformError):
    pass


class InvalidTransition(PlatformError):
    pass


class GateRefused(PlatformError):
    pass


class ClusterError(PlatformError):
    exit_code = 3
