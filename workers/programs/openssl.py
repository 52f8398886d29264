# SPDX-License-Identifier: Apache-2.0
"""The companion that opens envelopes and PFX files with the host's OpenSSL, for the one opener at its socket.

Own uid, no capability, no network. Keys reach the program by descriptor alone; what it opens goes into the memfd that
came along, and never into an argument, the environment or a file.
"""

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterable
from functools import partial
from io import FileIO

from ipc.channel import Channel
from ipc.errors import CommitError, UnpermittedMessage
from ipc.messages import DecryptEnvelope, Message, Openssl, ProgramEnded, ProgramFailed, UnpackPfx, VerifySignature
from ipc.provided import Main, Provided
from workers.programs import runner
from workers.programs.serving import serve

NAME = "openssl"
PATIENCE_S = 5.0
# Of a signature over a package of 1 GiB, on a slow machine.
LONG_PATIENCE_S = 60.0
PIECE_BYTES = 64 * 1024
NOWHERE = 1
# By itself OpenSSL trusts whoever the machine trusts for its connections: none of them signs what root runs.
TRUSTS_NOBODY = {"SSL_CERT_FILE": "/dev/null", "SSL_CERT_DIR": "/dev/null"}
# The program writes the file out again unless it is told where to; standard output leads nowhere here.
VERIFY = ("cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", "-no_check_time", "-no-CApath")
LONGEST_COMPLAINT = 4096
# Nothing of the host's configuration is read: it could load an engine, or other providers. Here nothing is there.
PLAIN = {**runner.ENVIRONMENT, "OPENSSL_CONF": "/dev/null"}
# Which module is validated, and how it is set up, only that configuration knows.
FIPS = {**runner.ENVIRONMENT, "OPENSSL_FIPS": "1"}


def answer(names: Iterable[str], request: Message, descriptors: tuple[int, ...]) -> Message:
    """Run OpenSSL for `request`. ProtocolViolation for one that no opener would send."""
    if isinstance(request, DecryptEnvelope) and len(descriptors) == 4:
        envelope, key, certificate, output = descriptors
        words = ["cms", "-decrypt", "-inform", "DER", "-inkey", _file(key), "-recip", _file(certificate)]
        return _run(names, request.openssl, words, (envelope, output, key, certificate))
    if isinstance(request, UnpackPfx) and len(descriptors) == 2:
        # The password is empty, for everybody (wire-protocol.md 5.2): no secret.
        words = ["pkcs12", "-nodes", "-passin", "pass:", *(("-nomacver",) if request.integrity == "ignored" else ())]
        return _run(names, request.openssl, words, descriptors)
    if isinstance(request, VerifySignature) and len(descriptors) == 4:
        return _verify(names, request.openssl, *descriptors[:3])
    raise UnpermittedMessage(f"{type(request).__name__} with {len(descriptors)} descriptors is no request here")


def _file(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def _verify(names: Iterable[str], openssl: Openssl, signature: int, package: int, authorities: int) -> Message:
    """The package goes in by a pipe: it is a file that this uid may read, and may not open."""
    read_end, write_end = os.pipe()
    with FileIO(read_end) as reader, FileIO(write_end, "w") as writer:
        words = [*VERIFY, "-content", _file(read_end), "-CAfile", _file(authorities)]
        given = (signature, NOWHERE, read_end, authorities)
        return _run(names, openssl, words, given, lambda: _feed(reader, writer, package))


def _feed(reader: FileIO, writer: FileIO, package: int) -> None:
    """All of `package` into the pipe, as long as the program takes it and there is time."""
    # From now on only the program reads: when it ends early, the kernel says so.
    reader.close()
    os.set_blocking(writer.fileno(), False)
    ready = select.poll()
    ready.register(writer, select.POLLOUT)
    ends, at = time.monotonic() + LONG_PATIENCE_S, 0
    with writer, contextlib.suppress(BrokenPipeError):
        while piece := os.pread(package, PIECE_BYTES, at):
            if not ready.poll(max(0, int((ends - time.monotonic()) * 1000))):
                return
            at += os.write(writer.fileno(), piece)


def _run(
    names: Iterable[str],
    openssl: Openssl,
    words: list[str],
    given: tuple[int, ...],
    feed: Callable[[], None] | None = None,
) -> Message:
    """`given`: standard input, standard output, and what else the program is to have open; `feed` runs beside it."""
    name = openssl.path.rpartition("/")[2] or NAME
    if name not in names:
        return ProgramFailed(f"policy names no program {name[:64]!r}")
    path = openssl.path or runner.find(NAME)
    if not path:
        return ProgramFailed(f"program {NAME} is not installed")
    stdin, output, *others = given
    os.lseek(stdin, 0, os.SEEK_SET)
    complaint = os.memfd_create("complaint", os.MFD_CLOEXEC)
    try:
        process = runner.start(
            [path, *words],
            stdin=stdin,
            stdout=output,
            stderr=complaint,
            pass_fds=others,
            env={**(FIPS if openssl.is_fips else PLAIN), **TRUSTS_NOBODY},
            process_group=0,
        )
        if feed is not None:
            feed()
        in_time = runner.wait(process, PATIENCE_S)
        text = os.pread(complaint, LONGEST_COMPLAINT, 0).decode("ascii", "replace")
        return ProgramEnded(process.wait(), text, timed_out=not in_time)
    except CommitError as error:
        return ProgramFailed(error.problem[:1000])
    finally:
        os.close(complaint)


def prepare(provided: Provided) -> Main:
    """The companion's main function; its own policy says whether it may run OpenSSL at all."""
    names = [program.name for program in provided.policies[provided.kind].profile.runs]
    return partial(main, names)


def main(names: Iterable[str], channel: Channel, lock: Callable[[], None]) -> None:
    """Companion entry."""
    serve(channel, lock, partial(answer, names))
