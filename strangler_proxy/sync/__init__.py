"""Move a capability's rows and keep them in step, with one writer at any moment.

Capture notes dirty keys where the owner writes; the applier re-reads those rows and carries them to the other side;
verify compares both sides exactly; the fence refuses whoever is not the owner; the cutover moves the writer.
Explained in docs/explanation/data-ownership.md and docs/explanation/cutover.md.
"""
