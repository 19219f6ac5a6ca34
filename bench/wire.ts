/**
 * Prepares the bytes of each work: requests, and the expected replies.
 *
 * All requests of a work have the same size, and so have all replies, so neither the load generator nor the raw loop
 * parses them. The bytes are written by hand, so that the benchmark does not measure packline with packline's own
 * codec.
 */

/** The protocol of a server. `grpc` has no bytes here, because its own client must load it. */
export type Speech = "packline" | "redis" | "grpc";

/** The kind of call: PING, PING with a `seq`, a computation, or an echo of this many bytes. */
export type Question = "ping" | "seq" | "compute" | number;

/** One request and its expected reply. */
export interface Exchange {
  request: Uint8Array;
  reply: Uint8Array;
}

/** The first `seq`; from here to 65,535 each takes three bytes on the wire. */
export const FIRST_SEQ = 1_000;

/** The position of a `seq`'s two bytes in a request and in its reply. */
export const SEQ_AT = { request: 13, reply: 8 };

/** The shortest payload of a long frame. */
const LONG_FROM = 57_311;

/** The largest payload of any work. */
export const MAX_PAYLOAD_BYTES = 2 * 1024 * 1024;

/**
 * One exchange.
 *
 * @param speech The protocol.
 * @param question The kind of call.
 * @param index The position in a block: its `seq`, counted from {@linkcode FIRST_SEQ}.
 */
export function exchange(speech: Speech, question: Question, index = 0): Exchange {
  if (speech === "grpc") throw new TypeError("Cannot prepare bytes for gRPC: its own client loads it");
  // Redis has no sequence numbers, so it gets a plain PING.
  if (speech === "redis") return { request: text("*1\r\n$4\r\nPING\r\n"), reply: text("+PONG\r\n") };
  if (question === "ping") {
    return { request: frame(map(1), key("cmd"), [1]), reply: frame(map(1), key("res"), key("PONG")) };
  }
  if (question === "compute") {
    return { request: frame(map(1), key("cmd"), [17]), reply: frame(map(1), key("res"), key("DONE")) };
  }
  if (question === "seq") {
    const seq = [0xcd, (FIRST_SEQ + index) >> 8, (FIRST_SEQ + index) & 255];
    return {
      request: frame(map(2), key("cmd"), [1], key("seq"), seq),
      reply: frame(map(2), key("seq"), seq, key("res"), key("PONG")),
    };
  }
  const data = binary(question);
  return {
    request: frame(map(2), key("cmd"), [16], key("data"), data),
    reply: frame(map(1), key("res"), data),
  };
}

/** The first `seq` of a request with a deadline; from here on, each takes five bytes on the wire. */
export const FIRST_LONG_SEQ = 65_536;

/** Makes requests for a computation with a deadline, by their number. */
export function deadlineRequest(ttl: number): (number: number) => Uint8Array {
  const seq = (number: number) => [0xce, ...bigEndian(FIRST_LONG_SEQ + number)];
  const tail = concat([key("ttl"), [0xce, ...bigEndian(ttl)]]);
  return (number) => frame(map(3), key("cmd"), [17], key("seq"), seq(number), tail);
}

/** The client's first message on each connection, before the measurement: it accepts long replies. */
export function greeting(speech: Speech, question: Question): Uint8Array {
  if (speech !== "packline" || typeof question !== "number") return new Uint8Array(0);
  return frame(map(2), key("cmd"), [0], key("max"), [0xce, ...bigEndian(MAX_PAYLOAD_BYTES)]);
}

/** Concatenates parts. */
export function concat(parts: Iterable<ArrayLike<number>>): Uint8Array {
  const all = [...parts];
  const bytes = new Uint8Array(all.reduce((sum, part) => sum + part.length, 0));
  let position = 0;
  for (const part of all) {
    bytes.set(part, position);
    position += part.length;
  }
  return bytes;
}

function frame(...parts: ArrayLike<number>[]): Uint8Array {
  const payload = concat(parts);
  const { length } = payload;
  const header = length < LONG_FROM
    ? [((length >> 8) + 32) & 255, ((length & 255) + 32) & 255]
    : [0x1f, 0x1f, ...bigEndian(length)];
  return concat([header, payload, [0x0a]]);
}

function map(size: number): number[] {
  return [0x80 | size];
}

function key(name: string): Uint8Array {
  return concat([[0xa0 | name.length], text(name)]);
}

function binary(bytes: number): Uint8Array {
  const data = Uint8Array.from({ length: bytes }, (_, index) => index & 255);
  const header = bytes < 256 ? [0xc4, bytes] : bytes < 65_536 ? [0xc5, bytes >> 8, bytes & 255] : [
    0xc6,
    ...bigEndian(bytes),
  ];
  return concat([header, data]);
}

function bigEndian(number: number): number[] {
  return [number >>> 24, (number >>> 16) & 255, (number >>> 8) & 255, number & 255];
}

function text(characters: string): Uint8Array {
  return new TextEncoder().encode(characters);
}
