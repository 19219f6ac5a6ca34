/**
 * The one error class of packline and the codes it carries, with what each means for the caller.
 *
 * In: a code, perhaps a text and data. Out: an error to throw, and the reply that says the same on the wire.
 */

/**
 * The codes packline itself uses. Those on the wire are explained in PROTOCOL.md, "What goes wrong";
 * the last five are the ends that a call can have at its caller, without a reply.
 */
export type ErrorCode =
  | "BAD_FRAME"
  | "INVALID_MESSAGE"
  | "CMD_NOT_FOUND"
  | "INVALID_SLEEP"
  | "INVALID_PARAMS"
  | "DEADLINE_EXCEEDED"
  | "CANCELLED"
  | "OVERLOADED"
  | "SHUTTING_DOWN"
  | "REPLY_TOO_LARGE"
  | "REPLY_NOT_ENCODABLE"
  | "INTERNAL"
  | "CONNECTION_LOST"
  | "TIMEOUT"
  | "CLOSED"
  | "BAD_REPLY";

/** What can be said about a failure beside its code and text. */
export interface RpcErrorOptions {
  /** Anything MessagePack can hold that helps the caller; travels as `data`. */
  data?: unknown;
  /** Whether the request was certainly not started, so that sending it again is safe. */
  retryable?: boolean;
  /** What led to this error; stays on this side of the wire. */
  cause?: unknown;
}

/** What a code means to whoever gets it. */
export interface CodeMeaning {
  /** Who says it: the server, by a reply; or the caller's own end, where no reply came. */
  readonly saidBy: "server" | "caller";
  /** Whether the handler was started. */
  readonly started: "no" | "yes" | "maybe";
  /** Whether sending the request again is safe, and can help. */
  readonly retryable: boolean;
  /** What becomes of the connection. */
  readonly connection: "goes on" | "ends" | "may end";
  /** Whether a reply without `seq` may say it of the connection as a whole. */
  readonly unasked: boolean;
}

const SAID = { saidBy: "server", started: "no", retryable: false, connection: "goes on", unasked: false } as const;
const SUFFERED = {
  saidBy: "caller",
  started: "maybe",
  retryable: false,
  connection: "may end",
  unasked: false,
} as const;

/** All codes of packline's own: the one place that says what each means (PROTOCOL.md, "What goes wrong"). */
export const ERROR_CODES: Readonly<Record<ErrorCode, CodeMeaning>> = {
  BAD_FRAME: { ...SAID, connection: "ends", unasked: true },
  INVALID_MESSAGE: { ...SAID, unasked: true },
  CMD_NOT_FOUND: SAID,
  INVALID_SLEEP: SAID,
  INVALID_PARAMS: SAID,
  DEADLINE_EXCEEDED: { ...SAID, started: "maybe" },
  CANCELLED: { ...SAID, started: "maybe", connection: "may end" },
  OVERLOADED: { ...SAID, retryable: true, connection: "may end", unasked: true },
  SHUTTING_DOWN: { ...SAID, retryable: true, connection: "ends" },
  REPLY_TOO_LARGE: { ...SAID, started: "yes" },
  REPLY_NOT_ENCODABLE: { ...SAID, started: "yes" },
  INTERNAL: { ...SAID, started: "maybe" },
  CONNECTION_LOST: { ...SUFFERED, connection: "ends" },
  TIMEOUT: SUFFERED,
  CLOSED: { ...SUFFERED, connection: "ends" },
  BAD_REPLY: SUFFERED,
};

/** What a code means; `undefined` for one that is not packline's own. */
export function meaningOf(code: unknown): CodeMeaning | undefined {
  // Own properties only: a peer's code may be "constructor".
  return typeof code === "string" && Object.hasOwn(ERROR_CODES, code) ? ERROR_CODES[code as ErrorCode] : undefined;
}

/** Marks the errors of every copy of the library: a program that imports two versions of it holds two classes. */
const BRAND = Symbol.for("packline.RpcError");

/**
 * A call that failed, at either end. A handler throws it to answer with a code of its own; a caller catches it
 * and looks at `code`, never at the text. A handler may let pass what it caught as a caller: its own caller gets it as
 * it is, or `INTERNAL` where it says nothing about his request, such as an `OVERLOADED` of the server behind.
 *
 * @example A handler that answers with a code of its own
 * ```ts
 * import { command, connect, RpcError, serve } from "./mod.ts";
 * import { assertRejects } from "@std/assert";
 *
 * const WITHDRAW = command({
 *   number: 16,
 *   handler({ amount }: { amount: number }) {
 *     if (amount > 100) throw new RpcError("INSUFFICIENT_FUNDS", "the balance is 100", { data: { balance: 100 } });
 *     return { res: 100 - amount };
 *   },
 * });
 *
 * await using server = await serve({ port: 0, commands: { WITHDRAW } });
 * await using client = await connect({ port: server.port, commands: { WITHDRAW } });
 * const error = await assertRejects(() => client.call("WITHDRAW", { amount: 500 }), RpcError);
 * if (error.code !== "INSUFFICIENT_FUNDS") throw error;
 * ```
 */
export class RpcError extends Error {
  /** Always `"RpcError"`. */
  override readonly name = "RpcError";
  /** What went wrong: one of {@linkcode ErrorCode}, or a code of the handler's own. */
  readonly code: ErrorCode | (string & Record<never, never>);
  /** What the handler or the server added, if anything. */
  readonly data: unknown;
  /** True only where the request was certainly not started: sending it again cannot do anything twice. */
  readonly retryable: boolean;
  /** The text as it was given; a failure may travel with its code alone. */
  readonly #text: string | undefined;

  static {
    Object.defineProperty(this.prototype, BRAND, { value: true });
  }

  /**
   * Whether a value is an `RpcError`. One of another copy of the library, such as another version, is one too:
   * `error instanceof RpcError` asks this.
   *
   * @param value Anything, such as what a `catch` has caught.
   * @returns `true` for an error with a code, its `data` and `retryable`.
   */
  static override [Symbol.hasInstance](value: unknown): value is RpcError {
    // A subclass tells its own instances by their prototype, as usual.
    if (this !== RpcError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return typeof value === "object" && value !== null && BRAND in value;
  }

  /**
   * Makes the error; `throw` is the caller's.
   *
   * @param code The code, by convention in capitals.
   * @param text A sentence for the person who reads it; without one the code stands alone, on the wire too.
   * @param options Data for the caller, whether a retry is safe, and the cause.
   */
  constructor(code: ErrorCode | (string & Record<never, never>), text?: string, options: RpcErrorOptions = {}) {
    super(text === undefined ? code : `${code}: ${text}`, "cause" in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.data = options.data;
    this.retryable = options.retryable ?? (meaningOf(code)?.retryable === true);
    this.#text = text;
  }

  /**
   * The failure as a reply holds it (PROTOCOL.md, "Replies").
   *
   * @returns `{ err, msg?, data? }`.
   *
   * @example
   * ```ts
   * import { RpcError } from "./mod.ts";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new RpcError("INVALID_SLEEP").toJSON(), { err: "INVALID_SLEEP" });
   * ```
   */
  toJSON(): { err: string; msg?: string; data?: unknown } {
    const reply: { err: string; msg?: string; data?: unknown } = { err: this.code };
    if (this.#text !== undefined) reply.msg = this.#text;
    if (this.data !== undefined) reply.data = this.data;
    return reply;
  }
}
