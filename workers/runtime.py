# SPDX-License-Identifier: Apache-2.0
"""Owns a one-shot worker's life after confinement: lock, say ready, take a request, answer, return.

Runs in every worker. Together with the supervisor's loop it is one of the two places that may catch every exception;
what it catches ends the process, with the stack on stderr and never in a message.
"""

import sys
from collections.abc import Callable, Iterable, Mapping

from ipc.channel import Channel
from ipc.descriptors import close_all
from ipc.errors import ChannelClosed, CommitError, InputError, MalformedMessage, UnpermittedMessage
from ipc.messages import CommitFailed, InputRefused, Message, WorkerReady

EXIT_BUG = 70
TEXT_LIMIT = 1000
PATHS_LIMIT = 16

Answer = Message | tuple[Message, tuple[int, ...]]
Handler = Callable[..., Iterable[Answer]]
Handlers = Mapping[type[Message], Handler]


def serve_once(channel: Channel, lock: Callable[[], None], handlers: Handlers, *, again: bool = False) -> None:
    """Serve one request on `channel`; with `again` then others, of the same errand, as long as there are any. `lock`
    loads the final system-call filter and comes before the first request.

    `handlers` maps a request's type to a callable of (request, its descriptors, which it owns) that yields answers.
    InputError becomes InputRefused and CommitError becomes CommitFailed; anything else ends the process with 70."""
    try:
        lock()
        channel.send(WorkerReady())
        _serve(channel, handlers)
        while again:
            _serve(channel, handlers)
    except ChannelClosed:
        return
    except Exception:
        sys.__excepthook__(*sys.exc_info())
        sys.stderr.flush()
        raise SystemExit(EXIT_BUG) from None
    finally:
        channel.close()


def _serve(channel: Channel, handlers: Handlers) -> None:
    request, descriptors = channel.receive()
    handler = handlers.get(type(request))
    if handler is None:
        close_all(descriptors)
        raise UnpermittedMessage(f"{type(request).__name__} is no request of this worker")
    _answer(channel, handler, request, descriptors)


def _answer(channel: Channel, handler: Handler, request: Message, descriptors: tuple[int, ...]) -> None:
    try:
        for answer in handler(request, descriptors):
            message, attached = answer if isinstance(answer, tuple) else (answer, ())
            channel.send(message, attached)
            close_all(attached)
    except InputError as error:
        channel.send(InputRefused(error.where[:TEXT_LIMIT], error.problem[:TEXT_LIMIT]))
    except MalformedMessage as error:
        channel.send(InputRefused("answer", f"too large to hand over: {error}"[:TEXT_LIMIT]))
    except CommitError as error:
        channel.send(CommitFailed(error.problem[:TEXT_LIMIT], error.changed, error.paths[:PATHS_LIMIT]))
