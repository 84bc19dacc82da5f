"""What a team writes: capability files, parsed and checked, every problem with its file and line."""

from strangler_proxy.plan.capability_file import parse_capability
from strangler_proxy.plan.plans import DEFAULT_FILE, Plans, SourceFile, load_plans, read_files

__all__ = ["DEFAULT_FILE", "Plans", "SourceFile", "load_plans", "parse_capability", "read_files"]
