/**
 * Captures of TCP, made here with their real headers, so that each test decides where a segment ends, what is lost and what comes
 * twice; and tshark, which reads them by `examples/wireshark/packline.lua`.
 */

import { assertEquals, assertNotMatch } from "@std/assert";
import { demoCommands } from "../../cli/demo_commands.ts";
import { command } from "../../handlers/command.ts";
import { serveOne } from "./serve_one.ts";
import { memoryPair } from "../../transport/memory.ts";
import { fromStreams, type Transport } from "../../transport/transport.ts";
import { streamsOf } from "./streams.ts";
import { Folder } from "../production/programs.ts";
import { chunksOf, concat, unhex } from "./wire.ts";

export const example = new URL("../../examples/wireshark/", import.meta.url);
export const script = new URL("packline.lua", example).pathname;

// Captures -----------------------------------------------------------------------------------------------------------

type Side = "client" | "server";

/** The bytes of Ethernet, IPv4 and TCP in front of a payload. */
export const HEADER_BYTES = 14 + 20 + 20;
const FIN = 1, SYN = 2, PSH = 8, ACK = 16;

/** A capture file, as tcpdump writes it. */
export class Capture {
  readonly #packets: Uint8Array[] = [];
  #timeMs = 0;

  /** @param snapBytes Of longer packets only so much is kept, as with `tcpdump -s`. */
  constructor(readonly snapBytes = 262_144) {}

  /** How many packets there are: the number of the last. */
  get packets(): number {
    return this.#packets.length;
  }

  /** Lets time pass; each packet takes a millisecond anyway. */
  wait(ms: number): void {
    this.#timeMs += ms;
  }

  add(packet: Uint8Array): number {
    this.#timeMs++;
    const kept = packet.subarray(0, this.snapBytes);
    const record = new DataView(new ArrayBuffer(16));
    record.setUint32(0, 1_700_000_000 + Math.floor(this.#timeMs / 1000));
    record.setUint32(4, this.#timeMs % 1000 * 1000);
    record.setUint32(8, kept.length);
    record.setUint32(12, packet.length);
    return this.#packets.push(concat(new Uint8Array(record.buffer), kept));
  }

  /** The file: a header that says "version 2.4, microseconds, Ethernet", then the packets. */
  get file(): Uint8Array {
    const header = unhex("a1b2c3d4 0002 0004 00000000 00000000 00040000 00000001");
    return concat(header, ...this.#packets);
  }
}

/** One TCP connection in a capture. */
export class Connection {
  readonly #capture: Capture;
  readonly #ports: Record<Side, number>;
  /** The next byte's number in each direction. */
  readonly next: Record<Side, number>;

  /** @param options `handshake: false` for a capture that begins later than the connection. */
  constructor(capture: Capture, { clientPort = 40_000, port = 1235, handshake = true } = {}) {
    this.#capture = capture;
    this.#ports = { client: clientPort, server: port };
    // As in life: not from 0, and other for each connection, by which one on the same ports is known to be new.
    const first = 0x1000_0000 + 0x10_0000 * capture.packets;
    this.next = { client: first, server: first + 0x7000_0000 };
    if (!handshake) return;
    this.#packet("client", SYN);
    this.next.client++;
    this.#packet("server", SYN | ACK);
    this.next.server++;
    this.#packet("client", ACK);
  }

  /** Sends bytes, a segment a piece; answers with the number of the last packet. */
  send(from: Side, ...pieces: Uint8Array[]): number {
    let packet = 0;
    for (const piece of pieces.flatMap((piece) => chunksOf(piece, 16_000))) {
      packet = this.#packet(from, PSH | ACK, piece);
      this.next[from] += piece.length;
    }
    return packet;
  }

  /** Sends bytes that were sent before, or not yet: what comes next is not moved. */
  sendAt(from: Side, sequence: number, bytes: Uint8Array): number {
    const next = this.next[from];
    this.next[from] = sequence;
    const packet = this.#packet(from, PSH | ACK, bytes);
    this.next[from] = next;
    return packet;
  }

  /** Both ends say that they are done. */
  close(): void {
    for (const side of ["client", "server"] as const) {
      this.#packet(side, FIN | ACK);
      this.next[side]++;
    }
  }

  #packet(from: Side, flags: number, payload: Uint8Array = new Uint8Array(0)): number {
    const to = from === "client" ? "server" : "client";
    const packet = new Uint8Array(HEADER_BYTES + payload.length);
    const view = new DataView(packet.buffer);
    view.setUint16(12, 0x0800); // IPv4
    const [source, target] = from === "client" ? [1, 2] : [2, 1];
    view.setUint16(14, 0x4500);
    view.setUint16(16, packet.length - 14);
    view.setUint16(20, 0x4000); // not to be fragmented
    view.setUint16(22, 0x4006); // 64 hops, TCP
    packet.set([10, 0, 0, source, 10, 0, 0, target], 26);
    view.setUint16(24, checksum(packet.subarray(14, 34)));
    view.setUint16(34, this.#ports[from]);
    view.setUint16(36, this.#ports[to]);
    view.setUint32(38, this.next[from]);
    view.setUint32(42, flags & ACK ? this.next[to] : 0);
    view.setUint16(46, 0x5000 | flags);
    view.setUint16(48, 0xffff); // the window
    packet.set(payload, HEADER_BYTES);
    // TCP sums up the addresses, its number and its length, too.
    const pseudo = concat(packet.subarray(26, 34), unhex("0006"), uint16(packet.length - 34));
    view.setUint16(50, checksum(concat(pseudo, packet.subarray(34))));
    return this.#capture.add(packet);
  }
}

function uint16(number: number): Uint8Array {
  return Uint8Array.of(number >> 8, number & 255);
}

function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let index = 0; index < bytes.length; index += 2) sum += bytes[index] << 8 | (bytes[index + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

// tshark -------------------------------------------------------------------------------------------------------------

/** Runs tshark on a capture, with our script. */
export async function tshark(capture: Capture, ...args: string[]): Promise<string> {
  await using folder = await Folder.make();
  await Deno.writeFile(`${folder.path}/capture.pcap`, capture.file);
  return await runIn(folder, "-X", `lua_script:${script}`, "-r", "capture.pcap", ...args);
}

/** Runs tshark in a folder. */
export async function runIn(folder: Folder, ...args: string[]): Promise<string> {
  const options = { cwd: folder.path, env: settings(folder), stdin: "null" } as const;
  const { code, stdout, stderr } = await new Deno.Command("tshark", { ...options, args }).output();
  const errors = new TextDecoder().decode(stderr);
  assertEquals(code, 0, errors);
  assertNotMatch(errors, /lua/i);
  const output = new TextDecoder().decode(stdout);
  assertEquals(output.match(/^.*Lua Error.*$/m)?.[0], undefined);
  return output;
}

/** The environment of a user who has never run Wireshark: what whoever runs the test has set must not count. */
export function settings({ path }: Folder): Record<string, string> {
  return { HOME: path, XDG_CONFIG_HOME: path, WIRESHARK_CONFIG_DIR: path, LC_ALL: "C.UTF-8", TZ: "UTC" };
}

/** Fields of each packet that holds packline, in the order asked for; several of a kind are joined by `;`. */
export async function rowsOf(capture: Capture, fields: string, ...args: string[]): Promise<string[][]> {
  const names = fields.split(" ").flatMap((
    name,
  ) => ["-e", /^(frame|tcp|_ws)\./.test(name) ? name : `packline.${name}`]);
  const output = await tshark(capture, "-Y", "packline", "-T", "fields", "-E", "aggregator=;", ...names, ...args);
  return output.split("\n").slice(0, -1).map((line) => line.split("\t"));
}

/** The same, a line each. */
export async function fieldsOf(...question: Parameters<typeof rowsOf>): Promise<string[]> {
  return (await rowsOf(...question)).map((row) => row.map((cell) => cell || "-").join(" "));
}

/** What the packet list says about packline. */
export function columnsOf(capture: Capture, ...args: string[]): Promise<string[]> {
  return fieldsOf(capture, "_ws.col.Info", ...args);
}

// What packline itself says ------------------------------------------------------------------------------------------

/** Has a client and a server talk in memory, and records what they say as a connection of a capture. */
export async function record(capture: Capture, talk: (dial: () => Promise<Transport>) => Promise<void>): Promise<void> {
  const connection = new Connection(capture);
  const tap = (from: Side) =>
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        connection.send(from, chunk);
        controller.enqueue(chunk);
      },
    });
  const [here, there] = memoryPair();
  const outgoing = tap("client");
  const { readable, writable } = streamsOf(here);
  const piped = outgoing.readable.pipeTo(writable);
  const served = serveOne(there, { commands });
  await talk(() =>
    Promise.resolve(fromStreams({ readable: readable.pipeThrough(tap("server")), writable: outgoing.writable }))
  );
  await Promise.all([piped, served]);
  connection.close();
}

export const commands = {
  ...demoCommands,
  ECHO: command({ number: 16, handler: ({ value }: { value: unknown }) => value }),
  NUMBERS: command({
    async *handler({ count }: { count: number }) {
      for (let number = 1; number <= count; number++) yield await Promise.resolve(number);
      return "all";
    },
  }),
};
