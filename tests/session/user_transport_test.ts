/** A user's transport with mistakes ends its own connection, with a reason, and neither the process nor anything else. */

import { assertEquals, assertRejects } from "@std/assert";
import { connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { createServer } from "../../server.ts";
import { memoryPair } from "../../transport/memory.ts";
import { type ByteStreams, fromStreams, Probe, type Transport, writeAll } from "../../transport/transport.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { request } from "../support/wire.ts";

const PING = request({ cmd: 1 });

/** A peer that sends one PING and takes the answer. */
function transportWith(mistake: object): Transport {
  let isSent = false;
  return {
    read(into) {
      if (isSent) return Promise.resolve(null);
      isSent = true;
      into.set(PING);
      return Promise.resolve(PING.length);
    },
    write: (bytes) => Promise.resolve(bytes.length),
    closeWrite: () => Promise.resolve(),
    close() {},
    ...mistake,
  };
}

/** Serves it; the errors that the server reports. */
async function errorsOf(transport: Transport): Promise<string[]> {
  const errors: string[] = [];
  await using server = createServer({ onError: (error) => void errors.push(String(error)) });
  await server.accept(transport);
  const { connections, bytes } = server.statistics();
  assertEquals([connections.open, bytes.received >= 0, bytes.sent >= 0], [0, true, true]);
  return errors;
}

function throws(): never {
  throw new Error("a mistake");
}

async function rejects(): Promise<void> {
  await Promise.resolve();
  throws();
}

for (const method of ["read", "write", "closeWrite", "close"]) {
  for (const mistake of [throws, rejects]) {
    Deno.test(`a transport whose ${method}() ${mistake.name} ends its connection, and no process`, async () => {
      assertEquals(await errorsOf(transportWith({ [method]: mistake })), []);
    });
  }
}

for (const method of ["write", "closeWrite"]) {
  for (const isRefused of [false, true]) {
    Deno.test(`a transport whose ${method}() never ends is closed, ${isRefused ? "refused" : "served"}`, async () => {
      const clock = new FakeClock();
      const errors: unknown[] = [];
      const onError = (error: unknown) => void errors.push(error);
      await using server = createServer({ clock, writeTimeoutMs: 3_000, onError });
      if (isRefused) await server.shutdown();
      let closed = 0;
      const forever = () => new Promise<never>(() => {});
      const served = server.accept(transportWith({ [method]: forever, close: () => closed++ }));
      await clock.advance(2_900);
      assertEquals(closed, 0);
      await clock.advance(2_000);
      assertEquals(closed, 1);
      await served;
      assertEquals([server.statistics().connections.open, errors], [0, []]);
    });
  }
}

for (const mistake of [throws, rejects]) {
  Deno.test(`a transport whose released ${mistake.name} keeps no place, and ends no process`, async () => {
    const transport = Object.defineProperty(transportWith({}), "released", { get: mistake });
    assertEquals(await errorsOf(transport), ["Error: a mistake"]);
  });

  Deno.test(`a transport whose ref() and unref() ${mistake.name} ends its connection, and no client`, async () => {
    let dials = 0;
    await using server = createServer();
    const dial = () => {
      const [here, there] = memoryPair();
      void server.accept(there);
      const ref = dials++ === 0 ? mistake : () => {};
      const { read, write, closeWrite, close } = here;
      return Promise.resolve({
        read: read.bind(here),
        write: write.bind(here),
        closeWrite: closeWrite.bind(here),
        close: close.bind(here),
        ref,
        unref: ref,
      });
    };
    await using client = await connect({ dial, random: () => 0 });
    assertEquals(await client.call.PING({}, { idempotent: true }), "PONG");
    assertEquals(dials, 2);
  });

  Deno.test(`a probe tells of a transport whose look() or write() ${mistake.name}`, async () => {
    for (const made of [{ look: mistake, broken: new Promise<void>(() => {}) }, { write: mistake }]) {
      const errors: unknown[] = [];
      new Probe(transportWith(made), (error) => errors.push(String(error))).look(false);
      await turn();
      assertEquals(errors, ["Error: a mistake"]);
    }
  });
}

/** Each wrong number, and how an error shows it. */
const WRONG: [unknown, string][] = [
  [0, "0"],
  [undefined, "undefined"],
  [-1, "-1"],
  [1.5, "1.5"],
  [NaN, "NaN"],
  [Infinity, "Infinity"],
  [513, "513"],
  ["9", '"9"'],
  [9n, "9n"],
];

for (const [wrong, shown] of WRONG) {
  /** Gives the wrong number a hundred times: for ever would stop the test. */
  const given = () => {
    let count = 0;
    return () => Promise.resolve(count++ < 100 ? wrong : null);
  };
  const read =
    `read() of the transport gave ${shown}: it must give a whole number from 1 to 512, or null at the end of the data`;
  const write = `write() of the transport gave ${shown}: it must give a whole number from 1 to`;

  Deno.test(`a read() that gives ${shown} ends its connection, and the error says so`, async () => {
    assertEquals(await errorsOf(transportWith({ read: given() })), [`TypeError: ${read}`]);
    const dial = () => Promise.resolve(transportWith({ read: given() }));
    await using client = await connect({ dial, waitForReady: false, lazy: true });
    const error = await assertRejects(() => client.call.PING(), RpcError);
    assertEquals([error.code, error.message.includes(read)], ["CONNECTION_LOST", true], error.message);
  });

  Deno.test(`a write() that gives ${shown} ends its connection, and the error says so`, async () => {
    const errors = await errorsOf(transportWith({ write: given() }));
    assertEquals(errors, [`TypeError: ${write} ${request({ res: "PONG" }).length}`]);
    await assertRejects(() => writeAll({ write: given() as Transport["write"] }, PING), TypeError, write);
  });
}

Deno.test("a stream whose chunks are no bytes ends its connection, and the error says so", async () => {
  const bytes = Uint8Array.from(PING);
  for (const chunk of ["text", bytes.buffer, Uint16Array.from(PING), new DataView(bytes.buffer), [...PING], null, 5]) {
    const streams = {
      readable: ReadableStream.from([chunk]),
      writable: new WritableStream(),
    } as unknown as ByteStreams;
    const kind = Object.prototype.toString.call(chunk).slice(8, -1);
    const error = `the stream readable gave a chunk of the type ${kind}: it must be a Uint8Array`;
    assertEquals(await errorsOf(fromStreams(streams)), [`TypeError: ${error}`]);
  }
  const streams = { readable: ReadableStream.from([Int8Array.from(PING)]), writable: new WritableStream() };
  assertEquals(await errorsOf(fromStreams(streams as unknown as ByteStreams)), []);
});

Deno.test("accept() and dial() take a transport, and fromStreams() streams", async () => {
  await using server = createServer();
  const hint = "it must be a transport; fromStreams() makes one from a pair of streams";
  const none = [undefined, null, {}, "text", new TransformStream(), transportWith({ closeWrite: undefined })];
  for (const wrong of none as Transport[]) {
    await assertRejects(() => server.accept(wrong), TypeError, `Cannot use the argument of accept(): ${hint}`);
    const error = await assertRejects(() => connect({ dial: () => Promise.resolve(wrong) }), RpcError);
    assertEquals(error.message.includes(`Cannot use the result of dial(): ${hint}`), true, error.message);
  }
  assertEquals(server.statistics().connections.accepted, 0);
});
