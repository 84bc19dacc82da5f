"""Becomes the command of a child that is told when `strangler up` dies.

Run as a script, without site packages: `python -I -S launch.py SIGNAL PARENT_PID COMMAND...`. It asks the kernel for
SIGNAL at the death of the parent (Linux) and turns into COMMAND: same process id, nothing in between. A function that
runs between fork and exec would do the same, but is not safe in a process with threads.
"""

import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Arrange for the signal and exec; 127 when the command cannot be run."""
    number, parent, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(1)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main()
