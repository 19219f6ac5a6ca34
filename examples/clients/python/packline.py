"""A client of packline for asyncio: calls, streams both ways, deadlines, cancel, reconnect. Needs msgpack, Python 3.11.

In: a server's address, commands with their parameters. Out: results and items. Refused: what a server would
refuse, by a ValueError before anything is sent; all else that goes wrong is an RpcError. PROTOCOL.md has each byte.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import math
import random
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgpack  # type: ignore

__all__ = ["Call", "Client", "RpcError"]

Items = Iterable[Any] | AsyncIterable[Any] | None
Meta = Mapping[str, str] | None
Params = Mapping[str, Any] | None
Seconds = float | None
Message = dict[str, Any]

MAX_SHORT = 57_310
LONG_MARK = 0xFFFF
MAX_PAYLOAD = 1_048_576  # Of one message, in bytes, both ways.
MAX_DEPTH = 64
MAX_WAITING = 10_000  # Calls without a connection.
CREDIT = 64  # Items of a stream that may wait for their reader.
DIAL_SECONDS = 5.0
NEXT_ADDRESS_SECONDS = 0.25  # If a dial has failed: one of the host's addresses may never answer.
REST_SECONDS = 0.1  # After it, a connection is read before it is used: the process may have stood still.
CANCEL_SECONDS = 10.0  # A server answers a cancel at once.
BACKOFF_SECONDS = 0.1
CLOCK_SECONDS = 0.01  # Between two clocks that measure the same time limit.
MAX_FAILURES = 4  # The pause between attempts does not grow after these.
OWN_FIELDS = {"cmd", "seq", "ttl", "meta", "credit"}
NOT_STARTED = {"NOT_READY", "OVERLOADED", "SHUTTING_DOWN"}


class RpcError(Exception):
    """A failed call. `code` is the server's, or this client's: TIMEOUT, CANCELLED, CONNECTION_LOST, CLOSED, BAD_REPLY.

    `retryable` means that the call was not started: sending it again is safe, after `after` seconds. It never is if
    `items` is an iterator that was read: it cannot begin anew.
    """

    def __init__(
        self, code: str, message: str = "", data: Any = None, *, retryable: bool = False, after: float = 0
    ) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code, self.message, self.data = code, message, data
        self.retryable, self.after = retryable, after


def _count(value: Any) -> float:
    """A number of a server's; 0 for what is no number of anything, such as a text or an infinity."""
    return float(value) if type(value) in (int, float) and 0 < value < math.inf else 0


def _check_seconds(timeout: float) -> None:
    """Refuses what is no number: it is neither over nor not over, and the event loop would lose its order of timers."""
    if math.isnan(timeout):
        raise ValueError("timeout is a number of seconds, and is nan")


def _error_of(reply: Message) -> RpcError:
    code, after = str(reply["err"]), _count(reply.get("$after")) / 1000
    return RpcError(code, str(reply.get("msg", "")), reply.get("data"), retryable=code in NOT_STARTED, after=after)


def _check(value: Any, depth: int) -> None:
    """Refuses what a server could not read: it would answer without a `seq`, which ends the connection."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError(f"the keys of a map must be text: {value!r}")
        parts = list(value.values())
    elif type(value) in (list, tuple):
        parts = value
    elif value is None or isinstance(value, (bool, int, float, str, bytes, bytearray, memoryview)):
        return
    else:
        raise ValueError(f"{type(value).__name__} has no place in a message: {value!r}")
    if depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} containers in one another")
    for part in parts:
        _check(part, depth + 1)


def _message(fields: Message, later: int = 0) -> bytes:
    """Encodes a message, to whose end some `later` fields will be added."""
    _check(fields, 1)
    packer = msgpack.Packer()
    packed: bytes = packer.pack_map_header(len(fields) + later)
    try:
        packed += b"".join(packer.pack(name) + packer.pack(value) for name, value in fields.items())
    except (OverflowError, BufferError) as error:
        raise ValueError(f"not MessagePack: {error}") from error
    if len(packed) > MAX_PAYLOAD - 64:  # Room for a `ttl`.
        raise ValueError(f"a message of {len(packed)} bytes is more than the {MAX_PAYLOAD} that a server takes")
    return packed


class _Input:
    """The bytes of a server. Any of them is a sign of life: a long message takes its time."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.heard_at = -math.inf  # When something came.
        self._reader = reader
        self._held = bytearray()

    async def take(self, count: int) -> bytes:
        while len(self._held) < count:
            part = await self._reader.read(65_536)
            if not part:
                raise EOFError("the server closed it")
            self.heard_at = asyncio.get_running_loop().time()
            self._held += part
        taken = bytes(self._held[:count])
        del self._held[:count]
        return taken


async def _read_message(server: _Input) -> Message:
    high, low = await server.take(2)
    size = (high - 32 & 255) << 8 | (low - 32 & 255)
    is_long = size == LONG_MARK
    if is_long:
        size = int.from_bytes(await server.take(4), "big")
    if size > MAX_PAYLOAD or is_long != (size > MAX_SHORT):
        raise ValueError(f"a {'long' if is_long else 'short'} frame of {size} bytes")
    frame = await server.take(size + 1)
    if not frame.endswith(b"\n"):
        raise ValueError("the boundary between frames is lost")
    message = msgpack.unpackb(frame[:-1])
    if not isinstance(message, dict) or message.keys() <= {"seq"}:
        raise ValueError(f"{message!r} in place of a reply")
    return message


class Call(AsyncIterator[Any]):
    """A call in flight. If it streams: `async for item in call`, and then `result`. All else is for this file."""

    def __init__(self, connection: _Connection, seq: int, credit: int, deadline: float, late: RpcError) -> None:
        self.result: Any = None
        self.is_over = False
        self._connection, self._seq, self._credit = connection, seq, credit
        self._deadline, self._late = deadline, late
        self._failure: Exception | None = None
        self._items: deque[Any] = deque()
        self._received = self._taken = 0
        self._is_once = False  # The server has begun it, or items of the caller's can be read only once.
        self._room = 1  # Items of the caller's that the server still takes: one needs no grant.
        self._changed = asyncio.Event()

    async def __anext__(self) -> Any:
        while not self._items and not self.is_over:
            await self._change()
        if self._items:
            self._taken += 1
            if self._taken * 2 >= self._credit:
                self._control(credit=self._taken)
                self._taken = 0
            return self._items.popleft()
        raise self._failure or StopAsyncIteration

    def take(self, message: Message) -> None:
        """Takes what the server says about this call: an item, a final reply or a grant."""
        is_item = message.get("more") is True and "err" not in message
        if self.is_over:
            return
        if is_item and "res" not in message:
            self.give_up(RpcError("BAD_REPLY", "an item without res"))
        elif is_item and len(self._items) == self._credit:
            self.give_up(RpcError("BAD_REPLY", "an item that was not asked for: a stream needs stream(), not call()"))
        elif is_item:
            self._received += 1
            self._is_once = True
            self._items.append(message.get("res"))
        elif "err" in message:  # The caller's own limit has one code, whichever clock was first.
            left = self._deadline - asyncio.get_running_loop().time()
            is_late = message["err"] == "DEADLINE_EXCEEDED" and left < CLOCK_SECONDS
            self.settle(self._late if is_late else _error_of(message))
        elif "res" not in message:
            granted = int(_count(message.get("credit")))
            self._room += granted
            self._is_once |= granted > 0
        elif self._credit > 0 and self._received == 0 and message["res"] is not None and "$items" not in message:
            self.settle(RpcError("BAD_REPLY", "the command answers once, not with a stream: use call()"))
        else:
            self.result = message["res"]
            self.settle()
        self._changed.set()

    def settle(self, failure: Exception | None = None) -> None:
        if not self.is_over:
            if self._is_once and isinstance(failure, RpcError):
                failure.retryable = False
            self.is_over, self._failure = True, failure
            self._changed.set()

    def give_up(self, failure: Exception) -> None:
        """Ends the call here, and tells the server. The connection has it until the server answers all the same."""
        if not self.is_over:
            self._control(cancel=True)
            self._connection.unanswered_seconds = max(0.0, self._connection.unanswered_seconds)
            self.settle(failure)

    async def send_items(self, items: Iterable[Any] | AsyncIterable[Any]) -> None:
        """Sends the caller's items at the pace of the server."""
        self._is_once |= isinstance(items, (Iterator, AsyncIterator))
        try:
            async for item in items if isinstance(items, AsyncIterable) else _each(items):
                await self._connection.drain()
                while self._room < 1 and not self.is_over:
                    await self._change()
                if self.is_over:
                    return
                self._room -= 1
                self._control(item=item)
            self._control(end=True)
        except Exception as error:  # Half a stream is never a whole one: a cancel, and the caller gets the error.
            self.give_up(error)
        except BaseException as error:  # Such as CancelledError: in the caller, it would mean the caller's own task.
            self.give_up(RpcError("CANCELLED", f"the items ended with {error!r}"))
            raise
        finally:  # A generator ends with its call, so that it frees what it holds.
            if isinstance(items, AsyncGenerator):
                await items.aclose()
            elif isinstance(items, Generator):
                items.close()

    def _control(self, **fields: Any) -> None:
        """Says something about this call, unless it is over."""
        if not self.is_over:
            self._connection.send(_message({"cmd": 0, "seq": self._seq, **fields}))

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


async def _each(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


class _Connection:
    """One connection: frames, calls by `seq`, signs of life."""

    def __init__(self, client: Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.takes_calls = True
        self.calls: dict[int, Call] = {}
        self._client, self._writer = client, writer
        self._input = _Input(reader)
        self._ticked_at = self._silence_seconds = 0.0
        self.unanswered_seconds = -math.inf  # Since the first cancel that no message has followed.
        client._connections.add(self)
        self.send(_message({"cmd": 0, "max": MAX_PAYLOAD, "alive": round(client.alive * 1000), "notice": True}))
        self.reading = asyncio.create_task(self._read())
        self._interval = min(client.alive, CANCEL_SECONDS) / 3
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._tick)

    def send(self, payload: bytes) -> None:
        size = len(payload)
        header = bytes([(size >> 8) + 32 & 255, size + 32 & 255])
        if size > MAX_SHORT:
            header = b"\x1f\x1f" + size.to_bytes(4, "big")
        if not self._writer.is_closing():
            self._writer.write(header + payload + b"\n")

    async def drain(self) -> None:
        """Waits until the socket takes more, and until what came to an idle connection is read: it may be its end."""
        has_rested = asyncio.get_running_loop().time() - self._input.heard_at > REST_SECONDS
        for _ in range(3 if has_rested and not self.calls else 0):  # The loop's steps from a socket to `_take`.
            await asyncio.sleep(0)
        try:
            await self._writer.drain()
        except OSError as error:
            self.end(RpcError("CONNECTION_LOST", f"the connection ended before the reply: {error}"))

    def leave(self) -> None:
        """No more calls here: the connection ends with the last of them."""
        self.takes_calls = False
        if not self.calls:
            self.end(RpcError("CLOSED", "this connection was left"))

    def end(self, failure: RpcError) -> None:
        """Ends the connection and all its calls. The server ends them too, because it was told `alive`."""
        self.takes_calls = False
        self._client._connections.discard(self)
        self._timer.cancel()
        self._writer.transport.abort()
        for call in self.calls.values():
            call.settle(copy.copy(failure))  # Its own: where an error is raised, its traceback grows.

    async def _read(self) -> None:
        failure = RpcError("CONNECTION_LOST", "the event loop of the connection ended before the reply")
        try:
            while True:
                self._take(await _read_message(self._input))
        except (EOFError, OSError) as error:
            failure = RpcError("CONNECTION_LOST", f"the connection ended before the reply: {error}")
        except Exception as error:
            failure = RpcError("BAD_REPLY", f"the server has sent something that is no reply: {error}")
        finally:  # However it ends, also with its event loop: nothing comes any more.
            self.end(failure)

    def _take(self, message: Message) -> None:
        self.unanswered_seconds = -math.inf
        if "seq" in message:
            self._client._failures = 0
            seq = message["seq"]  # It may come as a float, and finds the same call.
            call = None if isinstance(seq, bool) else self.calls.get(seq)
            if call is not None:
                call.take(message)  # First, because what it cannot take ends the connection, and the calls that it has.
                if "err" in message or ("res" in message and message.get("more") is not True):
                    del self.calls[seq]
            if not self.takes_calls or message.get("err") == "SHUTTING_DOWN":
                self.leave()
        elif "err" in message:  # About the connection: BAD_FRAME, OVERLOADED, SHUTTING_DOWN.
            self.end(_error_of(message))
        elif "res" in message:
            raise ValueError("a reply without a seq, to no request")
        elif "going" in message:
            self.leave()

    def _tick(self) -> None:
        """While a call is open, sends a PING three times in `alive`, or in 10 s. Any byte is an answer, and any message
        an answer to a cancel. Ticks are counted, not time: a process that stood still has not been silent.
        """
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._interval, self._tick)
        is_silent = self.calls and self._input.heard_at < self._ticked_at
        self._ticked_at = loop.time()
        self._silence_seconds = self._silence_seconds + self._interval if is_silent else 0.0
        self.unanswered_seconds += self._interval
        if self._silence_seconds > max(2.0, self._client.alive) or self.unanswered_seconds > CANCEL_SECONDS:
            self.end(RpcError("CONNECTION_LOST", "the server has not answered a PING or a cancel in time"))
        elif self.calls:
            self.send(_message({"cmd": 1, "seq": next(self._client._seqs)}))


class Client(AbstractAsyncContextManager["Client"]):
    """Calls to one server over one connection, which is dialed when it is needed and anew when it is lost.

    `timeout`: seconds that a call may take, and a stream may wait to be sent. `alive`: the server hears something at
    least once in so many seconds while a call is open, 1 to 3600. A server from which nothing comes in that time, or
    in 2 s, is lost, and one that sends no message for 10 s after a cancel.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 1235, *, timeout: float = 10.0, alive: float = 10.0
    ) -> None:
        if not 1 <= alive <= 3600:
            raise ValueError("alive is 1 to 3600 seconds")
        _check_seconds(timeout)
        host = host.strip("[]")  # An address of IPv6 may be written as in a URL.
        self.host, self.port, self.timeout, self.alive = host, port, timeout, alive
        self._connections: set[_Connection] = set()  # At most one takes calls.
        self._seqs = itertools.count()
        self._failures = 0  # Attempts to connect since a server has said something.
        self._dialing: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting = 0
        self._trouble = ""
        self._is_closed = False

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connections, and with them all calls."""
        self._is_closed = True
        self._enter_loop()
        tasks = [connection.reading for connection in self._connections]
        for connection in list(self._connections):
            connection.end(RpcError("CLOSED", "the client was closed"))
        if self._dialing is not None:
            self._dialing.cancel()
            tasks.append(self._dialing)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _enter_loop(self) -> None:
        """Forgets the connections of another event loop: it may have ended without a word to its tasks."""
        if self._loop is not (loop := asyncio.get_running_loop()):
            self._loop, self._connections, self._dialing = loop, set(), None

    async def call(
        self, command: str, params: Params = None, *, timeout: Seconds = None, meta: Meta = None, items: Items = None
    ) -> Any:
        """Makes one call and returns its result. `timeout`: seconds; without it the client's, or none with `items`.

        To cancel the call, cancel its task. `items` is a stream to the command, sent at the pace of the server.
        """
        limit = timeout if timeout is not None else self.timeout if items is None else math.inf
        async with self._calling(command, params, limit, meta, items, 0) as call:
            async for _ in call:
                pass
            return call.result

    @asynccontextmanager
    async def stream(
        self, command: str, params: Params = None, *, timeout: Seconds = None, meta: Meta = None, items: Items = None
    ) -> AsyncIterator[Call]:
        """Calls a command that answers with a stream. To leave the block cancels it. `timeout` is for all of it."""
        limit = math.inf if timeout is None else timeout
        async with self._calling(command, params, limit, meta, items, CREDIT) as call:
            yield call

    @asynccontextmanager
    async def _calling(
        self, command: str, params: Params, timeout: float, meta: Meta, items: Items, credit: int
    ) -> AsyncIterator[Call]:
        """A call from its request to its end: what is not over by then is cancelled."""
        _check_seconds(timeout)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        if isinstance(items, (str, bytes, bytearray, memoryview, Mapping)):
            raise ValueError(f"items is one value, a {type(items).__name__}: give a list of it")
        if bad := [name for name in params or {} if name in OWN_FIELDS or str(name).startswith("$")]:
            raise ValueError(f"these names are never parameters: {', '.join(bad)}")
        if meta is not None and not all(isinstance(text, str) for text in meta.values()):
            raise ValueError("meta is a map of text to text")
        seq = next(self._seqs)
        own = {"cmd": command, "seq": seq, "meta": None if meta is None else dict(meta), "credit": credit or None}
        own["$items"] = None if items is None else True
        request = {**(params or {}), **{name: value for name, value in own.items() if value is not None}}
        # Encoded now: the caller may change its objects while the request waits.
        payload = _message(request, later=int(timeout < math.inf))
        connection = await self._ready(deadline)
        left = deadline - loop.time()
        if left <= 0:
            raise RpcError("TIMEOUT", "no time was left: the call was not sent", retryable=True)
        if timeout < math.inf:
            payload += msgpack.packb("ttl") + msgpack.packb(left * 1000)
        late = RpcError("TIMEOUT", f"no reply within {timeout} s")
        call = connection.calls[seq] = Call(connection, seq, credit, deadline, late)
        connection.send(payload)
        timer = loop.call_at(deadline, call.give_up, late) if timeout < math.inf else None
        upload = None if items is None else asyncio.create_task(call.send_items(items))
        try:
            yield call
        finally:
            call.give_up(RpcError("CANCELLED", "the caller has left the call"))
            if timer is not None:
                timer.cancel()
            if upload is not None:
                upload.cancel()
                await asyncio.wait([upload])  # The caller's items are not read behind the call.

    async def _ready(self, deadline: float) -> _Connection:
        """The connection for a call, which waits for it within its own time and the client's `timeout`."""
        if self._waiting >= MAX_WAITING:
            raise RpcError("OVERLOADED", f"{MAX_WAITING} calls wait for the server{self._trouble}", retryable=True)
        self._enter_loop()
        self._waiting += 1
        try:
            async with asyncio.timeout_at(min(deadline, asyncio.get_running_loop().time() + self.timeout)):
                while not self._is_closed:
                    if connection := next((each for each in self._connections if each.takes_calls), None):
                        await connection.drain()
                        if connection.takes_calls:
                            return connection
                    else:
                        if self._dialing is None or self._dialing.done():
                            self._dialing = asyncio.create_task(self._dial())
                        await asyncio.wait([dialing := self._dialing])
                        if not dialing.cancelled():
                            dialing.result()  # Raises what no new attempt can heal, such as an invalid port.
        except TimeoutError:
            raise RpcError("TIMEOUT", f"the call was not sent{self._trouble}", retryable=True) from None
        finally:
            self._waiting -= 1
        raise RpcError("CLOSED", "the client was closed: the call was not sent", retryable=True)

    async def _dial(self) -> None:
        """One attempt, after a pause that grows with the failures and has chance in it. It outlasts a call."""
        if self._failures > 0:
            await asyncio.sleep(random.uniform(0, BACKOFF_SECONDS * 2 ** min(self._failures, MAX_FAILURES)))
        self._failures += 1
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                delay = NEXT_ADDRESS_SECONDS if self._trouble else None  # Python 3.11 leaks it if the client is closed.
                reader, writer = await asyncio.open_connection(self.host, self.port, happy_eyeballs_delay=delay)
        except OSError as error:
            self._trouble = f": cannot connect to {self.host}:{self.port} ({str(error) or 'no answer'})"
        else:
            self._trouble = ""
            _Connection(self, reader, writer)
