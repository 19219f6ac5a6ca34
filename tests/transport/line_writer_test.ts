/** Lines on an output that may stand still, or be closed. */

import { assert, assertEquals } from "@std/assert";
import { LineWriter } from "../../transport/line_writer.ts";
import { turn } from "../support/fake_clock.ts";

/** An output that takes a write when the test says so. */
class Output {
  text = "";
  #taking: (() => void) | undefined;

  readonly write = (bytes: Uint8Array): Promise<number> => {
    assert(this.#taking === undefined, "two writes at a time");
    return new Promise((resolve) => {
      this.#taking = () => {
        this.text += new TextDecoder().decode(bytes);
        resolve(bytes.length);
      };
    });
  };

  /** Takes what is being written, if something is. */
  async take(): Promise<void> {
    const taking = this.#taking;
    this.#taking = undefined;
    taking?.();
    await turn();
  }

  /** Takes what is being written until nothing is. */
  async takeAll(): Promise<void> {
    while (this.#taking !== undefined) await this.take();
  }
}

Deno.test("LineWriter - lines come whole and in their order, one write at a time", async () => {
  const output = new Output();
  const writer = new LineWriter("stderr", output.write);
  for (const line of ["one", "two", "three"]) writer.write(line);
  const flushed = writer.flush();
  await output.take();
  assertEquals(output.text, "one\n");
  await output.take();
  await flushed;
  assertEquals(output.text, "one\ntwo\nthree\n");
});

Deno.test("LineWriter - no write cuts a line, or has more than 4 KiB of several, so that other processes cannot cut one", async () => {
  const writes: string[] = [];
  let begin = () => {};
  const writer = new LineWriter("stderr", async (bytes) => {
    if (writes.length === 0) await new Promise<void>((resolve) => begin = resolve);
    writes.push(new TextDecoder().decode(bytes));
    return bytes.length;
  });
  const lines = [
    "first",
    "a".repeat(4_095),
    "b",
    "ä".repeat(2_047),
    "c".repeat(9_000),
    "d",
    "e".repeat(4_093),
    "f",
    "g",
  ];
  for (const line of lines) writer.write(line);
  begin();
  await writer.flush();
  const [first, a, b, umlauts, c, d, e, f, g] = lines.map((line) => `${line}\n`);
  assertEquals(writes, [first, a, b, umlauts, c, d + e, f + g]);
});

Deno.test("LineWriter - an output that is full for now is not a closed one", async () => {
  let text = "";
  let full = 2;
  const writer = new LineWriter("stderr", (bytes) => {
    if (full-- > 0) return Promise.reject(new Deno.errors.WouldBlock("Resource temporarily unavailable"));
    text += new TextDecoder().decode(bytes);
    return Promise.resolve(bytes.length);
  });
  writer.write("a line");
  await writer.flush();
  assertEquals(text, "a line\n");
});

Deno.test("LineWriter - a write of a part is gone on with", async () => {
  let text = "";
  const writer = new LineWriter("stderr", (bytes) => {
    text += new TextDecoder().decode(bytes.subarray(0, 3));
    return Promise.resolve(Math.min(3, bytes.length));
  });
  writer.write("something longer");
  await writer.flush();
  assertEquals(text, "something longer\n");
});

Deno.test("LineWriter - what an output that stands still does not take is counted, and told once it does", async () => {
  const output = new Output();
  const writer = new LineWriter("stderr", output.write);
  const line = "x".repeat(1_023);
  for (let count = 0; count < 3_000; count++) writer.write(line);
  await output.takeAll();
  const kept = output.text.split("\n").filter((each) => each === line).length;
  assertEquals(kept, 1_025); // the one in the write, and 1 MiB
  assert(output.text.endsWith(`\npackline: dropped ${3_000 - kept} lines: stderr was blocked or full\n`));
  writer.write("later");
  await output.take();
  assert(output.text.endsWith("stderr was blocked or full\nlater\n"));
});

Deno.test("LineWriter - the end of a program waits for a while, and no longer", async () => {
  const output = new Output();
  const writer = new LineWriter("stderr", output.write);
  writer.write("nobody takes it");
  const startMs = performance.now();
  await writer.flush();
  assert(performance.now() - startMs < 5_000);
  assertEquals(output.text, "");
});

Deno.test("LineWriter - an output that is closed loses its lines, and ends nothing", async () => {
  let writes = 0;
  const writer = new LineWriter("stderr", () => {
    writes++;
    return Promise.reject(new Deno.errors.BrokenPipe("closed"));
  });
  writer.write("one");
  await writer.flush();
  writer.write("two");
  await writer.flush();
  assertEquals(writes, 2);
});

Deno.test("LineWriter - what a full disk does not take is counted, and the line that it cuts spoils no other", async () => {
  let text = "";
  let room = 0;
  const writer = new LineWriter("stderr", (bytes) => {
    const size = Math.min(room, bytes.length);
    if (size === 0) return Promise.reject(new Error("No space left on device"));
    room -= size;
    text += new TextDecoder().decode(bytes.subarray(0, size));
    return Promise.resolve(size);
  });
  const write = async (...lines: string[]) => {
    for (const line of lines) writer.write(line);
    await writer.flush();
  };
  room = 10;
  await write("first", "second");
  await write("third", "fourth");
  assertEquals(text, "first\nseco");
  room = 1_000;
  await write("fifth");
  assertEquals(text, "first\nseco\nfifth\npackline: dropped 3 lines: stderr was blocked or full\n");
  room = 6;
  await write("sixth", "seventh");
  room = 7;
  await write("eighth", "ninth");
  room = 1_000;
  await write("tenth");
  assert(text.endsWith("sixth\neighth\ntenth\npackline: dropped 2 lines: stderr was blocked or full\n"), text);
});
