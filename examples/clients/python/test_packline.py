"""Tests of `packline.py` against `deno task serve`: `PACKLINE=127.0.0.1:1235 python3 -m unittest`."""

import asyncio
import gc
import itertools
import math
import os
import socket
import sys
import threading
import traceback
import unittest
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest import mock

import msgpack  # type: ignore

from packline import Client, RpcError

HOST, _, PORT = os.environ.get("PACKLINE", "127.0.0.1:1235").rpartition(":")

Message = dict[str, Any]


def frame(message: Message) -> bytes:
    payload: bytes = msgpack.packb(message)
    return bytes([32, len(payload) + 32]) + payload + b"\n"


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth > 1 else []


class Calls(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        self.client = await self.enterAsyncContext(Client(HOST, int(PORT)))

    async def fails(self, code: str, call: Any) -> RpcError:
        with self.assertRaises(RpcError) as caught:
            await call
        self.assertEqual(caught.exception.code, code)
        return caught.exception

    async def client_of(self, answer: Callable[[Message], bytes | None]) -> Client:
        """A client of a server that says this to each message, and hangs up instead of None."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            part: bytes | None = b""
            while part is not None and (header := await reader.read(1)):
                low = (await reader.readexactly(1))[0]
                payload = await reader.readexactly((header[0] - 32 << 8) + low - 32 + 1)
                part = answer(msgpack.unpackb(payload[:-1]))
                writer.write(part or b"")
            writer.close()

        server = await self.enterAsyncContext(await asyncio.start_server(serve, HOST))
        return await self.enterAsyncContext(Client(HOST, server.sockets[0].getsockname()[1], timeout=5, alive=1))

    async def ends(self, command: str) -> None:
        """Asks until no call of a command runs on the server: its handlers end a moment after they are told."""
        while (await self.client.call("STATS"))["commands"][command]["inFlight"] > 0:
            pass

    async def test_values_come_back(self) -> None:
        for value in [None, True, -1, 2**40, 1.5, "é", b"\n\r", [1, [2]], {"a": {"b": b""}}, "x" * 100_000, nested(63)]:
            self.assertEqual(await self.client.call("ECHO", {"data": value}), value)

    async def test_a_quick_call_overtakes_a_slow_one(self) -> None:
        slow = asyncio.create_task(self.client.call("DELAY", {"sleep": 60}))
        self.assertEqual(await self.client.call("PING"), "PONG")
        self.assertFalse(slow.done())
        slow.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await slow
        await self.ends("DELAY")

    async def test_a_failure_has_its_code_its_text_and_its_data(self) -> None:
        error = await self.fails("INVALID_PARAMS", self.client.call("TICK", {"count": -1}))
        self.assertTrue(error.message and error.data and not error.retryable)
        await self.fails("CMD_NOT_FOUND", self.client.call("NO_SUCH_COMMAND"))

    async def test_a_call_that_is_out_of_time_fails_and_is_cancelled(self) -> None:
        await self.fails("TIMEOUT", self.client.call("DELAY", {"sleep": 60}, timeout=0.05))
        error = await self.fails("TIMEOUT", self.client.call("PING", timeout=0))
        self.assertTrue(error.retryable, "it was not sent")

    async def test_what_a_server_would_refuse_is_not_sent(self) -> None:
        refused: list[dict[Any, Any]] = [
            {"ttl": 1},
            {1: 2},
            {"$a": 1},
            {"a": object()},
            {"a": {1.5: 1}},
            {"a": msgpack.ExtType(1, b"")},
            {"a": nested(64)},
            {"a": memoryview(b"abcd")[::2]},
            {"a": "\ud800"},
            {"a": "x" * 2_000_000},
        ]
        for params in refused:
            with self.assertRaises(ValueError):
                await self.client.call("ECHO", params)

    async def test_items_that_are_one_value_are_refused(self) -> None:
        for items in ["text", b"bytes", bytearray(b"bytes"), memoryview(b"bytes"), {"a": 1}]:
            with self.assertRaisesRegex(ValueError, "items is one value"):
                await self.client.call("TALLY", items=items)
            with self.assertRaisesRegex(ValueError, "items is one value"):
                async with self.client.stream("ECHO", items=items):
                    pass

    async def test_a_limit_that_is_no_number_is_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "timeout is a number of seconds"):
            await self.client.call("PING", timeout=math.nan)
        with self.assertRaisesRegex(ValueError, "timeout is a number of seconds"):
            Client(timeout=math.nan)

    async def test_an_address_of_ipv6_may_have_brackets(self) -> None:
        self.assertEqual(Client("[::1]").host, Client("::1").host)

    async def test_a_stream_is_read_to_its_end(self) -> None:
        async with self.client.stream("TICK", {"count": 100, "interval": 0}) as stream:
            self.assertEqual([item async for item in stream], list(range(1, 101)))
        self.assertEqual(stream.result, 100)

    async def test_a_stream_that_is_left_is_cancelled(self) -> None:
        async with self.client.stream("TICK", {"interval": 0}) as stream:
            async for item in stream:
                if item == 20:
                    break
        await self.ends("TICK")

    async def test_items_go_up_from_any_iterable_and_both_ways(self) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(50):
                yield bytes(1000)

        self.assertEqual(await self.client.call("TALLY", items=chunks()), {"items": 50, "bytes": 50_000})
        self.assertEqual(await self.client.call("TALLY", items=[]), {"items": 0, "bytes": 0})
        async with self.client.stream("ECHO", items=range(100)) as stream:
            self.assertEqual([item async for item in stream], list(range(100)))

    async def test_an_upload_that_breaks_is_never_a_whole_one(self) -> None:
        def broken() -> Iterator[int]:
            yield 1
            raise KeyError("no more")

        with self.assertRaises(KeyError):
            await self.client.call("TALLY", items=broken())
        self.assertEqual(await self.client.call("PING"), "PONG")

    async def test_the_source_of_the_items_ends_with_its_call(self) -> None:
        has_ended = False

        async def endless() -> AsyncIterator[int]:
            nonlocal has_ended
            try:
                yield 1
                await asyncio.Event().wait()
            finally:
                has_ended = True

        with self.assertRaises(TimeoutError):
            async with asyncio.timeout(0.05):
                await self.client.call("TALLY", items=endless())
        self.assertTrue(has_ended)

    async def test_a_generator_of_items_ends_with_its_call(self) -> None:
        ended: list[str] = []

        def plain() -> Iterator[int]:
            try:
                yield from itertools.count()
            finally:
                ended.append("plain")

        async def asynchronous() -> AsyncIterator[int]:
            try:
                for number in itertools.count():
                    yield number
            finally:
                ended.append("asynchronous")

        sources: list[Any] = [plain(), asynchronous()]
        for items in sources:
            await self.fails("CMD_NOT_FOUND", self.client.call("NO_SUCH_COMMAND", items=items))
        self.assertEqual(ended, ["plain", "asynchronous"])

    async def test_call_and_stream_tell_each_other_apart(self) -> None:
        await self.fails("BAD_REPLY", self.client.call("TICK", {"interval": 0}))
        with self.assertRaises(RpcError):
            async with self.client.stream("ECHO", {"data": 1}) as stream:
                await anext(stream)

    async def test_a_lost_connection_says_so_and_the_next_call_dials_anew(self) -> None:
        dials = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal dials
            dials += 1
            received = b""
            while b"DELAY" not in received and b"PING" not in received:
                received += await reader.read(1000)
            if b"PING" in received:
                writer.write(b"\x20\x2f\x82\xa3seq\x01\xa3res\xa4PONG\n")
                await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, HOST)
        async with server, Client(HOST, server.sockets[0].getsockname()[1]) as client:
            error = await self.fails("CONNECTION_LOST", client.call("DELAY", {"sleep": 1}))
            self.assertFalse(error.retryable)
            self.assertEqual(await client.call("PING"), "PONG")
            self.assertEqual(dials, 2)

    async def test_a_call_waits_for_a_server_within_its_time(self) -> None:
        server = await asyncio.start_server(lambda *_: None, HOST)
        port = server.sockets[0].getsockname()[1]
        server.close()
        async with Client(HOST, port) as client:
            error = await self.fails("TIMEOUT", client.call("PING", timeout=0.2))
            self.assertTrue(error.retryable and "cannot connect" in error.message)

    async def test_a_closed_client_fails_its_calls_and_leaves_no_task(self) -> None:
        slow = asyncio.create_task(self.client.call("DELAY", {"sleep": 60}))
        upload = asyncio.create_task(self.client.call("TALLY", items=itertools.repeat("a")))
        await self.client.call("PING")
        await self.client.close()
        await self.fails("CLOSED", slow)
        await self.fails("CLOSED", upload)
        await self.fails("CLOSED", self.client.call("PING"))
        self.assertEqual(asyncio.all_tasks(), {asyncio.current_task()})

    async def test_a_client_outlives_its_event_loop(self) -> None:
        client = Client(HOST, int(PORT))
        for _ in range(2):
            answer = await asyncio.to_thread(asyncio.run, client.call("PING", timeout=5))
            self.assertEqual(answer, "PONG")

    async def test_a_client_outlives_an_event_loop_that_ended_without_a_word_to_its_tasks(self) -> None:
        client = Client(HOST, int(PORT))

        def run() -> Any:
            loop = asyncio.new_event_loop()
            loop.set_exception_handler(lambda *_: None)
            answer = loop.run_until_complete(client.call("PING", timeout=5))
            loop.close()
            return answer

        with mock.patch.object(sys, "unraisablehook"):  # Python tells of the tasks that such a loop leaves.
            for _ in range(2):
                self.assertEqual(await asyncio.to_thread(run), "PONG")
            await client.close()
            gc.collect()

    async def test_a_client_that_is_closed_while_it_connects_leaves_no_task(self) -> None:
        tasks, connects = asyncio.all_tasks(), asyncio.Event()

        async def hang(*_: Any) -> None:
            connects.set()
            await asyncio.Event().wait()

        with mock.patch.object(asyncio.get_running_loop(), "sock_connect", hang):
            call = asyncio.create_task(self.client.call("PING"))
            await connects.wait()
            await self.client.close()
        self.assertLessEqual(asyncio.all_tasks(), {*tasks, call})
        await self.fails("CLOSED", call)

    async def test_an_address_that_never_answers_does_not_hide_the_next_one(self) -> None:
        loop = asyncio.get_running_loop()
        connect = loop.sock_connect

        async def resolve(*_: Any, **__: Any) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, int(PORT))) for host in ["silent", HOST]]

        async def dial(sock: socket.socket, address: Any) -> None:
            await (asyncio.Event().wait() if address[0] == "silent" else connect(sock, address))

        dials = mock.patch.multiple(loop, getaddrinfo=resolve, sock_connect=dial)
        with dials, mock.patch("packline.DIAL_SECONDS", 0.05), mock.patch("packline.NEXT_ADDRESS_SECONDS", 0.01):
            async with Client("server.test", int(PORT)) as client:
                error = await self.fails("TIMEOUT", client.call("PING", timeout=0.06))
                self.assertIn("(no answer)", error.message)
                self.assertEqual(await client.call("PING"), "PONG")

    async def test_a_connection_that_ended_while_the_process_computed_gets_no_call(self) -> None:
        listener = self.enterContext(socket.create_server((HOST, 0)))
        may_end, has_ended = threading.Event(), threading.Event()

        def serve() -> None:
            for seq in range(2):
                peer, received = listener.accept()[0], b""
                with peer:
                    while b"ASK" not in received:
                        received += peer.recv(1000)
                    peer.sendall(frame({"seq": seq, "res": seq}))
                    may_end.wait()
                has_ended.set()

        thread = threading.Thread(target=serve)
        thread.start()
        with mock.patch("packline.REST_SECONDS", 0):
            async with Client(*listener.getsockname()) as client:
                self.assertEqual(await client.call("ASK"), 0)
                may_end.set()
                has_ended.wait()  # The event loop stands still.
                self.assertEqual(await client.call("ASK"), 1)
        thread.join()

    async def test_a_failure_whose_advice_is_odd_is_that_failure(self) -> None:
        advice: Any = None

        def refuse(message: Message) -> bytes:
            return frame({"seq": message["seq"], "err": "OVERLOADED", "$after": advice}) if message["cmd"] else b""

        client = await self.client_of(refuse)
        for advice, seconds in [("soon", 0), (True, 0), (-1, 0), (math.inf, 0), (math.nan, 0), (500, 0.5), (0.5, 5e-4)]:
            error = await self.fails("OVERLOADED", client.call("PING"))
            self.assertEqual((error.retryable, error.after), (True, seconds))

    async def test_only_a_number_grants_items(self) -> None:
        received: list[int] = []
        grant: Any = None

        def answer(message: Message) -> bytes:
            seq = message.get("seq")
            if "item" in message:
                received.append(message["item"])
                if len(received) == 2:
                    return frame({"seq": seq, "res": None})
                return frame({"seq": seq, "credit": grant}) + frame({"seq": seq, "credit": 1.0})
            return frame({"seq": seq, "res": "PONG"}) if message["cmd"] == "PING" else b""

        client = await self.client_of(answer)
        for grant in ["5", True, None, [1], 0, -3, 0.5, math.inf, -math.inf, math.nan]:
            await client.call("TAKE", items=range(1000), timeout=5)
            await client.call("PING")
            self.assertEqual(received, [0, 1], grant)
            received.clear()

    async def test_a_reply_to_no_number_is_no_reply(self) -> None:
        def answer(message: Message) -> bytes:
            return frame({"seq": False, "res": 1}) + frame({"seq": 0, "res": 2}) if message["cmd"] else b""

        self.assertEqual(await (await self.client_of(answer)).call("X"), 2)

    async def test_items_that_end_with_a_cancelled_task_cancel_the_call(self) -> None:
        async def chunks() -> AsyncIterator[int]:
            yield 1
            task = asyncio.create_task(asyncio.sleep(60))
            task.cancel()
            await task

        await self.fails("CANCELLED", self.client.call("TALLY", items=chunks(), timeout=5))

    async def test_a_stream_that_was_read_is_not_sent_again(self) -> None:
        def refuse(message: Message) -> bytes:
            return frame({"seq": message["seq"], "err": "OVERLOADED"}) if "item" in message else b""

        client = await self.client_of(refuse)
        self.assertFalse((await self.fails("OVERLOADED", client.call("TALLY", items=iter("abc")))).retryable)
        self.assertTrue((await self.fails("OVERLOADED", client.call("TALLY", items=["a", "b", "c"]))).retryable)

    async def test_a_call_that_was_begun_is_not_sent_again(self) -> None:
        def answer(message: Message) -> bytes:
            seq, is_item = message.get("seq"), "item" in message
            begun = {"seq": seq, "credit": 1} if is_item else {"seq": seq, "res": 1, "more": True}
            is_first = is_item or message["cmd"] == "WATCH"
            return frame(begun) + frame({"seq": seq, "err": "OVERLOADED"}) if is_first else b""

        client = await self.client_of(answer)
        self.assertFalse((await self.fails("OVERLOADED", client.call("TALLY", items=["a", "b"]))).retryable)
        async with client.stream("WATCH") as stream:
            self.assertEqual(await anext(stream), 1)
            self.assertFalse((await self.fails("OVERLOADED", anext(stream))).retryable)

    async def test_the_limit_of_the_caller_has_one_code(self) -> None:
        def answer(message: Message) -> bytes:
            return frame({"seq": message["seq"], "err": "DEADLINE_EXCEEDED"}) if message["cmd"] else b""

        client = await self.client_of(answer)
        await self.fails("DEADLINE_EXCEEDED", client.call("X"))
        for _ in range(10):
            await self.fails("TIMEOUT", client.call("X", timeout=0.01))

    async def test_each_call_of_a_lost_connection_has_its_own_error(self) -> None:
        client = await self.client_of(lambda message: None if message["cmd"] == "LAST" else b"")
        calls = (client.call(name) for name in ["A", "B", "LAST"])
        errors = await asyncio.gather(*calls, return_exceptions=True)
        frames = [len(traceback.extract_tb(error.__traceback__)) for error in errors if isinstance(error, RpcError)]
        self.assertEqual(frames, frames[:1] * 3)
        self.assertEqual(len(set(map(id, errors))), 3)

    async def test_bytes_that_never_complete_a_reply_are_silence(self) -> None:
        def drip(message: Message) -> bytes:
            return b"\x1f\x1f\x00\x10\x00\x00" if message["cmd"] == "X" else b"\x81"

        with mock.patch("packline.CANCEL_SECONDS", 0.3):
            client = await self.client_of(drip)
            waits = asyncio.create_task(client.call("WAIT"))
            await self.fails("TIMEOUT", client.call("X", timeout=0.05))
            await self.fails("CONNECTION_LOST", waits)


if __name__ == "__main__":
    unittest.main()
