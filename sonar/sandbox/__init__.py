"""Processes that work apart: given bytes and limits, without secrets, and ended when they must be.

Whoever reads what strangers or large files hold may fail in ways that no check foresees. Such work is done by a process
of its own, which can at most end, after a limited time and within limited memory. It is spoken to over two pipes, in
frames that neither side believes further than it has checked them; nothing is ever unpickled.

    process   one such process, seen from outside     inside    what it does first, and its loop
    frames    how both speak                          kernel    what Linux can forbid it: network and files
    environment   what it gets of the environment

Errors:

    SonarError
    |-- ProcessError    no process can be started
    |-- JobLostError    a job has no answer; `loss` says how: time, memory, crash, failure (ours) or a lie
    `-- FrameError      bytes are no frame, or not one that was asked for
"""

from sonar.sandbox.errors import FrameError, JobLostError, Loss, ProcessError
from sonar.sandbox.frames import Frame
from sonar.sandbox.process import Process

__all__ = ["Frame", "FrameError", "JobLostError", "Loss", "Process", "ProcessError"]
