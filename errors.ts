/**
 * The error class of packline, its codes, and what each code means for the caller.
 *
 * In: a code, optional text and data. Out: an error to throw, or the same failure as a reply. Refused: nothing.
 */

/**
 * The codes that packline uses. PROTOCOL.md, "What goes wrong", explains the codes on the wire. The last four arise only
 * at the caller, without a reply.
 */
export type ErrorCode =
  | "BAD_FRAME"
  | "INVALID_MESSAGE"
  | "CMD_NOT_FOUND"
  | "INVALID_SLEEP"
  | "INVALID_PARAMS"
  | "DEADLINE_EXCEEDED"
  | "CANCELLED"
  | "NOT_READY"
  | "OVERLOADED"
  | "SHUTTING_DOWN"
  | "GOING_AWAY"
  | "REPLY_TOO_LARGE"
  | "REPLY_NOT_ENCODABLE"
  | "INTERNAL"
  | "CONNECTION_LOST"
  | "TIMEOUT"
  | "CLOSED"
  | "BAD_REPLY";

/** One of {@linkcode ErrorCode}, or a handler's own code. */
// deno-lint-ignore ban-types -- `{}` keeps the completion of known codes, and lets `code` narrow the type of `data`
export type AnyCode = ErrorCode | (string & {});

/** Details of a failure, besides its code and text. */
export interface RpcErrorOptions {
  /** Any MessagePack value that helps the caller; sent as `data`. */
  data?: unknown;
  /** Whether the request was certainly not started, so that a retry is safe. It is not sent: callers go by the code. */
  retryable?: boolean;
  /** How long the caller should wait before a retry, in milliseconds; sent as `$after`. */
  retryAfterMs?: number;
  /** The cause of this error; never sent. */
  cause?: unknown;
}

/** What a code means for the caller. */
export interface CodeMeaning {
  /** The source: the server, in a reply, or the caller's own side, if no reply came. */
  readonly saidBy: "server" | "caller";
  /** Whether the handler was started. */
  readonly started: "no" | "yes" | "maybe";
  /** Whether a retry is safe and can help. */
  readonly retryable: boolean;
  /** What happens to the connection. */
  readonly connection: "goes on" | "ends" | "may end";
  /** Whether a reply without `seq` may report it for the connection as a whole. */
  readonly unasked: boolean;
}

/** Codes of a request that was certainly not started, and for which a retry can help. */
const RETRYABLE: readonly string[] = ["NOT_READY", "OVERLOADED", "SHUTTING_DOWN"] satisfies ErrorCode[];

// A bundler for browsers can leave out the table below if nothing uses it: the two functions are marked as free of side
// effects.
/* @__NO_SIDE_EFFECTS__ */ function said(differs?: Partial<CodeMeaning>): CodeMeaning {
  return { saidBy: "server", started: "no", retryable: false, connection: "goes on", unasked: false, ...differs };
}

/* @__NO_SIDE_EFFECTS__ */ function suffered(differs?: Partial<CodeMeaning>): CodeMeaning {
  return said({ saidBy: "caller", started: "maybe", connection: "may end", ...differs });
}

/** All codes of packline and what each means, in one place (PROTOCOL.md, "What goes wrong"). */
export const ERROR_CODES: Readonly<Record<ErrorCode, CodeMeaning>> = {
  BAD_FRAME: said({ connection: "ends", unasked: true }),
  INVALID_MESSAGE: said({ unasked: true }),
  CMD_NOT_FOUND: said(),
  INVALID_SLEEP: said(),
  INVALID_PARAMS: said(),
  DEADLINE_EXCEEDED: said({ started: "maybe" }),
  CANCELLED: said({ started: "maybe", connection: "may end" }),
  NOT_READY: said({ retryable: true }),
  OVERLOADED: said({ retryable: true, connection: "may end", unasked: true }),
  SHUTTING_DOWN: said({ retryable: true, connection: "ends", unasked: true }),
  GOING_AWAY: said({ started: "yes", connection: "ends" }),
  REPLY_TOO_LARGE: said({ started: "yes" }),
  REPLY_NOT_ENCODABLE: said({ started: "yes" }),
  INTERNAL: said({ started: "maybe" }),
  CONNECTION_LOST: suffered({ connection: "ends" }),
  TIMEOUT: suffered(),
  CLOSED: suffered({ connection: "ends" }),
  BAD_REPLY: suffered(),
};

/** The meaning of a code; `undefined` for a code that is not packline's own. */
export function meaningOf(code: unknown): CodeMeaning | undefined {
  // Own properties only: a peer's code may be "constructor".
  return typeof code === "string" && Object.hasOwn(ERROR_CODES, code) ? ERROR_CODES[code as ErrorCode] : undefined;
}

/** Marks the errors of every copy of the library: a program that imports two versions has two classes. */
const BRAND = Symbol.for("packline.RpcError");

/**
 * A failed call, at either end. A handler throws it to reply with its own code. A caller catches it and checks `code`,
 * never the text. A handler may rethrow an error of its own outgoing call: its caller gets the same error, or
 * `INTERNAL` if the code would be false for this request, such as an upstream `OVERLOADED` or the handler's own cancel.
 *
 * @example A handler that replies with its own code
 * ```ts
 * import { command, connect, RpcError, serve } from "./mod.ts";
 * import { assertRejects } from "@std/assert";
 *
 * const WITHDRAW = command(({ amount }: { amount: number }) => {
 *   if (amount > 100) throw new RpcError("INSUFFICIENT_FUNDS", "the balance is 100", { data: { balance: 100 } });
 *   return 100 - amount;
 * });
 *
 * await using server = await serve({ port: 0, commands: { WITHDRAW } });
 * await using client = await connect({ port: server.port, commands: { WITHDRAW } });
 * const error = await assertRejects(() => client.call.WITHDRAW({ amount: 500 }), RpcError);
 * if (error.code !== "INSUFFICIENT_FUNDS") throw error;
 * ```
 */
export class RpcError extends Error {
  /** Always `"RpcError"`. */
  override readonly name = "RpcError";
  /** What went wrong: one of {@linkcode ErrorCode}, or a handler's own code. */
  readonly code: AnyCode;
  /** Data from the handler or the server, if any. */
  readonly data: unknown;
  /** True only if the request was certainly not started, so that a retry cannot run it twice. */
  readonly retryable: boolean;
  /** How long to wait before the next try, in milliseconds, if the server sent it (PROTOCOL.md, "Replies"). */
  readonly retryAfterMs: number | undefined;
  /** The text as given; a failure may have only a code. */
  readonly #text: string | undefined;

  static {
    Object.defineProperty(this.prototype, BRAND, { value: true });
  }

  /**
   * Whether a value is an `RpcError`, even one from another copy of the library. `error instanceof RpcError` calls
   * this.
   *
   * @param value Any value, such as a caught error.
   * @returns `true` for an error with a code, its `data` and `retryable`.
   */
  static override [Symbol.hasInstance](value: unknown): value is RpcError {
    // A subclass recognises its instances by prototype, as usual.
    if (this !== RpcError) return super[Symbol.hasInstance](value);
    return typeof value === "object" && value !== null && BRAND in value;
  }

  /**
   * Makes the error without throwing it.
   *
   * @param code The code, by convention in capitals, at most 64 bytes. A server answers `INTERNAL` for a longer one.
   * @param text A sentence for people; without it the error has only its code, also on the wire.
   * @param options Data for the caller, whether a retry is safe, and the cause.
   */
  constructor(code: AnyCode, text?: string, options: RpcErrorOptions = {}) {
    super(text === undefined ? code : `${code}: ${text}`, options);
    this.code = code;
    this.data = options.data;
    this.retryable = options.retryable ?? RETRYABLE.includes(code);
    this.retryAfterMs = options.retryAfterMs;
    this.#text = text;
  }

  /**
   * The failure in the form of a reply (PROTOCOL.md, "Replies").
   *
   * @returns `{ err, msg?, data?, $after? }`.
   *
   * @example
   * ```ts
   * import { RpcError } from "./mod.ts";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new RpcError("INVALID_SLEEP").toJSON(), { err: "INVALID_SLEEP" });
   * ```
   */
  toJSON(): { err: string; msg?: string; data?: unknown; $after?: number } {
    const reply: ReturnType<RpcError["toJSON"]> = { err: this.code };
    if (this.#text !== undefined) reply.msg = this.#text;
    if (this.data !== undefined) reply.data = this.data;
    if (this.retryAfterMs !== undefined) reply.$after = this.retryAfterMs;
    return reply;
  }
}

const RECEIVED = Symbol.for("packline.received");

/**
 * Marks an error as received in a reply, or as a cancel of one call. If a handler calls another server and passes on its
 * error, an `OVERLOADED` from there says nothing about the request being handled here, and neither does a `CANCELLED`
 * of its own call. The mark works across copies of the library.
 */
export function markReceived(error: RpcError): RpcError {
  return Object.defineProperty(error, RECEIVED, { value: true });
}

/** Whether an error was received in a reply, or is a cancel of one call. */
export function isReceived(error: RpcError): boolean {
  return RECEIVED in error;
}

/** The same error with a stack of its own, for one of several calls that it ends. */
export function copyOf(error: RpcError): RpcError {
  const copy = new RpcError(error.code, error.toJSON().msg, { ...error, cause: error.cause });
  return isReceived(error) ? markReceived(copy) : copy;
}

/**
 * Rejects a promise, so that the stack of the error shows who awaits it. A method of an object with the promise's
 * `resolve`. Only an `RpcError` gets this stack: another error may be the caller's own, thrown by its items, and its
 * stack shows where.
 */
export function rejectTraced(this: { resolve(rejection: unknown): void }, error: Error): void {
  this.resolve(thrown(error));
}

/** Throws after two rounds of microtasks: V8 then knows who awaits this promise, and the one that takes it over. */
async function thrown(error: Error): Promise<never> {
  await undefined;
  await undefined;
  if (error instanceof RpcError) Error.captureStackTrace?.(error, thrown);
  throw error;
}
