/**
 * Watches the frames of one connection at both of its ends, and says where an end has broken the rules of streams
 * (PROTOCOL.md, "Streams and credit", "Streams from the caller"). It knows the wire alone, and nothing of the code that it
 * watches.
 *
 * In: bytes, as they are read and written at each end. Out: each grant of the server; what was wrong, a line each.
 */

import { decode } from "../support/msgpack.ts";
import { concat, type Message, takeFrames } from "../support/wire.ts";

/** As many of a caller's items as a server may have granted at a time. */
const MOST_GRANTED = 256;

/** Where bytes pass: an end of the connection, and whether it reads or writes them. */
export type Passing = "client reads" | "client writes" | "server reads" | "server writes";

/** One call, as one end of the connection knows it: what it has sent, and what it has read. */
interface WatchedCall {
  /** What the test calls it: its parameter `call`. */
  readonly call: unknown;
  readonly hasItems: boolean;
  /** Items of the caller, and how many the server takes beside the first. */
  items: number;
  granted: number;
  /** How the caller's stream is over. */
  over: "end" | "cancel" | undefined;
  /** Items of the reply stream, and how many the caller takes. */
  replies: number;
  credit: number;
  isAnswered: boolean;
}

/** What a watch tells. */
export interface WatchListener {
  /** The server has granted items of a call. */
  onGrant(call: unknown): void;
  onFault(fault: string): void;
}

/** The watch of one connection. */
export class WireWatch {
  readonly #listener: WatchListener;
  readonly #rests = new Map<Passing, Uint8Array>();
  readonly #atClient = new Map<unknown, WatchedCall>();
  readonly #atServer = new Map<unknown, WatchedCall>();

  constructor(listener: WatchListener) {
    this.#listener = listener;
  }

  /** Bytes have passed. */
  pass(where: Passing, bytes: Uint8Array): void {
    const { payloads, rest } = takeFrames(concat(this.#rests.get(where) ?? new Uint8Array(0), bytes));
    this.#rests.set(where, rest);
    const see = where.endsWith("writes") ? this.#written : this.#read;
    const calls = where.startsWith("client") ? this.#atClient : this.#atServer;
    const isFromClient = where === "client writes" || where === "server reads";
    for (const payload of payloads) {
      const message = decode(payload) as Message;
      if (isFromClient && message.cmd !== 0) {
        calls.set(message.seq, opened(message));
        continue;
      }
      // A damaged message of a server may look like one of its client's, which it is not.
      if (where === "client reads" && "cmd" in message) continue;
      const call = calls.get(message.seq);
      const fault = call === undefined ? undefined : see.call(this, call, message);
      if (fault !== undefined) {
        this.#listener.onFault(`${where} ${Deno.inspect(message, { breakLength: 200 })}: ${fault}`);
      }
    }
  }

  /** An end sends: it must keep to what it has read, and to what it has sent itself. */
  #written(call: WatchedCall, message: Message): string | undefined {
    if (message.cmd === 0) {
      if ("item" in message || "end" in message) {
        if (!call.hasItems) return "the call has no stream of items";
        if (call.over !== undefined) return `behind the ${call.over}`;
      } else if ("cancel" in message && call.over === "cancel") {
        return "a second cancel";
      }
      note(call, message);
      if (call.items > 1 + call.granted) {
        return `item ${call.items}, where ${call.granted} were granted beside the first`;
      }
      return undefined;
    }
    if (call.isAnswered) return "behind the last reply";
    note(call, message);
    if (call.replies > call.credit) return `item ${call.replies}, where the caller takes ${call.credit}`;
    if (!("credit" in message)) return undefined;
    this.#listener.onGrant(call.call);
    if (!Number.isSafeInteger(message.credit) || message.credit as number < 1) return "a grant that is none";
    if (call.granted + 1 - call.items > MOST_GRANTED) return `${call.granted + 1 - call.items} may be on their way`;
  }

  #read(call: WatchedCall, message: Message): undefined {
    note(call, message);
  }
}

/** Keeps the books of a call. */
function note(call: WatchedCall, message: Message): void {
  if (message.cmd === 0) {
    if ("item" in message) call.items++;
    else if ("credit" in message) call.credit += message.credit as number;
    else call.over = "end" in message ? "end" : "cancel";
  } else if ("res" in message || "err" in message) {
    if (message.more === true) call.replies++;
    else call.isAnswered = true;
  } else if ("credit" in message) {
    call.granted += message.credit as number;
  }
}

function opened({ call, $items, credit }: Message): WatchedCall {
  return {
    ...{ call, hasItems: $items === true, items: 0, granted: 0, over: undefined },
    ...{ replies: 0, credit: typeof credit === "number" ? credit : Infinity, isAnswered: false },
  };
}
