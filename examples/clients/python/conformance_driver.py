"""The driver by which `deno task conformance --client -- python3 conformance_driver.py` checks `packline.py`.

In: steps, a line each. Out: answers (tests/conformance/README.md). Refused: nothing.
"""

import asyncio
import json
import sys
from typing import Any

from packline import Client, RpcError

Json = dict[str, Any]


def from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [from_json(part) for part in value]
    if not isinstance(value, dict):
        return value
    if "$bin" in value:
        return bytes.fromhex(value["$bin"])
    if "$int" in value:
        return int(value["$int"])
    return {name: from_json(field) for name, field in value.items()}


def to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$bin": value.hex()}
    if isinstance(value, int) and abs(value) >= 2**53:
        return {"$int": str(value)}
    if isinstance(value, list):
        return [to_json(part) for part in value]
    if isinstance(value, dict):
        return {name: to_json(field) for name, field in value.items()}
    return value


def options_of(step: Json) -> Json:
    options = {"params": from_json(step.get("params")), "meta": step.get("meta")}
    if "timeoutMs" in step:
        options["timeout"] = step["timeoutMs"] / 1000
    if "items" in step:
        options["items"] = from_json(step["items"])
    return options


async def call(client: Client, step: Json) -> Json:
    return {"res": to_json(await client.call(step["call"], **options_of(step)))}


async def stream(client: Client, step: Json) -> Json:
    items: list[Any] = []
    try:
        async with client.stream(step["stream"], **options_of(step)) as stream:
            async for item in stream:
                items.append(to_json(item))
                if len(items) == step.get("take"):
                    return {"items": items}
        return {"items": items, "res": to_json(stream.result)}
    except RpcError as error:
        return {"items": items, "err": error.code}


async def make(client: Client, step: Json) -> Json:
    """One call. To cancel it is to cancel its task, as everywhere in asyncio."""
    task = asyncio.create_task(call(client, step) if "call" in step else stream(client, step))
    if "cancelAfterMs" in step:
        asyncio.get_running_loop().call_later(step["cancelAfterMs"] / 1000, task.cancel)
    try:
        return await task
    except RpcError as error:
        return {"err": error.code}
    except (ValueError, asyncio.CancelledError) as error:
        return {"err": type(error).__name__}


async def main() -> None:
    loop, client = asyncio.get_running_loop(), Client()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        step: Json = json.loads(line)
        answer: Json = {}
        if "calls" in step:
            answer["replies"] = await asyncio.gather(*(make(client, each) for each in step["calls"]))
        elif "call" in step or "stream" in step:
            answer = await make(client, step)
        else:
            await client.close()
            if "connect" in step:
                host, port = step["connect"].rsplit(":", 1)
                client = Client(host, int(port), timeout=8, alive=step.get("aliveMs", 10_000) / 1000)
        print(json.dumps(answer), flush=True)
    await client.close()


asyncio.run(main())
