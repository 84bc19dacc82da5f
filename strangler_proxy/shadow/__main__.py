"""`python -m strangler_proxy.shadow DESCRIPTOR`: the judging process of one proxy process; see `shadow.link`.

It is started by its proxy alone: its settings, the secret among them, come over the socket pair.
"""

from __future__ import annotations

import sys

from strangler_proxy.shadow.process import judge_at
from strangler_proxy.store.evidence_opened import open_evidence

if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit("This is the judging process of a proxy and is started by it: strangler serve --candidate URL")
    judge_at(int(sys.argv[1]), open_evidence)
