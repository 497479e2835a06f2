"""One run at a time in a folder: a second command would delete what the first is saving."""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator

import numpy as np

from jaxgen import distributed, files
from jaxgen.errors import InputError

# of file systems, such as some network mounts
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def hold(workdir: str) -> Iterator[None]:
    """Keep others from training in `workdir`; raises InputError where another process trains there.

    The kernel holds the lock and lets go of it when the process dies, however that happens; between
    the machines that share a folder by NFS, its server does. The file stays: removing it could
    remove the lock of the next one. Of several processes of one run the first one locks. Where the
    file system has no locks, as in a bucket, nothing is guarded."""
    file, holder = None, ""
    if distributed.is_main() and not files.is_remote(workdir):
        file, holder = _locked(os.path.join(workdir, "lock"))
    with file or contextlib.nullcontext():
        if distributed.of_main(np.array(bool(holder))):
            raise InputError(
                f"another process trains in {workdir}{holder}: wait for its end, or give another "
                f"--workdir"
            )
        yield


def _locked(path: str):
    """(the open file that holds the lock, "") or (None, who holds it)."""
    file = open(path, "a+")  # NFS locks only what is open for writing
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return file, ""
        with file:
            if not isinstance(error, BlockingIOError):
                raise
            file.seek(0)
            return None, f" ({file.read(200).strip() or 'just started'})"
    with contextlib.suppress(OSError):  # it is only for the message of another process
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
    return file, ""
