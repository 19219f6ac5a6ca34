/**
 * All limits and defaults of packline, each with its unit and the reason for its value; and the check of options, which
 * `serve()`, `connect()`, `run()`, `command()` and calls have in common.
 *
 * In: the limits that a caller of `serve()` changes; options, and what each must be. Out: a complete, checked set of
 * limits. Refused, by an error that names it: a value that is not a whole number in the limit's range; an option that is
 * unknown or of another kind.
 */

/** The longest delay of the runtime's timers, in milliseconds; a longer one would fire at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/** The default address of `serve()` and `connect()`, from the article. */
export const DEFAULT_HOSTNAME = "127.0.0.1";

/** The default port, from the article. */
export const DEFAULT_PORT = 1235;

/** The default time limit of a call, in milliseconds. */
export const DEFAULT_TIMEOUT_MS = 30_000;

/** Unanswered calls on one connection, by default. */
export const DEFAULT_MAX_IN_FLIGHT = 1_024;

/** The largest payload, by default, in bytes: 1 MiB. */
export const DEFAULT_MAX_PAYLOAD_BYTES = 1_048_576;

/** How often a server hears from a client with open calls, by default, in milliseconds. */
export const DEFAULT_ALIVE_MS = 30_000;

/** The default time that a shutdown waits for calls in flight, in milliseconds; Redis and NATS have the same. */
export const DEFAULT_GRACE_MS = 10_000;

/** The largest number of worker processes: more than the cores of any machine. */
export const MAX_WORKERS = 1_024;

/**
 * How many items of a stream may arrive before the reader takes one: of a caller's stream at the server and, by
 * default, of a reply stream at the client. Small items cost half as much CPU as with 64. Fewer large items may arrive,
 * because their bytes count.
 */
export const DEFAULT_CREDIT = 256;

/**
 * The limits of a server. Times are in milliseconds, sizes in bytes. `Infinity` is valid only where stated.
 *
 * @example A server that accepts only small payloads
 * ```ts
 * import { serve } from "./mod.ts";
 *
 * await using server = await serve({ port: 0, maxPayloadBytes: 4096 });
 * ```
 */
export interface Limits {
  /**
   * Open connections; one more gets `OVERLOADED` and is closed. Redis has the same default. If the operating system
   * allows fewer file descriptors, the server pauses accepting and does not stop.
   *
   * @default {10_000}
   */
  maxConnections: number;
  /**
   * The maximum age of a connection, in milliseconds, with a random variation of 10 %. The default `Infinity` means no
   * limit. An older connection is drained as at a shutdown, with 10 s of grace, so that long-lived clients find new
   * servers.
   *
   * @default {Infinity}
   */
  maxConnectionAgeMs: number;
  /**
   * Handlers that run at a time for one connection. Further requests are read and wait, within `maxHeldBytes`. A running
   * handler that waits costs 0.5 to 4 KiB, without its own data.
   *
   * @default {1_024}
   */
  maxInFlight: number;
  /**
   * Handlers that run at a time in the whole server. A request that would begin one more gets `OVERLOADED` and is not
   * started; PING, INFO and STATS are always answered. This many handlers that wait use about 200 MiB.
   *
   * @default {65_536}
   */
  maxInFlightTotal: number;
  /**
   * Memory for the waiting and running requests of one connection, in bytes. At the limit the server stops reading. If
   * no call ends within a second, further requests get `OVERLOADED`. One request may exceed the limit.
   *
   * @default {16_777_216}
   */
  maxHeldBytes: number;
  /**
   * The same for all connections together, including the items of callers' streams that no handler has taken. At the
   * limit a request gets `OVERLOADED` at once and is not started, and a stream gets one item at a time. If its handler
   * does not ask for the item within a second, the call fails with `INVALID_MESSAGE`.
   *
   * @default {268_435_456}
   */
  maxTotalHeldBytes: number;
  /**
   * How long a frame may arrive at less than 4 KiB/s, in milliseconds. Then the peer gets `BAD_FRAME` and the
   * connection is closed. A steady upload may take longer, but an occasional byte does not help a slow attacker.
   * It is also the time limit of a TLS handshake, of a proxy's header and of the request for a WebSocket.
   *
   * @default {10_000}
   */
  frameTimeoutMs: number;
  /**
   * Idle time in milliseconds, with nothing in flight, before a connection is closed; `Infinity` means never. The
   * default is above 60 seconds, because nginx keeps pooled connections that long.
   *
   * @default {300_000}
   */
  idleTimeoutMs: number;
  /**
   * How long calls may go on, in milliseconds, after their client has ended its half of the connection (FIN); then they
   * are aborted and the connection is closed. `Infinity` means no limit. By default the same as `idleTimeoutMs`, so
   * that dead clients do not fill a server. If the client has sent `alive`, its FIN ends its calls at once. A connection
   * is also closed if it cannot be read for this time, because too many requests without `seq` wait for one.
   *
   * @default {300_000}
   */
  halfOpenTimeoutMs: number;
  /**
   * How long a handler may run, in milliseconds, before its caller gets `DEADLINE_EXCEEDED`, also one of a stream. The
   * default `Infinity` means no limit, because a handler may wait for long. A command may set its own (`timeoutMs`).
   *
   * @default {Infinity}
   */
  handlerTimeoutMs: number;
  /**
   * How long a write, or the end of the output, may make no progress, in milliseconds, before the connection is closed
   * because its peer does not read. Socket buffers accept more data only after the peer has read about a megabyte, so a
   * reader at 20 KB/s shows progress about once a minute.
   *
   * @default {120_000}
   */
  writeTimeoutMs: number;
  /**
   * Replies waiting for a slow reader, in bytes for each connection. At the limit the server stops reading. The default
   * is enough for four of the largest payloads; a peer that never reads costs this much and more
   * (docs/security.md). The same amount again is allowed for items of callers' streams that no handler has taken, plus
   * one payload for each such call.
   *
   * @default {4_194_304}
   */
  maxQueuedBytes: number;
  /**
   * The largest payload in bytes, in both directions. Above 57,310 bytes it needs a long frame (PROTOCOL.md, "Long
   * frames"). At most 64 MiB, because a whole message is held in memory. NATS has the same default.
   *
   * @default {1_048_576}
   */
  maxPayloadBytes: number;
  /**
   * Nested containers in one message, at most 1,000; the stack overflows beyond 2,000. Sent messages keep to the
   * default whatever is set here, so that a peer with the default can read them.
   *
   * @default {64}
   */
  maxDepth: number;
  /**
   * Memory for one decoded message, in bytes: a payload of 1 MiB could otherwise become 100 MiB of objects. Eight times
   * `maxPayloadBytes` if that is raised. Sent messages keep to eight times the payload that the receiver accepts.
   *
   * @default {8_388_608}
   */
  maxMessageBytes: number;
  /**
   * Bad messages, or a `seq` already in flight, allowed in any strike window. One more closes the connection: a peer
   * that sends so many is broken, hostile, or uses another protocol. At most 100,000.
   *
   * @default {100}
   */
  maxStrikes: number;
  /**
   * The strike window, in milliseconds. A client that seldom fails gets error replies and stays connected.
   *
   * @default {30_000}
   */
  strikeWindowMs: number;
}

/**
 * The default limits of a server.
 *
 * @example Half the default
 * ```ts
 * import { DEFAULT_LIMITS, serve } from "./mod.ts";
 *
 * await using server = await serve({ port: 0, maxInFlight: DEFAULT_LIMITS.maxInFlight / 2 });
 * ```
 */
export const DEFAULT_LIMITS: Readonly<Limits> = /* @__PURE__ */ Object.freeze({
  maxConnections: 10_000,
  maxConnectionAgeMs: Infinity,
  maxInFlight: DEFAULT_MAX_IN_FLIGHT,
  maxInFlightTotal: 65_536,
  maxHeldBytes: 16 * 1024 * 1024,
  maxTotalHeldBytes: 256 * 1024 * 1024,
  frameTimeoutMs: 10_000,
  idleTimeoutMs: 300_000,
  halfOpenTimeoutMs: 300_000,
  handlerTimeoutMs: Infinity,
  writeTimeoutMs: 120_000,
  maxQueuedBytes: 4 * 1024 * 1024,
  maxPayloadBytes: DEFAULT_MAX_PAYLOAD_BYTES,
  maxDepth: 64,
  maxMessageBytes: 8 * 1024 * 1024,
  maxStrikes: 100,
  strikeWindowMs: 30_000,
});

/** Limits that may be `Infinity`, which means no limit. */
export const MAY_BE_ENDLESS: ReadonlySet<keyof Limits> = new Set([
  "idleTimeoutMs",
  "halfOpenTimeoutMs",
  "handlerTimeoutMs",
  "maxConnectionAgeMs",
]);

/** Maxima below the general one, with reasons. */
const MAXIMA: Partial<Limits> = {
  maxPayloadBytes: 67_108_864, // 64 MiB: a whole message is held in memory
  maxDepth: 1_000, // the reader recurses
  maxStrikes: 100_000, // each is stored for its window
};

/** The names of all limits, in the order of their documentation. */
export const LIMIT_NAMES = /* @__PURE__ */ Object.keys(DEFAULT_LIMITS) as readonly (keyof Limits)[];

/**
 * Merges the given limits with the defaults and checks them.
 *
 * @param wanted The limits that differ from the defaults. Other properties are ignored; `undefined` means default.
 * @returns All limits.
 * @throws {RangeError} If a limit is not a whole number in its range.
 *
 * @example A value out of range is rejected by name
 * ```ts
 * import { resolveLimits } from "./limits.ts";
 * import { assertThrows } from "@std/assert";
 *
 * assertThrows(() => resolveLimits({ maxInFlight: 0 }), RangeError, "maxInFlight");
 * ```
 */
export function resolveLimits(wanted: Partial<Limits>): Limits {
  const limits = { ...DEFAULT_LIMITS };
  limits.maxMessageBytes = messageBytesFor(
    checkLimit("maxPayloadBytes", wanted.maxPayloadBytes ?? limits.maxPayloadBytes),
  );
  limits.halfOpenTimeoutMs = checkLimit("idleTimeoutMs", wanted.idleTimeoutMs ?? limits.idleTimeoutMs);
  for (const name of LIMIT_NAMES) {
    const value = wanted[name];
    if (value === undefined) continue;
    limits[name] = checkLimit(name, value);
  }
  return limits;
}

/**
 * The default memory limit of a message.
 *
 * @param maxPayloadBytes The largest payload.
 * @returns The limit, in bytes.
 */
export function messageBytesFor(maxPayloadBytes: number): number {
  return Math.max(DEFAULT_LIMITS.maxMessageBytes, 8 * maxPayloadBytes);
}

/**
 * Checks one limit.
 *
 * @param name The limit.
 * @param value The value, of any type, so that untyped callers get a clear error too.
 * @param option The option that has the value, if it has another name.
 * @returns The value, a whole number.
 * @throws {RangeError} If it is not a whole number in the limit's range.
 */
export function checkLimit(name: keyof Limits, value: unknown, option: string = name): number {
  const most = MAXIMA[name] ?? MAX_TIMER_MS;
  const endless = MAY_BE_ENDLESS.has(name);
  if (endless && value === Infinity) return Infinity;
  if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= most) return value;
  const range = `a whole number from 1 to ${most}${endless ? ", or Infinity" : ""}`;
  throw new RangeError(`Cannot use ${shown(value)} as ${option}: it must be ${range}`);
}

/** A kind of option, for its check and its error. */
export interface OptionKind {
  /** Whether a value is of this kind. */
  readonly is: (value: unknown) => boolean;
  /** The requirement for the error, such as `be a function`. */
  readonly must: string;
  /** The options within it, if it is an object of options. */
  readonly within?: Readonly<Record<string, OptionKind>>;
}

/** The kinds of options that are not limits. */
export const OPTION_KINDS: Readonly<
  Record<
    | ("any" | "boolean" | "commands" | "function" | "functions" | "grace" | "number" | "object" | "signal" | "string")
    | ("texts" | "workers"),
    OptionKind
  >
> = {
  any: { is: () => true, must: "" }, // its range is checked elsewhere
  boolean: { is: (value) => typeof value === "boolean", must: "be true or false" },
  commands: {
    // A Map, or the promise of a module, has no commands by name.
    is: (value) => OPTION_KINDS.object.is(value) && !(Symbol.iterator in Object(value)) && !hasThen(value),
    must: "be an object with the commands by name, as { GREET: command(…) }",
  },
  function: { is: (value) => typeof value === "function", must: "be a function" },
  functions: {
    is: (value) => Array.isArray(value) && value.every((each) => typeof each === "function"),
    must: "be an array of functions",
  },
  // Its range is checked where it is used. A symbol or an object may have no text for that error.
  number: { is: (value) => typeof value !== "object" && typeof value !== "symbol", must: "be a number" },
  object: { is: (value) => typeof value === "object" && value !== null && !Array.isArray(value), must: "be an object" },
  signal: {
    is: (value) => typeof (value as AbortSignal | null)?.addEventListener === "function" && "aborted" in Object(value),
    must: "be an AbortSignal",
  },
  string: { is: (value) => typeof value === "string", must: "be a string" },
  texts: {
    is: (value) => Array.isArray(value) && value.every((each) => typeof each === "string"),
    must: "be an array of strings",
  },
  grace: {
    is: (value) => typeof value === "number" && value >= 0 && value <= MAX_TIMER_MS,
    must: `be a number of milliseconds from 0 to ${MAX_TIMER_MS}`,
  },
  workers: {
    is: (value) =>
      value === "auto" || Number.isInteger(value) && value as number >= 1 && value as number <= MAX_WORKERS,
    must: `be a whole number from 1 to ${MAX_WORKERS}, or "auto"`,
  },
};

/**
 * Checks the names of options and the kinds of their values.
 *
 * @param options The options, of any type, so that untyped callers get a clear error too.
 * @param kinds The known options by name. `undefined` always means default.
 * @param place The option that holds them, if they are within another.
 * @throws {TypeError} If a name is unknown, or a value is of another kind.
 * @throws {RangeError} If a value is a number out of range.
 *
 * @example A misspelt name is rejected
 * ```ts
 * import { checkOptions, OPTION_KINDS } from "./limits.ts";
 * import { assertThrows } from "@std/assert";
 *
 * assertThrows(() => checkOptions({ reuseport: true }, { reusePort: OPTION_KINDS.boolean }), TypeError, '"reuseport"');
 * ```
 */
export function checkOptions(options: object, kinds: Readonly<Record<string, OptionKind>>, place?: string): void {
  if (!OPTION_KINDS.object.is(options)) {
    throw new TypeError(`Cannot use ${shown(options)} as options: it must be an object`);
  }
  const inPlace = place === undefined ? "" : ` in ${place}`;
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(kinds, name)) {
      const known = Object.keys(kinds).join(", ");
      throw new TypeError(`Cannot use "${name}"${inPlace}: unknown option; the options are ${known}`);
    }
    const { is, must, within } = kinds[name];
    if (value === undefined) continue;
    if (is(value)) {
      if (within !== undefined && typeof value === "object") checkOptions(value, within, name);
      continue;
    }
    const text = `Cannot use ${shown(value)} as ${name}${inPlace}: it must ${must}`;
    throw typeof value === "number" ? new RangeError(text) : new TypeError(text);
  }
}

/** Whether a value is a promise. As options, it has none: they come later. */
export function hasThen(value: unknown): boolean {
  return typeof (value as PromiseLike<unknown> | null)?.then === "function";
}

/** How much of an array is shown: one element of it may be what is wrong. */
const MAX_SHOWN = 20;

/** A value as short text for an error: an object may be large, or throw when shown. */
function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "function") return "a function";
  if (Array.isArray(value)) {
    const elements = value.slice(0, MAX_SHOWN).map((each) => Array.isArray(each) ? "an array" : shown(each));
    return `[${elements.join(", ")}${value.length > MAX_SHOWN ? ", …" : ""}]`;
  }
  return typeof value === "object" && value !== null ? "an object" : String(value);
}
