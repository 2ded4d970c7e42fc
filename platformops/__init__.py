"""PlatformOps: from one YAML file to a live, gated endpoint on Ray."""

__version__ = "0.1.0"
