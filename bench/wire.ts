/**
 * Prepares the bytes of each work: requests, and the expected replies.
 *
 * All requests of a work have the same size, and so have all replies, so neither the load generator nor the raw loop
 * parses them. The bytes are written by hand, so that the benchmark does not measure packline with packline's own
 * codec; records are written by msgpackr.
 */

import { Packr } from "msgpackr";
import { DELAYS, KEYS, listFor, PEOPLE, TEXTS } from "./data.ts";
import { redisCommand } from "./redis.ts";

/**
 * The protocol of a server: `echo` returns the same bytes as packline's request; `library` has no bytes here, because
 * only its own client can load it.
 */
export type Speech = "packline" | "redis" | "http" | "echo" | "library";

/**
 * The kind of call: PING, GET (a key in, a text out) and LIST (a record in, a list out), a call that waits, a stream
 * that waits after its first item, or an echo of this many bytes. All but the first of PING and GET and the echo have a
 * `seq`.
 */
export type Question =
  | "ping"
  | "ping, seq"
  | "get"
  | "get, seq"
  | "get, seq, async"
  | "list"
  | "delay"
  | "watch"
  | number;

/** One request and its expected reply. */
interface Exchange {
  request: Uint8Array;
  reply: Uint8Array;
  /** The part of a reply that is not known in advance. */
  varies?: { from: number; to: number };
}

/** The first `seq`; from here to 65,535 each takes three bytes on the wire. */
export const FIRST_SEQ = 1_000;

/** The position of a `seq`'s two bytes in a request and in its reply. */
export const SEQ_AT = { request: 13, reply: 8 };

/** The shortest payload of a long frame. */
const LONG_FROM = 57_311;

/** The largest payload of any work. */
export const MAX_PAYLOAD_BYTES = 17 * 1024 * 1024;

// The second option makes small maps short, as the protocol requires.
const packr = new Packr({ useRecords: false, variableMapSize: true });

/**
 * One exchange.
 *
 * @param speech The protocol.
 * @param question The kind of call.
 * @param index The position in a block. It determines the key or the record, and the `seq`, from {@linkcode FIRST_SEQ}.
 */
export function exchange(speech: Speech, question: Question, index = 0): Exchange {
  switch (speech) {
    case "library":
      throw new TypeError("Cannot prepare bytes for a library: its own client loads it");
    case "echo": {
      const { request } = packlineExchange(question, index);
      return { request, reply: request };
    }
    case "redis":
      return redisExchange(question, index);
    case "http":
      return httpExchange(index);
    case "packline":
      return packlineExchange(question, index);
  }
}

function packlineExchange(question: Question, index: number): Exchange {
  const seq = [...key("seq"), 0xcd, (FIRST_SEQ + index) >> 8, (FIRST_SEQ + index) & 255];
  const getKey = KEYS[index % KEYS.length];
  const getText = bytesOf(TEXTS.get(getKey)!);
  const getParams = [...key("key"), ...key(getKey)];
  switch (question) {
    case "ping":
      return { request: frame(map(1), key("cmd"), [1]), reply: frame(map(1), key("res"), key("PONG")) };
    case "ping, seq":
      return {
        request: frame(map(2), key("cmd"), [1], seq),
        reply: frame(map(2), seq, key("res"), key("PONG")),
      };
    case "get":
      return {
        request: frame(map(2), key("cmd"), key("GET"), getParams),
        reply: frame(map(1), key("res"), [0xd9, getText.length], getText),
      };
    case "get, seq":
    case "get, seq, async":
      return {
        request: frame(map(3), key("cmd"), key(question === "get, seq" ? "GET" : "GET_ASYNC"), seq, getParams),
        reply: frame(map(2), seq, key("res"), [0xd9, getText.length], getText),
      };
    case "list": {
      const person = PEOPLE[index];
      return {
        request: frame(map(10), key("cmd"), key("LIST"), seq, packr.pack(person).subarray(1)),
        reply: frame(map(2), seq, key("res"), packr.pack(listFor(person))),
      };
    }
    case "delay": {
      // The last request is a PING of the same size. Its reply shows that all calls before it have begun.
      const isLast = index === DELAYS;
      return {
        request: frame(map(3), key("cmd"), [isLast ? 1 : 2], seq, key("sleep"), [60]),
        reply: isLast ? frame(map(2), seq, key("res"), key("PONG")) : new Uint8Array(0),
      };
    }
    case "watch":
      return {
        request: frame(map(3), key("cmd"), key("WATCH"), seq, key("credit"), [1]),
        reply: frame(map(3), seq, key("res"), [0], key("more"), [0xc3]),
        varies: { from: SEQ_AT.reply, to: SEQ_AT.reply + 2 }, // streams take turns
      };
    default: {
      const data = binary(question);
      return {
        request: frame(map(2), key("cmd"), [16], key("data"), data),
        reply: frame(map(1), key("res"), data),
      };
    }
  }
}

/** Redis has no sequence numbers. */
function redisExchange(question: Question, index: number): Exchange {
  if (typeof question === "string" && question.startsWith("ping")) {
    return { request: bytesOf(redisCommand("PING")), reply: bytesOf("+PONG\r\n") };
  }
  const getKey = KEYS[index % KEYS.length];
  return {
    request: bytesOf(redisCommand("GET", getKey)),
    reply: bytesOf(`$${TEXTS.get(getKey)!.length}\r\n${TEXTS.get(getKey)}\r\n`),
  };
}

/** GET as JSON, with the headers that `Deno.serve` sends. */
function httpExchange(index: number): Exchange {
  const getKey = KEYS[index % KEYS.length];
  const body = JSON.stringify({ res: TEXTS.get(getKey) });
  const begin = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\ndate: `;
  const date = new Date().toUTCString();
  return {
    request: bytesOf(`GET /${getKey} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`),
    reply: bytesOf(`${begin}${date}\r\n\r\n${body}`),
    varies: { from: begin.length, to: begin.length + date.length },
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

/** The messages that begin and end a stream of TAP with unlimited credit. */
export const TAP = {
  begin: frame(map(3), key("cmd"), key("TAP"), key("seq"), [1], key("credit"), [0xce, ...bigEndian(2 ** 31)]),
  end: frame(map(3), key("cmd"), [0], key("seq"), [1], key("cancel"), [0xc3]),
};

/** Concatenates parts. */
export function concat(parts: Iterable<ArrayLike<number>>): Uint8Array<ArrayBuffer> {
  const all = [...parts];
  const bytes = new Uint8Array(all.reduce((sum, part) => sum + part.length, 0));
  let position = 0;
  for (const part of all) {
    bytes.set(part, position);
    position += part.length;
  }
  return bytes;
}

/** A frame with these parts as its payload. */
export function frame(...parts: ArrayLike<number>[]): Uint8Array<ArrayBuffer> {
  const payload = concat(parts);
  const { length } = payload;
  const header = length < LONG_FROM
    ? [((length >> 8) + 32) & 255, ((length & 255) + 32) & 255]
    : [0x1f, 0x1f, ...bigEndian(length)];
  return concat([header, payload, [0x0a]]);
}

/** The header of a map with so many fields, at most 15. */
export function map(size: number): number[] {
  return [0x80 | size];
}

/** A text of at most 31 characters. */
export function key(name: string): Uint8Array {
  return concat([[0xa0 | name.length], bytesOf(name)]);
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

function bytesOf(characters: string): Uint8Array {
  return new TextEncoder().encode(characters);
}
