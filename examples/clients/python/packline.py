"""A client of packline for asyncio: calls, streams both ways, deadlines, cancel, reconnect. Needs msgpack, Python 3.11.

In: a server's address, commands with their parameters. Out: results and items. Refused: what a server would
refuse, by a ValueError before anything is sent; all else that goes wrong is an RpcError. PROTOCOL.md has each byte.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

import msgpack  # type: ignore

__all__ = ["Client", "RpcError", "Stream"]

Items = Iterable[Any] | AsyncIterable[Any] | None
Meta = Mapping[str, str] | None
Params = Mapping[str, Any] | None
Seconds = float | None
Message = dict[str, Any]

MAX_SHORT = 57_310
LONG_MARK = 0xFFFF
MAX_DEPTH = 64
MAX_WAITING = 10_000
DIAL_SECONDS = 5.0
CANCEL_SECONDS = 10.0
BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.1, 10.0
MAX_SEQ = 2**32  # A larger one would come back as a float.
OWN_FIELDS = {"cmd", "seq", "ttl", "meta", "credit"}
NOT_STARTED = {"NOT_READY", "OVERLOADED", "SHUTTING_DOWN"}


class RpcError(Exception):
    """A call that failed. `code` is the server's, or TIMEOUT, CONNECTION_LOST, CLOSED or BAD_REPLY of this client.

    `retryable` means that the call was not started: sending it again is safe, after `after` seconds.
    """

    def __init__(
        self, code: str, message: str = "", data: Any = None, *, retryable: bool = False, after: float = 0
    ) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message
        self.data = data
        self.retryable = retryable
        self.after = after


def _error_of(reply: Message) -> RpcError:
    code, after = str(reply["err"]), reply.get("$after", 0)
    after = after / 1000 if isinstance(after, (int, float)) else 0
    return RpcError(code, str(reply.get("msg", "")), reply.get("data"), retryable=code in NOT_STARTED, after=after)


def _check(value: Any, depth: int) -> None:
    """Refuses what a server could not read: it would answer without a `seq`, which ends the connection."""
    if depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} containers in one another")
    if isinstance(value, Mapping):
        for key, field in value.items():
            if not isinstance(key, (str, int)):
                raise ValueError(f"the key {key!r} of a map is neither text nor an integer")
            _check(field, depth + 1)
    elif isinstance(value, (list, tuple)):
        for part in value:
            _check(part, depth + 1)
    elif value is not None and not isinstance(value, (bool, int, float, str, bytes, bytearray, memoryview)):
        raise ValueError(f"{type(value).__name__} has no place in a message: {value!r}")


def _pack(value: Any, depth: int = 2) -> bytes:
    _check(value, depth)
    try:
        packed: bytes = msgpack.packb(value)
    except (OverflowError, UnicodeEncodeError) as error:
        raise ValueError(f"not MessagePack: {error}") from error
    return packed


def _fields(fields: Mapping[str, Any]) -> bytes:
    return b"".join(_pack(name) + _pack(value) for name, value in fields.items())


def _map(count: int, fields: bytes) -> bytes:
    header: bytes = msgpack.Packer().pack_map_header(count)
    return header + fields


def _message(**fields: Any) -> bytes:
    return _map(len(fields), _fields(fields))


def _frame(payload: bytes) -> bytes:
    size = len(payload)
    if size > MAX_SHORT:
        return b"\x1f\x1f" + size.to_bytes(4, "big") + payload + b"\n"
    return bytes(((size >> 8) + 32 & 255, (size & 255) + 32 & 255)) + payload + b"\n"


class _Broken(Exception):
    """The server's bytes are no reply: the connection is of no more use."""


class _Call:
    """One call in flight: its items, then its reply or its failure."""

    def __init__(self, connection: _Connection, seq: int) -> None:
        self.connection, self.seq = connection, seq
        self.items: deque[Any] = deque()
        self.reply: Message | None = None
        self.failure: BaseException | None = None
        self.room = 1  # Items of the caller's that the server still takes: one needs no grant.
        self._changed = asyncio.Event()

    @property
    def is_over(self) -> bool:
        return self.reply is not None or self.failure is not None

    def settle(self, reply: Message | None = None, failure: BaseException | None = None) -> None:
        if not self.is_over:
            self.reply, self.failure = reply, failure
            self._changed.set()

    def add(self, item: Any) -> None:
        if not self.is_over:
            self.items.append(item)
            self._changed.set()

    def grant(self, credit: int) -> None:
        self.room += credit
        self._changed.set()

    def control(self, **fields: Any) -> None:
        """Says something about this call, unless it is over."""
        if not self.is_over:
            self.connection.send(_message(cmd=0, seq=self.seq, **fields))

    def give_up(self, failure: BaseException) -> None:
        """Ends the call here, and tells the server. The `seq` is free when the server has answered all the same."""
        if not self.is_over:
            self.control(cancel=True)
            self.settle(failure=failure)
            self.connection.expect_answer(self)

    async def comes(self) -> bool:
        """Waits for an item, or for the reply: then there is none. Raises the failure behind the last item."""
        while not self.items and not self.is_over:
            await self._change()
        if not self.items and self.failure is not None:
            raise self.failure
        return len(self.items) > 0

    async def has_room(self) -> bool:
        """Waits until the server takes one more item; false once the call is over."""
        while self.room == 0 and not self.is_over:
            await self._change()
        return not self.is_over

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class Stream:
    """The items of a reply stream: `async for item in stream`. `result` is its own result, once it has ended."""

    def __init__(self, call: _Call, credit: int) -> None:
        self.result: Any = None
        self._call, self._credit = call, credit
        self._taken = self._count = 0

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        if not await self._call.comes():
            reply = self._call.reply or {}
            self.result = reply.get("res")
            if self._count == 0 and self.result is not None and "$items" not in reply:
                raise RpcError("BAD_REPLY", "the command answers once, not with a stream: use call()")
            raise StopAsyncIteration
        item = self._call.items.popleft()
        self._count += 1
        self._taken += 1
        if self._taken * 2 >= self._credit and not self._call.is_over:
            self._call.control(credit=self._taken)
            self._taken = 0
        return item


class _Connection(asyncio.Protocol):
    """One connection: frames, calls by `seq`, signs of life. It reads in the event itself, ahead of all timers."""

    def __init__(self, client: Client) -> None:
        self.writable = asyncio.Event()
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._calls: dict[int, _Call] = {}
        self._received = bytearray()
        self._next_seq = self._frames = self._silent_ticks = 0
        self._ping_seq: int | None = None
        self._heard = self._spoke = self._is_leaving = False
        self._failure: RpcError | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        return self._failure is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.writable.set()
        self._promise()
        self._timer = self._loop.call_later(self._client.alive / 3, self._tick)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._received += data
        try:
            for payload in self._payloads():
                self._frames += 1
                self._take(payload)
                if self._failure is not None:
                    return
        except _Broken as error:
            self.lose(RpcError("BAD_REPLY", f"{error}: the connection was closed"))

    def connection_lost(self, error: Exception | None) -> None:
        reason = error or "the server closed it"
        self.lose(RpcError("CONNECTION_LOST", f"the connection ended before the reply: {reason}"))

    def send(self, payload: bytes) -> None:
        if self._failure is None:
            self._spoke = True
            self._transport.write(_frame(payload))

    def request(self, fields: Message, count: int, body: bytes) -> _Call:
        """Sends a request; `body` is `count` fields beside those."""
        call = _Call(self, self._free_seq())
        self._calls[call.seq] = call
        self.send(_map(count + len(fields) + 1, _fields(fields | {"seq": call.seq}) + body))
        return call

    def expect_answer(self, call: _Call) -> None:
        """A server answers a cancel at once; one that answers nothing at all is gone."""
        frames, late = self._frames, f"the server has not answered a cancel for {CANCEL_SECONDS:.0f} s"

        def check() -> None:
            if self._calls.get(call.seq) is call and self._frames == frames:
                self.lose(RpcError("CONNECTION_LOST", late))

        self._loop.call_later(CANCEL_SECONDS, check)

    def leave(self) -> None:
        """No more calls here: the connection ends with the last of them."""
        self._is_leaving = True
        self._client._forget(self)
        if not self._calls and self._failure is None:
            self.end(RpcError("CLOSED", "this connection was left"))

    def lose(self, failure: RpcError) -> None:
        """Ends it at once. All calls in flight have failed."""
        if self._end(failure):
            self._transport.abort()

    def end(self, failure: RpcError) -> None:
        """Ends it in order: what was written still goes out."""
        for call in self._calls.values():
            call.give_up(failure)
        if self._end(failure):
            self._transport.close()

    def _end(self, failure: RpcError) -> bool:
        if self._failure is not None:
            return False
        self._failure = failure
        if self._timer is not None:
            self._timer.cancel()
        self.writable.set()
        self._client._forget(self, is_gone=True)
        for call in self._calls.values():
            call.settle(failure=failure)
        return True

    def _free_seq(self) -> int:
        while self._next_seq in self._calls or self._next_seq == self._ping_seq:
            self._next_seq = (self._next_seq + 1) % MAX_SEQ
        seq = self._next_seq
        self._next_seq = (seq + 1) % MAX_SEQ
        return seq

    def _promise(self) -> None:
        self.send(_message(cmd=0, max=self._client.max_payload, alive=round(self._client.alive * 1000), notice=True))

    def _tick(self) -> None:
        """A third of what was promised. It counts ticks, not time: a process that stood still has not been silent."""
        interval = self._client.alive / 3
        self._silent_ticks = 0 if self._heard or self._ping_seq is None or not self._calls else self._silent_ticks + 1
        if self._silent_ticks * interval >= max(2.0, self._client.alive):
            return self.lose(RpcError("CONNECTION_LOST", "the server has said nothing, not even to a PING"))
        if self._calls and self._ping_seq is None and not (self._spoke and self._heard):
            self._ping_seq = self._free_seq()
            self.send(_message(cmd=1, seq=self._ping_seq))
        elif self._calls and not self._spoke:
            self._promise()
        self._heard = self._spoke = False
        self._timer = self._loop.call_later(interval, self._tick)

    def _payloads(self) -> Iterator[bytes]:
        at, received = 0, self._received
        while len(received) - at >= 2:
            size, begin = (received[at] - 32 & 255) << 8 | received[at + 1] - 32 & 255, at + 2
            if size == LONG_MARK:
                if len(received) - at < 6:
                    break
                size, begin = int.from_bytes(received[at + 2 : at + 6], "big"), at + 6
                if size <= MAX_SHORT:
                    raise _Broken(f"a long frame for {size} bytes")
            elif size > MAX_SHORT:
                raise _Broken(f"a short frame of {size} bytes")
            if size > self._client.max_payload:
                raise _Broken(f"a frame of {size} bytes, and at most {self._client.max_payload} are taken")
            end = begin + size
            if len(received) <= end:
                break
            if received[end] != 0x0A:
                raise _Broken("the boundary between frames is lost")
            at = end + 1
            yield bytes(received[begin:end])
        del received[:at]

    def _take(self, payload: bytes) -> None:
        try:
            message = msgpack.unpackb(payload)
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
            raise _Broken(f"a payload that is not MessagePack ({error})") from error
        if not isinstance(message, dict) or not message.keys() - {"seq"}:
            raise _Broken(f"{message!r} in place of a reply")
        seq, is_answer = message.get("seq"), "res" in message or "err" in message
        if seq is None:
            if "err" in message:
                return self.lose(_error_of(message))  # About the connection: BAD_FRAME, OVERLOADED, SHUTTING_DOWN.
            if is_answer:
                raise _Broken("a reply without a seq, to no request")
            if "going" in message:
                self.leave()
            return
        if not isinstance(seq, (int, float)) or seq % 1 != 0:  # It may come as a float.
            raise _Broken(f"the seq {seq!r}, which no request had")
        seq = int(seq)
        self._client._failures = 0
        if not is_answer:
            self._on_notice(seq, message)
        elif message.get("more") is True:
            if seq in self._calls:
                self._calls[seq].add(message.get("res"))
        else:
            self._on_final(seq, message)

    def _on_notice(self, seq: int, message: Message) -> None:
        credit = message.get("credit")
        if seq in self._calls and isinstance(credit, (int, float)):
            self._calls[seq].grant(int(credit))

    def _on_final(self, seq: int, reply: Message) -> None:
        if seq == self._ping_seq:
            self._ping_seq = None
            return
        call = self._calls.pop(seq, None)
        if call is not None and "err" in reply:
            call.settle(failure=_error_of(reply))
        elif call is not None:
            call.settle(reply)
        if self._is_leaving or reply.get("err") == "SHUTTING_DOWN":
            self.leave()


class Client:
    """Calls to one server over one connection, which is dialed when it is needed and anew when it is lost.

    `timeout`: seconds that a call may take, and a stream may wait to be sent. `alive`: the server hears something at
    least once in so many seconds while a call is open, 1 to 3600; a server that is silent for as long, or 2 s, is lost.
    `credit`: items of a stream that may wait for their reader. `max_payload`: bytes of a message, both ways.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 1235, *,
        timeout: float = 10.0, alive: float = 10.0, credit: int = 64, max_payload: int = 1_048_576,
    ) -> None:
        if not 1 <= alive <= 3600 or credit < 1 or max_payload < 1:
            raise ValueError("alive is 1 to 3600 seconds, credit and max_payload are at least 1")
        self.host, self.port, self.timeout = host, port, timeout
        self.alive, self.credit, self.max_payload = alive, credit, max_payload
        self._current: _Connection | None = None
        self._connections: set[_Connection] = set()
        self._dialing: asyncio.Task[None] | None = None
        self._waiting = self._failures = 0
        self._trouble = "the connection takes nothing more"
        self._is_closed = False

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancels all calls and ends the connections."""
        self._is_closed = True
        if self._dialing is not None:
            self._dialing.cancel()
        for connection in list(self._connections):
            connection.end(RpcError("CLOSED", "the client was closed"))
        await asyncio.sleep(0)  # The transports close in the next round.

    async def call(
        self, command: str | int, params: Params = None, *,
        timeout: Seconds = None, meta: Meta = None, items: Items = None,
    ) -> Any:
        """Makes one call and returns its result. `timeout`: seconds; without it the client's, or none with `items`.

        To cancel the call, cancel its task. `items` is a stream to the command, sent at the pace of the server.
        """
        async with self._calling(command, params, timeout, meta, items, None) as call:
            if await call.comes():
                raise RpcError("BAD_REPLY", "the command answers with a stream: use stream()")
            return (call.reply or {}).get("res")

    @asynccontextmanager
    async def stream(
        self, command: str | int, params: Params = None, *,
        timeout: Seconds = None, meta: Meta = None, items: Items = None,
    ) -> AsyncIterator[Stream]:
        """Calls a command that answers with a stream. To leave the block cancels it. `timeout` is for all of it."""
        limit = math.inf if timeout is None else timeout
        async with self._calling(command, params, limit, meta, items, self.credit) as call:
            yield Stream(call, self.credit)

    @asynccontextmanager
    async def _calling(
        self, command: str | int, params: Params, timeout: Seconds, meta: Meta, items: Items, credit: int | None
    ) -> AsyncIterator[_Call]:
        """A call from its request to its end: what is not over by then is cancelled."""
        loop = asyncio.get_running_loop()
        if timeout is None:
            timeout = self.timeout if items is None else math.inf
        deadline = loop.time() + timeout
        params = params or {}
        if bad := [name for name in params if name in OWN_FIELDS or name.startswith("$")]:
            raise ValueError(f"these names are never parameters: {', '.join(bad)}")
        if meta is not None and not all(isinstance(text, str) for pair in meta.items() for text in pair):
            raise ValueError("meta is a map of text to text")
        # Encoded now: the caller may change its objects while the request waits.
        own = {"cmd": command, "meta": meta, "credit": credit, "$items": None if items is None else True}
        own = {name: value for name, value in own.items() if value is not None}
        body = _fields(own) + _fields(params)
        self._check_size(len(body) + 64)
        connection = await self._ready(deadline)
        left = deadline - loop.time()
        if left <= 0:
            raise RpcError("TIMEOUT", "no time was left: the call was not sent", retryable=True)
        ttl = {} if left == math.inf else {"ttl": left * 1000}
        call = connection.request(ttl, len(own) + len(params), body)
        late = RpcError("TIMEOUT", f"no reply within {timeout:g} s")
        timer = None if left == math.inf else loop.call_at(deadline, call.give_up, late)
        upload = None if items is None else loop.create_task(self._upload(call, items))
        try:
            yield call
        finally:
            if timer is not None:
                timer.cancel()
            if upload is not None:
                upload.cancel()
            call.give_up(RpcError("CANCELLED", "the caller has left the call"))

    async def _upload(self, call: _Call, items: Iterable[Any] | AsyncIterable[Any]) -> None:
        try:
            async for item in _each(items):
                payload = _message(cmd=0, seq=call.seq, item=item)
                self._check_size(len(payload))
                await call.connection.writable.wait()
                if not await call.has_room():
                    return
                call.room -= 1
                call.connection.send(payload)
            call.control(end=True)
        except Exception as error:  # Half a stream is never a whole one: a cancel, and the caller gets the error.
            call.give_up(error)

    def _check_size(self, size: int) -> None:
        if size > self.max_payload:
            raise ValueError(f"a message of {size} bytes is more than the {self.max_payload} that a server takes")

    async def _ready(self, deadline: float) -> _Connection:
        """The connection for a call, which waits for it within its own time and the client's `timeout`."""
        if self._waiting >= MAX_WAITING:
            raise RpcError("OVERLOADED", f"{MAX_WAITING} calls wait for the server: {self._trouble}", retryable=True)
        loop = asyncio.get_running_loop()
        self._waiting += 1
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + self.timeout)):
                while not self._is_closed:
                    if self._current is None:
                        dialing = self._dialing = self._dialing or loop.create_task(self._dial())
                        await asyncio.wait([dialing])
                        if not dialing.cancelled():
                            dialing.result()  # Raises what no new attempt can heal, such as a name that is none.
                    elif self._current.writable.is_set():
                        return self._current
                    else:
                        await self._current.writable.wait()
        except TimeoutError:
            raise RpcError("TIMEOUT", f"the call was not sent: {self._trouble}", retryable=True) from None
        finally:
            self._waiting -= 1
        raise RpcError("CLOSED", "the client was closed: the call was not sent", retryable=True)

    async def _dial(self) -> None:
        """Dials while a call waits. The pauses grow until a server has said something, and have chance in them."""
        try:
            while self._waiting > 0:
                if self._failures > 0:
                    most = min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2 ** min(self._failures, 10))
                    await asyncio.sleep(random.uniform(0, most))
                self._failures += 1
                try:
                    async with asyncio.timeout(DIAL_SECONDS):
                        loop = asyncio.get_running_loop()
                        _, connection = await loop.create_connection(lambda: _Connection(self), self.host, self.port)
                except OSError as error:
                    self._trouble = f"cannot connect to {self.host}:{self.port} ({str(error) or 'no answer'})"
                    continue
                self._trouble = "the connection takes nothing more"
                if connection.is_open:
                    self._current = connection
                    self._connections.add(connection)
                    return
        finally:
            self._dialing = None

    def _forget(self, connection: _Connection, *, is_gone: bool = False) -> None:
        if self._current is connection:
            self._current = None
        if is_gone:
            self._connections.discard(connection)


async def _each(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
