"""Read what a child writes, while it is still running, and give it up when it hangs."""

import sys

import tpio

CHILD = "import os, time; os.write(1, b'hello'); time.sleep(3600)"

with tpio.spawn([sys.executable, "-c", CHILD], stdout=tpio.PIPE) as child:
    assert child.stdout.read(4096).result() == b"hello"  # as soon as it is written, however little

    more = child.stdout.read(4096)  # a Future: nobody waits for it, no thread is occupied
    more.add_done_callback(lambda future: print("cancelled:", future.cancelled()))
    assert not more.done()

    more.cancel()
    child.kill()  # the whole process tree
    assert child.wait().result() != 0
