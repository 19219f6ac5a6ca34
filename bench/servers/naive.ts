/**
 * The naive reference: the same three stages as packline, in textbook style. It uses the connection's own streams, one
 * message per chunk in each stage, and `@std/msgpack` for every message. It is correct, but not optimized.
 */

import { decode, encode } from "jsr:@std/msgpack@^1.0.3";
import { listen } from "./listen.ts";

type Fields = Record<string, unknown>;

/** Bytes to messages. */
class Decode extends TransformStream<Uint8Array, Fields> {
  constructor() {
    let held = new Uint8Array(0);
    super({
      transform(chunk, controller) {
        const bytes = join(held, chunk);
        let position = 0;
        while (bytes.length - position >= 2) {
          const length = (((bytes[position] - 32) & 255) << 8) | ((bytes[position + 1] - 32) & 255);
          if (bytes.length - position < length + 3) break;
          controller.enqueue(decode(bytes.subarray(position + 2, position + 2 + length)));
          position += length + 3;
        }
        held = bytes.slice(position);
      },
    });
  }
}

/** Requests to replies. */
class Dispatch extends TransformStream<Fields, Fields> {
  constructor() {
    super({
      transform({ cmd, seq }, controller) {
        const outcome = cmd === 1 ? { res: "PONG" } : { err: "CMD_NOT_FOUND" };
        controller.enqueue(seq === undefined ? outcome : { seq, ...outcome });
      },
    });
  }
}

/** Messages to bytes. */
class Encode extends TransformStream<Fields, Uint8Array> {
  constructor() {
    super({
      transform(message, controller) {
        const payload = encode(message as Parameters<typeof encode>[0]);
        const frame = new Uint8Array(payload.length + 3);
        frame[0] = (payload.length >> 8) + 32;
        frame[1] = (payload.length & 255) + 32;
        frame.set(payload, 2);
        frame[frame.length - 1] = 0x0a;
        controller.enqueue(frame);
      },
    });
  }
}

function join(first: Uint8Array, second: Uint8Array): Uint8Array {
  if (first.length === 0) return second;
  const joined = new Uint8Array(first.length + second.length);
  joined.set(first);
  joined.set(second, first.length);
  return joined;
}

listen((conn) =>
  conn.readable.pipeThrough(new Decode()).pipeThrough(new Dispatch()).pipeThrough(new Encode()).pipeTo(conn.writable)
);
