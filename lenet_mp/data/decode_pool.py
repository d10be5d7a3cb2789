"""Decoding on several processes into one shared buffer; an image that kills its process is a bad image, no more.

Processes are started afresh, never forked: a fork after an OpenMP region hangs. Pixels travel through shared memory,
only names and outcomes through pipes.
"""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
import os
import signal
import subprocess
import sys
from collections import deque
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from lenet_mp.data import jpeg_store
from lenet_mp.data.decode_worker import SECONDS_PER_IMAGE, Outcome
from lenet_mp.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lenet_mp.data.images import Decoder

Task = tuple[int, str]  # slot, file
Work = tuple["Decoder", int | None, int]  # what to decode to, JPEG quality, number of slots

_TASKS_PER_MESSAGE = 16
_MESSAGES_PER_WORKER = 4
"""At least so many are made of what is submitted at once, as long as that suffices: all processes get their share."""
# Enough for a process to keep busy while this one writes a shard.
_MESSAGES_AHEAD = 16
# The package may not be installed: the child gets this one's place explicitly.
_START = "import sys; sys.path.insert(0, sys.argv[1]); from lenet_mp.data.decode_worker import main; main()"


class _Worker:
    """One decoding process and the messages it has not answered yet, oldest first."""

    def __init__(self, work: Work, memory: int) -> None:
        self.pipe, theirs = Pipe()
        self.unanswered: deque[list[Task]] = deque()
        self.process = subprocess.Popen(  # noqa: S603 - this interpreter, this package
            [sys.executable, "-c", _START, str(Path(__file__).parents[2]), str(theirs.fileno()), str(memory)],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), memory),
            # One core each; and a BLAS that reserves memory for many threads would eat the limit.
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        theirs.close()
        self.pipe.send(work)

    def send(self, tasks: list[Task]) -> None:
        self.unanswered.append(tasks)
        with contextlib.suppress(OSError):  # it died; the next wait notices
            self.pipe.send(tasks)

    def death(self) -> str:
        """Why the process ended."""
        code = self.process.wait()
        if code == -signal.SIGXCPU:
            return f"takes more than {SECONDS_PER_IMAGE} s to decode"
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"makes the decoder crash ({how})"


class DecodePool:
    """Processes that decode files into the slots of ``buffer``.

    Attributes
    ----------
    buffer : (slots, H, W, C) uint8, or (slots, bytes) uint8 for JPEG
        Shared with the processes. A slot is the caller's from the moment its outcome arrives until it is
        submitted again.

    Parameters
    ----------
    decoder : Decoder
    workers : int
        Number of processes.
    slots : int
    quality : int, optional
        Store JPEG of that quality, not pixels.
    """

    def __init__(self, decoder: Decoder, *, workers: int, slots: int, quality: int | None = None) -> None:
        pixels = (*decoder.size, decoder.channels)
        shape = (slots, *pixels) if quality is None else (slots, jpeg_store.most_bytes(math.prod(pixels)))
        self._work = decoder, quality, slots
        self._memory = os.memfd_create("lenet-mp-pixels")
        try:
            os.ftruncate(self._memory, math.prod(shape))
            mapping = mmap.mmap(self._memory, 0)
        except (OSError, ValueError) as error:
            os.close(self._memory)
            limited = isinstance(error, OSError) and error.errno == errno.EFBIG
            remedy = "raise the limit of file sizes (ulimit -f)" if limited else "lower --shard-size"
            raise OutputError(f"no memory for {slots} images of {pixels}: {error}; {remedy}") from error
        self.buffer: np.ndarray = np.frombuffer(mapping, np.uint8).reshape(shape)
        self._waiting: deque[list[Task]] = deque()
        self._workers = [_Worker(self._work, self._memory) for _ in range(workers)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, tasks: Iterable[Task]) -> None:
        """Queue files for decoding, each into its slot."""
        tasks = list(tasks)
        share = len(tasks) // (_MESSAGES_PER_WORKER * len(self._workers))
        size = min(max(share, 1), _TASKS_PER_MESSAGE)
        for start in range(0, len(tasks), size):
            self._waiting.append(tasks[start : start + size])
        self._feed()

    def outcomes(self) -> list[Outcome]:
        """Wait until some queued files are done and return their outcomes, in no particular order."""
        by_pipe = {worker.pipe: worker for worker in self._workers}
        found: list[Outcome] = []
        for pipe in wait(list(by_pipe)):
            assert isinstance(pipe, Connection)  # noqa: S101 - nothing else was waited for
            worker = by_pipe[pipe]
            try:
                found += pipe.recv()
                worker.unanswered.popleft()
            except (EOFError, ConnectionError):
                found += self._bury(worker)
        self._feed()
        return found

    def close(self) -> None:
        """Stop the processes, whatever they are doing."""
        for worker in self._workers:
            worker.pipe.close()
            worker.process.kill()
            worker.process.wait()
        os.close(self._memory)

    def _feed(self) -> None:
        while self._waiting:
            idlest = min(self._workers, key=lambda worker: len(worker.unanswered))
            if len(idlest.unanswered) >= _MESSAGES_AHEAD:
                return
            idlest.send(self._waiting.popleft())

    def _bury(self, worker: _Worker) -> list[Outcome]:
        """Replace a dead process. Its oldest message holds the culprit: tried again one by one, or alone and so bad."""
        reason = worker.death()
        worker.pipe.close()
        self._workers[self._workers.index(worker)] = _Worker(self._work, self._memory)
        if not worker.unanswered:
            raise OutputError(f"a decoding process ended before its first image ({reason}); is memory short?")
        suspects = worker.unanswered.popleft()
        self._waiting.extendleft(reversed(worker.unanswered))
        if len(suspects) == 1:
            return [Outcome(suspects[0][0], reason)]
        self._waiting.extendleft([task] for task in reversed(suspects))
        return []
