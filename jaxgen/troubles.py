"""What the machine refuses, in one line: backends, memory, files and packages that are not there.

JAX, XLA and the libraries below them raise errors of many kinds for what a user can change. Here,
and nowhere else, they become the `InputError` or `RetryError` that says it."""

import errno
import os
import re
import traceback

from jaxgen.errors import InputError, RetryError

_MEMORY = re.compile(
    r"RESOURCE_EXHAUSTED|out of memory|bad_alloc|OUT_OF_MEMORY|unable to allocate", re.IGNORECASE
)
_BACKEND = re.compile(
    r"Unable to initialize backend '(.*?)': (.*?)(?: \(set JAX_PLATFORMS|$)", re.S
)
_MAY_PASS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE)
_PACKAGES = {"PIL": "pillow", "orbax": "orbax-checkpoint", "sklearn": "scikit-learn"}
_EXTRAS = {"array_record": "data", "tensorflow_datasets": "data", "grain": "data"}
_INSTALLATION = re.compile(r"jaxlib|cannot open shared object file|undefined symbol|CUDA driver")
LESS_MEMORY = (
    "lower the batch size (training: config.train.batch_size, or a larger config.train.accumulate, "
    "remat=True where a network has it, or config.parallel.fsdp over more devices; samples: "
    "--batch_size or config.sample.batch_size)"
)


def is_memory(error: BaseException) -> bool:
    """Whether there was not enough memory, on a device or on the host."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and bool(_MEMORY.search(str(error)))
    )


def explained(error: BaseException, safe: str = "") -> InputError | None:
    """The one line for an error of the machine; None for any other, which is a fault of ours.

    safe: what is not lost, such as "the last good checkpoint is step 4"."""
    if isinstance(error, InputError):
        return error
    text = " ".join(str(error).split())
    if is_memory(error):
        found = f"out of memory{_asked(text)}: {LESS_MEMORY}"
        return InputError(f"{found}; {safe}" if safe else found)
    if isinstance(error, OSError):
        kind = RetryError if error.errno in _MAY_PASS else InputError
        return kind(f"{error.strerror or error}: {error.filename or 'while writing'}")
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").split(".")[0]
        return None if package == "jaxgen" else InputError(_missing(package))
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if isinstance(error, RuntimeError) and (match := _BACKEND.search(text)):
        if "already in use" in text:
            return RetryError(f"the {match[1]} is used by another process: {match[2]}")
        return _no_backend(match[1], platforms, match[2])
    if isinstance(error, AssertionError) and _passed(error, "xla_bridge.py"):
        return _no_backend(platforms.split(",")[0], platforms, "it is not installed")
    if isinstance(error, (ImportError, RuntimeError)) and _INSTALLATION.search(text):
        return InputError(f"JAX cannot start on this machine: {text[:300]}")
    return None


def _asked(text: str) -> str:
    """What was asked for at once, as far as the error says it."""
    if match := re.search(r"allocat\w*\D{0,20}?(\d{4,}) ?bytes", text):
        return f" ({int(match[1]) / 2**30:.3g} GiB were asked for at once)"
    match = re.search(r"allocat\w* ([\d.]+ ?[KMGT]i?B)", text)
    return f" ({match[1]} were asked for at once)" if match else ""


def _missing(package: str) -> str:
    """What to do about a package that is not there."""
    name = _PACKAGES.get(package, package)
    wanted = f"'jaxgen[{_EXTRAS[package]}]'" if package in _EXTRAS else name
    return f"the package {name} is missing: pip install {wanted}"


def _no_backend(name: str, platforms: str, why: str) -> InputError:
    where = f"JAX_PLATFORMS={platforms}: " if platforms else ""
    why = why.split("(set JAX_PLATFORMS")[0].strip().rstrip(".")
    extra = {"cuda": "cuda", "gpu": "cuda", "tpu": "tpu"}.get(name)
    install = f", or install it: pip install 'jaxgen[{extra}]'" if extra else ""
    return InputError(
        f"{where}there is no backend '{name}' here ({why}): unset JAX_PLATFORMS or set it to cpu"
        f"{install}"
    )


def _passed(error: BaseException, file: str) -> bool:
    return any(f.filename.endswith(file) for f in traceback.extract_tb(error.__traceback__))
