/**
 * The output of one connection of a client: requests, encoded when their calls are made; the settings before the first
 * request; control messages and PINGs. After a quiet time, it first checks whether the server has closed the
 * connection.
 *
 * In: the caller's parameters and options; messages. Out: the beginning of a request; encoded messages; a callback
 * after the check. Refused: unknown options; parameters and `meta` that cannot be sent; calls that cannot be encoded.
 */

import type { Encoding } from "../codec/encode.ts";
import { kindOf } from "../codec/errors.ts";
import { MAX_SHORT_PAYLOAD_BYTES } from "../codec/frame.ts";
import { BUILT_IN_NUMBERS, type Fields, type KnownControl, Settings } from "../codec/message.ts";
import { Reader } from "../codec/reader.ts";
import type { Output } from "../codec/stage.ts";
import {
  type EncodedRequest,
  encodeGiven,
  encodeItem,
  type GivenRequest,
  type SentControl,
  writeControl,
  writeEncodedRequest,
} from "../codec/write_message.ts";
import type { Span } from "../codec/frame.ts";
import type { Writer } from "../codec/writer.ts";
import { checkOptions, DEFAULT_LIMITS, OPTION_KINDS, type OptionKind } from "../limits.ts";
import type { CallEncoder, CallOptions, GivenOwner, ItemSource, MaybeItems, StreamOptions } from "./call_options.ts";
import { type CallSpan, clientTelemetry } from "../session/telemetry.ts";
import { ClientCall, type ClientSettings, PING_SEQ } from "./client_call.ts";
import { type ItemMessage, unsendable } from "./outgoing_items.ts";

const NO_PARAMETERS: Fields = Object.freeze({});

const { any, boolean, number, signal } = OPTION_KINDS;

/** The options of a call. What is `any` is checked where it is used. */
export const CALL_OPTIONS: Readonly<Record<keyof MaybeItems<CallOptions>, OptionKind>> = {
  ...{
    timeoutMs: number,
    signal,
    meta: any,
    idempotent: boolean,
    waitForReady: boolean,
    hedgeAfterMs: any,
    items: any,
  },
};

/** The options of a stream. */
export const STREAM_OPTIONS: Readonly<Record<keyof MaybeItems<StreamOptions>, OptionKind>> = {
  ...{ timeoutMs: number, signal, meta: any, idempotent: boolean, waitForReady: boolean, credit: number, items: any },
};

/**
 * Checks the options of a call. The compiler does that only for typed callers.
 *
 * @returns The same options.
 * @throws {TypeError} If a name is unknown, or a value is of another kind.
 */
export function checkCallOptions<Options extends object>(
  options: Options,
  kinds: Readonly<Record<string, OptionKind>>,
): Options {
  if (typeof options !== "object" || options === null) checkOptions(options, kinds);
  // Each call comes by here. The check that makes an array of all options is needed only for its error.
  for (const name in options) {
    if (!Object.hasOwn(kinds, name) || !isOfKind(options[name], kinds[name])) checkOptions(options, kinds);
  }
  return options;
}

/** The options of either, also as a list: a loop over an object would come by what is on `Object.prototype`. */
const ALL_OPTIONS: Readonly<Record<string, OptionKind>> = { ...CALL_OPTIONS, ...STREAM_OPTIONS };
const ALL_KINDS = Object.entries(ALL_OPTIONS);

/** Checks the kinds of the options alone, because the names of a call are not those of a stream. */
function checkKinds(options: MaybeItems<CallOptions>): void {
  if (typeof options !== "object" || options === null) checkOptions(options, ALL_OPTIONS);
  for (const [name, kind] of ALL_KINDS) {
    const value = options[name as keyof CallOptions];
    if (!isOfKind(value, kind)) checkOptions({ [name]: value }, ALL_OPTIONS);
  }
}

function isOfKind(value: unknown, { is }: OptionKind): boolean {
  return value === undefined || is(value);
}

/** Generators and other iterators of the language, which can be read once. */
const ITERATORS: readonly object[] = [function* () {}, async function* () {}].map((make) =>
  Object.getPrototypeOf(Object.getPrototypeOf(make.prototype))
);

/** Those that a call has had. It closes them, so for another call they would be an empty stream that looks whole. */
const hadByCalls = new WeakSet<ItemSource>();

function checkFresh(name: string, items: ItemSource): void {
  if (!ITERATORS.some((prototype) => Object.prototype.isPrototypeOf.call(prototype, items))) return;
  if (hadByCalls.has(items)) {
    throw new TypeError(`Cannot call ${name}: an earlier call had these items, and has closed them; make new ones`);
  }
  hadByCalls.add(items);
}

/** Not every number is that of a command: 0 would be sent as a control message, which no server answers. */
function checkName(name: unknown): void {
  if (typeof name === "string" || Number.isSafeInteger(name) && name as number > 0) return;
  const shown = typeof name === "number" ? name : kindOf(name);
  throw new TypeError(`Cannot call ${shown}: a command is called by its name, as in call("PING")`);
}

/**
 * Encodes the request of a call.
 *
 * @param credit The initial credit of a stream.
 * @throws {RangeError} If the request is too large.
 * @throws {TypeError} If the name is none, the parameters or `meta` cannot be sent, or an earlier call had the items.
 */
export function encodeCall(
  owner: GivenOwner,
  name: string,
  params: unknown,
  options: MaybeItems<CallOptions>,
  credit?: number,
): Span {
  checkName(name);
  const { sequenced, maxPayloadBytes } = owner.settings;
  const { meta, timeoutMs = owner.settings.policy.timeoutMs, items } = options;
  if (items !== undefined) checkFresh(name, items);
  const lateFields = (sequenced ? 1 : 0) + (timeoutMs === Infinity ? 0 : 1);
  const given: GivenRequest = {
    cmd: owner.cmdOf(name),
    params: params === undefined ? NO_PARAMETERS : params,
    meta,
    credit,
    hasItems: items !== undefined,
  };
  try {
    return encodeGiven(given, lateFields, maxPayloadBytes);
  } catch (error) {
    throw unsendable(name, error);
  }
}

/**
 * Encodes the request of a stream that resumes after its last item.
 *
 * @param request The request as it was sent.
 */
function encodeResumed(
  { given, ttl }: EncodedRequest,
  { after, credit }: { after: number | string; credit: number },
): Span {
  const lateFields = ttl === undefined ? 1 : 2;
  const { cmd, meta, credit: _, ...params } = fieldsOf(given, lateFields);
  // Its size is checked when it is sent.
  return encodeGiven({ cmd, params: { ...params, after }, meta, credit } as GivenRequest, lateFields, Infinity);
}

/**
 * A copy of the parameters, so that the caller may change its objects.
 *
 * @throws {RangeError} If the request is too large.
 * @throws {TypeError} If the name is none, the parameters or `meta` cannot be sent, or an option is invalid.
 */
function copyParams(
  name: string,
  params: unknown,
  maxPayloadBytes: number,
  options: MaybeItems<CallOptions>,
): Fields {
  checkName(name);
  checkKinds(options);
  try {
    const given = {
      cmd: name,
      params: params === undefined ? NO_PARAMETERS : params,
      meta: options.meta,
      credit: undefined,
    };
    const { cmd: _, meta: __, ...copy } = fieldsOf(encodeGiven(given, 0, maxPayloadBytes), 0);
    return copy;
  } catch (error) {
    throw unsendable(name, error);
  }
}

/** The fields of a request, without the fields that are added when it is sent. */
function fieldsOf(given: Span, lateFields: number): Fields {
  const reader = new Reader({ maxDepth: DEFAULT_LIMITS.maxDepth, maxMessageBytes: Infinity });
  reader.begin(given.bytes, given.start, given.end);
  const fields: Fields = {};
  for (let left = reader.readMapSize() - lateFields; left > 0; left--) reader.readField(fields, reader.readKey());
  return fields;
}

/** The encoder of a client that has the whole codec. */
export const callEncoder: CallEncoder = { encodeCall, encodeResumed, encodeItem, copyParams };

/** After this long without traffic, the client first checks for a closed connection. */
const QUIET_MS = 1_000;

/**
 * How many timers fire before the check is over. After a long computation, the runtime fires the first one before it
 * polls its sockets. It polls before the second, and has passed on what it found before the third.
 */
const LOOKS = 3;
const LOOK_PAUSE_MS = 1;

const PING: EncodedRequest & { readonly kind: "ping" } = {
  kind: "ping",
  ttl: undefined,
  given: encodeGiven(
    { cmd: BUILT_IN_NUMBERS.get("PING") as number, params: {}, meta: undefined, credit: undefined },
    1,
    MAX_SHORT_PAYLOAD_BYTES,
  ),
};

/** What a client sends. */
export type ClientOutput = ClientCall | SentControl | typeof PING;

/** The part of a connection that its sender uses. */
export interface SenderHost {
  /** A check is over. */
  wake(): void;
  /** A call could not be encoded. */
  forget(call: ClientCall): void;
}

/** The sending side of one connection. */
export class Sender implements Encoding<ClientOutput> {
  /** Set when the stages start. */
  output: Output<ClientOutput> | undefined;
  readonly #settings: ClientSettings;
  readonly #host: SenderHost;
  #isGreeted = false;
  #controls: KnownControl[] = [];
  /** The time of the last traffic. */
  #lastUseMs: number;
  #look: ReturnType<typeof setTimeout> | undefined;

  constructor(settings: ClientSettings, host: SenderHost) {
    this.#settings = settings;
    this.#host = host;
    this.#lastUseMs = settings.clock.now();
  }

  /** Records traffic. */
  used(nowMs: number): void {
    this.#lastUseMs = nowMs;
  }

  /**
   * Whether the connection was quiet, so that the server may have closed it unnoticed. If so, checks this, and then
   * wakes the host.
   */
  isQuiet(nowMs: number): boolean {
    if (nowMs - this.#lastUseMs < QUIET_MS) return false;
    if (this.#look === undefined) this.#lookOn(LOOKS);
    return true;
  }

  #lookOn(looks: number): void {
    this.#look = setTimeout(() => {
      if (looks > 1) return this.#lookOn(looks - 1);
      this.#look = undefined;
      this.#lastUseMs = this.#settings.clock.now();
      this.#host.wake();
    }, LOOK_PAUSE_MS);
  }

  /**
   * Sends a call, an item of a caller's stream, or the end of a stream.
   *
   * @throws {EncodeError} If an item cannot be encoded; errors of the caller's getters pass through. None of its bytes
   * were sent.
   */
  send(message: ClientCall | ItemMessage): void {
    this.output?.enqueue(message);
  }

  /** Sends a PING. */
  ping(): void {
    this.greet();
    this.output?.enqueue(PING);
  }

  /** Repeats the promise that the client is alive. It needs no answer. */
  promise(): void {
    this.output?.enqueue(new Settings({ alive: this.#settings.aliveMs }));
  }

  /** Keeps a control message until `sendControls()`. */
  add(control: KnownControl): void {
    this.#controls.push(control);
  }

  /** Sends the control messages that wait. */
  sendControls(): void {
    if (this.#controls.length === 0) return;
    const controls = this.#controls;
    this.#controls = [];
    for (const control of controls) this.output?.enqueue(control);
  }

  /** Cancels a check. */
  close(): void {
    clearTimeout(this.#look);
  }

  /**
   * Sends the settings, once, before the first request and without waiting for it, because a server that shuts down
   * notifies only clients that have asked for it. Without `seq` it sends none: such a server would answer control
   * messages.
   */
  greet(): void {
    if (this.#isGreeted) return;
    this.#isGreeted = true;
    const { sequenced, maxPayloadBytes, aliveMs } = this.#settings;
    if (!sequenced) return;
    const max = maxPayloadBytes === MAX_SHORT_PAYLOAD_BYTES ? undefined : maxPayloadBytes;
    const alive = aliveMs === 0 ? undefined : aliveMs;
    this.output?.enqueue(new Settings({ max, alive, notice: true }));
  }

  writeMessage(writer: Writer, message: ClientOutput): void {
    if (message instanceof ClientCall) {
      writeEncodedRequest(writer, message, this.#settings.sequenced ? message.id : undefined);
    } else if (message.kind === "ping") writeEncodedRequest(writer, message, PING_SEQ);
    else writeControl(writer, message);
  }

  maxPayloadBytes(message: ClientOutput): number {
    const isGiven = message instanceof ClientCall || message.kind === "request item" || message.kind === "encoded item";
    // The client's own messages are sent even if the limit is very low.
    return isGiven ? this.#settings.maxPayloadBytes : Infinity;
  }

  /** A call could not be encoded. None of its bytes were sent, and its place is free. */
  onUnwritable(call: ClientOutput, error: unknown): undefined {
    if (!(call instanceof ClientCall)) throw error;
    this.#host.forget(call);
    call.end(unsendable(call.name, error));
  }
}

/**
 * The trace spans of calls, if telemetry is on. They are not a field of a call, because each call, also in a page,
 * would pay for it.
 */
const spans = clientTelemetry && new WeakMap<ClientCall, CallSpan>();

/** Gives a call its span, before it begins. */
export function setSpan(call: ClientCall, span: CallSpan | undefined): void {
  if (span !== undefined) spans?.set(call, span);
}

/** The span of a call; `undefined` if telemetry is off. */
export function spanOf(call: ClientCall): CallSpan | undefined {
  return spans?.get(call);
}

/** A call was sent to a server, so its items may be sent too. Their source runs in the span of the call. */
export function startItems(call: ClientCall, peer: string, server: string): void {
  const { items } = call;
  const span = spanOf(call);
  span?.reaches(peer, server);
  if (span === undefined || items === undefined) items?.start();
  else span.run(() => items.start());
}
