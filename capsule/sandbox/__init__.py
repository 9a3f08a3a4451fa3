"""Judge processes: where artifacts are decoded and decrypted, and plaintexts judged, apart from the service.

A hostile artifact can at most end the process that holds it, after a limited time and within limited memory. The
process is replaced, and the job is done once more; a secret key goes to such a process over its pipe and nowhere else.
Fetching, sealed boxes, signatures, the chain and the database stay with the service.

    calls     what service and worker ask           jobs       what a process does
    answers   what a process may answer             integers   how matrices are written
    pool      whose turn it is                      limits, meter   how much it may use, and used
    process   what one is started with

How a process is started, spoken to and ended is in `sonar.sandbox`.

Errors:

    CapsuleUnavailableError
    `-- SandboxError    no process can be started, or all were stopped: nobody's artifacts are at fault
    CapsuleError
    `-- JobLostError    a job has no answer, twice; `loss` says how: time, memory, crash, failure (ours) or a lie
"""

from capsule.sandbox.answers import Admitted, Invalid
from capsule.sandbox.calls import Desk, Sandbox
from capsule.sandbox.errors import JobLostError, SandboxError
from capsule.sandbox.limits import Limits
from capsule.sandbox.meter import PARTS

__all__ = [
    "PARTS",
    "Admitted",
    "Desk",
    "Invalid",
    "JobLostError",
    "Limits",
    "Sandbox",
    "SandboxError",
]
