/**
 * What a vector is: a conversation with a server as data, and short ways to write one.
 *
 * In: messages and what is right to answer. Out: vectors. Refused: nothing.
 */

import { encode } from "../msgpack.ts";
import { frame, type Message } from "../wire.ts";

/** How much of PROTOCOL.md an implementation has: its heading "Levels of conformance". */
export type Level = 1 | 2 | 3 | 4;

/** The client sends bytes: whole, or in pieces of that size. `shows` is the message in them. */
export interface SendStep {
  send: Uint8Array;
  shows?: unknown;
  pieces?: number;
}

/** One step of a conversation. */
export type Step =
  | SendStep
  /** The server answers this. */
  | { expect: Message }
  /** The server answers these, in any order. */
  | { anyOrder: Message[] }
  /** The client sends items of its stream as the server grants them, and its end if that is said. */
  | { upload: { seq: number; items: unknown[]; end: boolean } }
  /** One side ends its half. */
  | { fin: "client" | "server" };

/** A conversation over a new connection. After its last step the client ends its half, and the server must end. */
export interface Vector {
  level: Level;
  /** Where PROTOCOL.md says so. */
  heading: string;
  name: string;
  /** Commands that the server must have. */
  needs: string[];
  /** Limits that the server must have, as INFO tells them. */
  limits?: Record<string, number>;
  steps: Step[];
}

/** A message that is sent. */
export function send(message: Message, pieces?: number): Step {
  return { send: frame(encode(message)), shows: message, ...pieces && { pieces } };
}

/** Several messages in one write. */
export function sendAll(messages: Message[], pieces?: number): Step {
  const bytes = messages.flatMap((message) => [...frame(encode(message))]);
  return { send: Uint8Array.from(bytes), shows: messages, ...pieces && { pieces } };
}

/** Bytes that are sent as they are. */
export function sendBytes(...bytes: number[]): Step {
  return { send: Uint8Array.from(bytes) };
}

/** A payload that is sent in a right frame. */
export function sendPayload(...bytes: number[]): Step {
  return { send: frame(Uint8Array.from(bytes)) };
}

/** A message that must come. */
export function expect(message: Message): Step {
  return { expect: message };
}

/** PING and its answer: what was sent before was ignored, or at least has not ended the connection. */
export function goesOn(seq?: number): Step[] {
  return [send({ cmd: 1, ...seq !== undefined && { seq } }), expect(pong(seq))];
}

/** The answer to PING. */
export function pong(seq?: number): Message {
  return { ...seq !== undefined && { seq }, res: "PONG" };
}

/** The end of a half. */
export const CLIENT_FIN: Step = { fin: "client" };
export const SERVER_FIN: Step = { fin: "server" };

/** What `vectorsOf()` takes: a name, and the steps. */
type Row = [name: string, steps: Step[], limits?: Record<string, number>];

/** Vectors of one level and heading. */
export function vectorsOf(level: Level, heading: string, needs: string[], rows: Row[]): Vector[] {
  return rows.map(([name, steps, limits]) => ({
    level,
    heading,
    name,
    needs,
    ...limits && { limits },
    steps,
  }));
}

/** Vectors of one request and one reply each. */
export function exchanges(
  level: Level,
  heading: string,
  needs: string[],
  rows: [name: string, request: Message, reply: Message, limits?: Record<string, number>][],
): Vector[] {
  return vectorsOf(
    level,
    heading,
    needs,
    rows.map((
      [name, request, reply, limits],
    ) => [name, [...goesOn(), send(request), expect(reply), ...goesOn()], limits]),
  );
}
