/**
 * Every limit and default of packline, in one place: the unit, the figure and why it is that figure.
 *
 * In: what a caller of `serve()` wants different. Out: a complete, checked set of limits.
 * Refused: a value that is not a whole number in the limit's range, by a `RangeError` that names it.
 */

/** The largest delay a timer of the runtime can hold, in milliseconds: a longer one would fire at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * What a server allows. Times are in milliseconds, sizes in bytes. `Infinity` is accepted only where it says so.
 *
 * @example A server that takes small payloads only
 * ```ts
 * import { serve } from "./mod.ts";
 *
 * await using server = await serve({ port: 0, maxPayloadBytes: 4096 });
 * ```
 */
export interface Limits {
  /**
   * Connections at the same time; one more is answered `OVERLOADED` and closed. Redis has the same figure, and
   * an operating system that grants fewer file descriptors is met with a pause in accepting, not with an end.
   *
   * @default {10_000}
   */
  maxConnections: number;
  /**
   * Requests in flight on one connection. At the limit the server stops reading, so that TCP holds the peer
   * back. Most of them wait for something, and that is cheap: a waiting call costs 0.5 to 4 KiB, its handler's own data
   * aside.
   *
   * @default {1_024}
   */
  maxInFlight: number;
  /**
   * Requests in flight in the whole server. One more is answered `OVERLOADED`, at once and unstarted; PING, INFO and STATS
   * are always answered. So many that wait take some 200 MiB.
   *
   * @default {65_536}
   */
  maxInFlightTotal: number;
  /**
   * What requests of one connection may take in memory that wait or whose handlers run, in bytes. At the limit the server
   * stops reading; where no call ends for a second, what comes next is answered `OVERLOADED`. Exceeded by one request at
   * the most.
   *
   * @default {16_777_216}
   */
  maxHeldBytes: number;
  /**
   * The same for all connections together. At the limit a request is answered `OVERLOADED`, at once and unstarted.
   *
   * @default {268_435_456}
   */
  maxTotalHeldBytes: number;
  /**
   * How many milliseconds a frame may come at less than 4 KiB a second; then the peer gets `BAD_FRAME`, and the connection is
   * closed. A steady upload may take longer; a byte now and then does not extend it, which is what ends a slow attacker.
   *
   * @default {10_000}
   */
  frameTimeoutMs: number;
  /**
   * Silence in milliseconds, with nothing in flight, before a connection is closed; `Infinity` is never. Above 60 s,
   * because nginx keeps pooled connections that long.
   *
   * @default {300_000}
   */
  idleTimeoutMs: number;
  /**
   * How many milliseconds a handler may run before its caller gets `DEADLINE_EXCEEDED`; `Infinity`, the default, is
   * without end, since a handler such as DELAY may sleep. A command may set its own.
   *
   * @default {Infinity}
   */
  handlerTimeoutMs: number;
  /**
   * How many milliseconds a write may go without progress before the connection is closed: the peer does not read. The
   * system's socket buffers take more only after some megabytes have been read, so a reader at 20 KB a second is seen to make
   * progress about once a minute.
   *
   * @default {120_000}
   */
  writeTimeoutMs: number;
  /**
   * Replies that wait for a slow reader, in bytes, per connection. At the limit the server stops reading. Enough for four
   * of the largest payloads by default; what a peer that never reads costs.
   *
   * @default {4_194_304}
   */
  maxQueuedBytes: number;
  /**
   * The largest payload in bytes, either way. Above 57,310 bytes it travels in a long frame (PROTOCOL.md, "Long frames"). At most
   * 64 MiB: a message is held in memory whole. NATS has the same default.
   *
   * @default {1_048_576}
   */
  maxPayloadBytes: number;
  /**
   * Containers inside one another in one message, at most 1,000. Deeper ones would exhaust the stack somewhere beyond
   * 2,000. What is sent keeps to the default, whatever is set here: so it can be read by whoever has set nothing.
   *
   * @default {64}
   */
  maxDepth: number;
  /**
   * What one message may take in memory once it is read, in bytes: a payload of 1 MiB could otherwise become 100 MiB of
   * objects. Eight times `maxPayloadBytes`, if that is raised. What is sent keeps to eight times the payload that the
   * receiver takes.
   *
   * @default {8_388_608}
   */
  maxMessageBytes: number;
  /**
   * Bad messages, or a `seq` that is in flight already, within any strike window; one more, and the connection is
   * closed: whoever sends so many speaks something else, or means harm. At most 100,000.
   *
   * @default {100}
   */
  maxStrikes: number;
  /**
   * The strike window, in milliseconds. A client with a bug now and then is told, and not shut out.
   *
   * @default {30_000}
   */
  strikeWindowMs: number;
}

/**
 * The limits of a server that was given none.
 *
 * @example Half the default
 * ```ts
 * import { DEFAULT_LIMITS, serve } from "./mod.ts";
 *
 * await using server = await serve({ port: 0, maxInFlight: DEFAULT_LIMITS.maxInFlight / 2 });
 * ```
 */
export const DEFAULT_LIMITS: Readonly<Limits> = Object.freeze({
  maxConnections: 10_000,
  maxInFlight: 1_024,
  maxInFlightTotal: 65_536,
  maxHeldBytes: 16 * 1024 * 1024,
  maxTotalHeldBytes: 256 * 1024 * 1024,
  frameTimeoutMs: 10_000,
  idleTimeoutMs: 300_000,
  handlerTimeoutMs: Infinity,
  writeTimeoutMs: 120_000,
  maxQueuedBytes: 4 * 1024 * 1024,
  maxPayloadBytes: 1024 * 1024,
  maxDepth: 64,
  maxMessageBytes: 8 * 1024 * 1024,
  maxStrikes: 100,
  strikeWindowMs: 30_000,
});

/** Where `serve()` listens and `connect()` dials unless told otherwise: the article's address. */
export const DEFAULT_HOSTNAME = "127.0.0.1";

/** The article's port. */
export const DEFAULT_PORT = 1235;

/** How long a call of the library waits for its reply, in milliseconds, unless told otherwise. */
export const DEFAULT_TIMEOUT_MS = 30_000;

/** How long a shutdown waits for what is in flight, in milliseconds, unless told otherwise: as Redis and NATS do. */
export const DEFAULT_GRACE_MS = 10_000;

/** Items of a stream that a client takes before it grants more, unless told otherwise. */
export const DEFAULT_CREDIT = 64;

/** Limits for which `Infinity` is a value: without end. */
export const MAY_BE_ENDLESS: ReadonlySet<keyof Limits> = new Set(["idleTimeoutMs", "handlerTimeoutMs"]);

/** Upper ends below the general one, and why. */
const MAXIMA: Partial<Limits> = {
  maxPayloadBytes: 64 * 1024 * 1024, // a message is held in memory whole
  maxDepth: 1_000, // the reader recurses
  maxStrikes: 100_000, // each is remembered for its window
};

/** The names of all limits, in the order of their documentation. */
export const LIMIT_NAMES = Object.keys(DEFAULT_LIMITS) as readonly (keyof Limits)[];

/**
 * The given limits over the defaults, each checked.
 *
 * @param wanted The limits that differ from the defaults; other properties are ignored, `undefined` means default.
 * @returns All limits.
 * @throws {RangeError} If a limit is not a whole number in its range.
 *
 * @example A value out of range is refused by name
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
  for (const name of LIMIT_NAMES) {
    const value = wanted[name];
    if (value === undefined) continue;
    limits[name] = checkLimit(name, value);
  }
  return limits;
}

/**
 * What a message may take in memory unless it was decided otherwise.
 *
 * @param maxPayloadBytes How large its payload may be.
 * @returns The limit, in bytes.
 */
export function messageBytesFor(maxPayloadBytes: number): number {
  return Math.max(DEFAULT_LIMITS.maxMessageBytes, 8 * maxPayloadBytes);
}

/**
 * One limit, checked.
 *
 * @param name Which limit.
 * @param value What was asked for, of any type: a caller without types is met with a clear error too.
 * @returns The value, a whole number.
 * @throws {RangeError} If it is not a whole number in the limit's range.
 */
export function checkLimit(name: keyof Limits, value: unknown): number {
  const most = MAXIMA[name] ?? MAX_TIMER_MS;
  const endless = MAY_BE_ENDLESS.has(name);
  if (endless && value === Infinity) return Infinity;
  if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= most) return value;
  const range = `a whole number from 1 to ${most}${endless ? ", or Infinity" : ""}`;
  throw new RangeError(`Cannot use ${shown(value)} as ${name}: it must be ${range}`);
}

/**
 * How long a call may wait for its reply, checked.
 *
 * @param timeoutMs What was asked for, of any type; `Infinity` is without end, and from 0 down no time is left.
 * @returns The same, a number of milliseconds.
 * @throws {RangeError} If it is not a number.
 */
export function checkTimeout(timeoutMs: unknown): number {
  if (typeof timeoutMs === "number" && !Number.isNaN(timeoutMs)) return timeoutMs;
  throw new RangeError(`Cannot use ${shown(timeoutMs)} as timeoutMs: it must be a number of milliseconds`);
}

/** What an option must be: for its check, and for the error that names it. */
export interface OptionKind {
  /** Whether a value is one. */
  readonly is: (value: unknown) => boolean;
  /** What to say of a value that is none, as `be a function`. */
  readonly must: string;
}

/** The kinds of options that are not numbers in a range. */
export const OPTION_KINDS: Readonly<
  Record<"any" | "boolean" | "function" | "functions" | "object", OptionKind>
> = {
  any: { is: () => true, must: "" }, // its range is checked elsewhere
  boolean: { is: (value) => typeof value === "boolean", must: "be true or false" },
  function: { is: (value) => typeof value === "function", must: "be a function" },
  functions: {
    is: (value) => Array.isArray(value) && value.every((each) => typeof each === "function"),
    must: "be an array of functions",
  },
  object: { is: (value) => typeof value === "object" && value !== null && !Array.isArray(value), must: "be an object" },
};

/**
 * Checks the names of options, and what can be said of a value without its range.
 *
 * @param options What was given, of any type: a caller without types is met with a clear error too.
 * @param kinds What there is, by name. `undefined` stands for the default everywhere.
 * @throws {TypeError} If a name is none of them, or a value is of another kind.
 * @throws {RangeError} If a value is a number that is out of range.
 *
 * @example A name that is misspelt is refused
 * ```ts
 * import { checkOptions, OPTION_KINDS } from "./limits.ts";
 * import { assertThrows } from "@std/assert";
 *
 * assertThrows(() => checkOptions({ reuseport: true }, { reusePort: OPTION_KINDS.boolean }), TypeError, '"reuseport"');
 * ```
 */
export function checkOptions(options: object, kinds: Readonly<Record<string, OptionKind>>): void {
  if (!OPTION_KINDS.object.is(options)) {
    throw new TypeError(`Cannot use ${shown(options)} as options: it must be an object`);
  }
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(kinds, name)) {
      throw new TypeError(`Cannot use "${name}": there is no such option; there are ${Object.keys(kinds).join(", ")}`);
    }
    const { is, must } = kinds[name];
    if (value === undefined || is(value)) continue;
    const text = `Cannot use ${shown(value)} as ${name}: it must ${must}`;
    throw typeof value === "number" ? new RangeError(text) : new TypeError(text);
  }
}

/** A value for an error, in a line: an object may be large, or refuse to be shown. */
function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "function") return "a function";
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "an array" : "an object";
  return String(value);
}
