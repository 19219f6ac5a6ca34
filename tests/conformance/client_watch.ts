/**
 * What must hold for all that a client sends on one connection, whatever it was told to do.
 *
 * In: its messages, and the server's final replies and grants. Out: nothing. Refused: what PROTOCOL.md forbids, by a
 * `Wrong`.
 */

import { shown } from "./values.ts";
import { type Message, Wrong } from "./wire.ts";

/** What is known of a call in flight. */
interface OpenCall {
  /** Items that the client may still send; none if the call has no stream of the client's. */
  granted: number;
  hasItems: boolean;
  ended: boolean;
}

const isInteger = (value: unknown, least: number, most = Number.MAX_SAFE_INTEGER) =>
  Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most;
const isSeq = (value: unknown) => isInteger(value, 0);

/** The fields of requests that have a meaning of their own. */
const REQUEST_FIELDS: Record<string, [right: string, holds: (value: unknown) => boolean]> = {
  seq: ["an integer, 0 to 2^53 - 1", isSeq],
  ttl: ["a number above 0", (value) => typeof value === "number" && value > 0],
  meta: ["a map of text to text", isTexts],
  credit: ["an integer, 1 to 2^53 - 1", (value) => isInteger(value, 1)],
  $items: ["true", (value) => value === true],
};

/** The fields of control messages, of which one message has those of one meaning. */
const CONTROL_FIELDS: Record<string, [right: string, holds: (value: unknown) => boolean, meaning: string]> = {
  max: ["an integer", (value) => isInteger(value, 0), "settings"],
  alive: ["an integer, 1,000 to 3,600,000", (value) => isInteger(value, 1_000, 3_600_000), "settings"],
  notice: ["a boolean", (value) => typeof value === "boolean", "settings"],
  cancel: ["true", (value) => value === true, "cancel"],
  credit: ["an integer, 1 to 2^53 - 1", (value) => isInteger(value, 1), "credit"],
  item: ["any value", () => true, "item"],
  end: ["true", (value) => value === true, "end"],
};

function isTexts(value: unknown): boolean {
  if (Array.isArray(value)) return value.length === 0;
  return typeof value === "object" && value !== null && Object.values(value).every((text) => typeof text === "string");
}

/** Watches one connection. */
export class ClientWatch {
  readonly #open = new Map<number, OpenCall>();

  /** A message of the client's. */
  onMessage(message: Message): void {
    const { cmd } = message;
    if (cmd === 0) return this.#onControl(message);
    if (typeof cmd !== "string" && !isInteger(cmd, 1)) throw new Wrong(shown(message), "cmd: a number or a name");
    for (const [name, [right, holds]] of Object.entries(REQUEST_FIELDS)) {
      if (name in message && !holds(message[name])) throw new Wrong(shown(message), `${name}: ${right}`);
    }
    const { seq } = message;
    if (seq === undefined) {
      if ("credit" in message || "$items" in message) throw new Wrong(shown(message), "a seq beside credit and $items");
      return;
    }
    if (this.#open.has(seq as number)) throw new Wrong(shown(message), "a seq that is not in flight");
    const hasItems = message.$items === true;
    this.#open.set(seq as number, { granted: hasItems ? 1 : 0, hasItems, ended: false });
  }

  /** The server has answered a call for the last time. */
  onFinal(seq: unknown): void {
    this.#open.delete(seq as number);
  }

  /** The server takes more items. */
  onGrant(seq: unknown, credit: number): void {
    const call = this.#open.get(seq as number);
    if (call) call.granted += credit;
  }

  #onControl(message: Message): void {
    const names = Object.keys(message).filter((name) => Object.hasOwn(CONTROL_FIELDS, name));
    for (const name of names) {
      const [right, holds] = CONTROL_FIELDS[name];
      if (!holds(message[name])) throw new Wrong(shown(message), `${name}: ${right}`);
    }
    const meanings = new Set(names.map((name) => CONTROL_FIELDS[name][2]));
    if (meanings.size > 1) throw new Wrong(shown(message), "one meaning in one control message");
    const [meaning] = meanings;
    if (meaning === undefined || meaning === "settings") return;
    if (!isSeq(message.seq)) throw new Wrong(shown(message), "seq: an integer, 0 to 2^53 - 1");
    if (meaning === "item" || meaning === "end") this.#onItem(message, meaning);
  }

  #onItem(message: Message, meaning: string): void {
    const call = this.#open.get(message.seq as number);
    if (call === undefined) return; // it may have crossed the final reply
    if (!call.hasItems) throw new Wrong(shown(message), "items only for a call with $items");
    if (call.ended) throw new Wrong(shown(message), "nothing behind the end");
    if (meaning === "end") call.ended = true;
    else if (--call.granted < 0) throw new Wrong(shown(message), "no item that was not granted");
  }
}
