"""A child that hangs, with a grandchild that holds the same pipe: the case for which blocking reads have no answer.

The child prints a line, starts a process of its own on the same stdout, and hangs. Whoever reads that pipe until its end
waits for ever, also after killing the child, since the grandchild has the pipe too. Here the reader gets what was
printed, gives up after a while, ends the whole tree and goes on.
"""

import sys

import tpio

CHILD = """
import subprocess, sys, time
print("working on it ...", flush=True)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], stdout=sys.stdout)
time.sleep(1000)
"""


def main() -> None:
    with tpio.spawn([sys.executable, "-c", CHILD], stdin=tpio.DEVNULL, stdout=tpio.PIPE) as child:
        assert child.stdout is not None
        print("the child says:", child.stdout.read(1000).result().decode().strip())
        try:
            child.communicate(timeout=0.5).result()
        except TimeoutError as error:
            print("no end in sight:", error)
            child.kill()  # and all that it has started
            rest, _ = child.communicate().result()  # now the pipe has an end
            print(f"killed, exit code {child.returncode}, {len(rest)} bytes more")
    print("the program goes on")


if __name__ == "__main__":
    main()
