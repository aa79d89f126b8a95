"""Freed memory stays with the process, where the C library can keep it."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import ctypes, resource, sys
from flexor.learner.heap import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def use():
    block = libc.malloc(16 << 20)
    ctypes.memset(block, 1, 16 << 20)
    libc.free(block)
libc.mallopt(-3, 1 << 20) if sys.argv[1] == "given back" else None  # as a fresh process has it
use()
before = faults()
for _ in range(20):
    use()
print(faults() - before)
"""


def page_faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, timeout=60, check=True)
    return int(done.stdout)


def test_a_block_that_was_freed_is_used_again_without_asking_the_kernel_for_its_pages() -> None:
    assert page_faults("given back") > 20 * 4000  # 16 MiB are 4096 pages
    assert page_faults("kept") < 100
