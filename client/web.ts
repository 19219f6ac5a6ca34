/**
 * The client for browsers: a typed client over the browser's `WebSocket`, small enough for a page.
 *
 * In: the URL of a server, and options. Out: a connected, typed {@linkcode Client}. Refused: a server that cannot be
 * reached; names and parameters that the commands do not have, by the compiler; what a page cannot use, such as
 * certificates, several servers and a second copy of a call.
 *
 * @module
 */

import { DEFAULT_ALIVE_MS, DEFAULT_MAX_IN_FLIGHT, DEFAULT_MAX_PAYLOAD_BYTES, DEFAULT_TIMEOUT_MS } from "../limits.ts";
import { openBrowserWebSocket } from "../transport/browser_web_socket.ts";
import { systemClock } from "../transport/clock.ts";
import type { Transport } from "../transport/transport.ts";
import type { AnyCommands, Served } from "./call_types.ts";
import type { Client } from "./client.ts";
import { checkTimeout } from "./client_call.ts";
import { ClientFace } from "./client_face.ts";
import type { ConnectOptions } from "./connect_options.ts";
import { RetryBudget } from "./retries.ts";
import { WebEngine } from "./web_engine.ts";

export type { AnyCommands, Client };
export { RpcError } from "../errors.ts";
export type { Outcome } from "./call_types.ts";
export type { CallOptions, StreamOptions } from "./call_options.ts";
export type { LinkState } from "./link.ts";
export type { ClientMiddleware, Meta, OutgoingCall } from "./call_sender.ts";
export type { RetryBudgetOptions } from "./retries.ts";
export type { ClientState } from "./rpc_client.ts";
export type { ServerStatus } from "./servers.ts";
export type { ClientStatistics, SentCalls } from "./calls.ts";
export type { BuiltIns } from "../handlers/registry.ts";

/** The options of `connect()` in a browser. */
export interface WebConnectOptions<C extends Served<C> = AnyCommands> extends
  Pick<
    ConnectOptions<C>,
    | "aliveMs"
    | "clock"
    | "commands"
    | "lazy"
    | "maxInFlight"
    | "maxPayloadBytes"
    | "meta"
    | "middleware"
    | "onState"
    | "random"
    | "retryBudget"
    | "signal"
    | "timeoutMs"
    | "waitForReady"
  > {
  /**
   * The server: `wss://api.example/rpc`. Do not put a token in the URL, because it would be in logs. Use `meta`
   * instead.
   */
  url: string | URL;
  /**
   * Makes a connection, instead of the browser's `WebSocket`: over a `MessagePort`, or to a server in the same page.
   */
  dial?: (signal: AbortSignal) => Promise<Transport>;
}

/**
 * Connects a page, or a worker of it, to a server.
 *
 * @param options The server's address, its commands, and options that differ from the defaults.
 * @returns The client, connected unless it is `lazy`.
 * @throws {RpcError} `CONNECTION_LOST`, if the server cannot be reached. `CLOSED`, if `signal` aborts first.
 * @throws {RangeError} If `timeoutMs` is not a number.
 * @throws {TypeError} If the URL is not a WebSocket URL.
 *
 * @example A typed client in a page
 * ```ts ignore
 * import { connect } from "./web.ts";
 * import type { commands } from "../examples/web/server.ts";
 *
 * const client = await connect<typeof commands>({ url: "wss://app.example/rpc", meta: { token: "secret" } });
 * for await (const { tick, price } of client.stream.PRICES()) console.log(tick, price);
 * ```
 */
export async function connect<C extends Served<C> = AnyCommands>(options: WebConnectOptions<C>): Promise<Client<C>> {
  const { commands = {}, signal, onState, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  const url = `${options.url}`;
  if (!/^wss?:/.test(url)) throw new TypeError(`Cannot use ${url} as url: it must begin with wss:// or ws://`);
  const events = new AbortController();
  const engine = new WebEngine({
    server: url,
    dial: options.dial ?? ((signal) => openBrowserWebSocket(url, signal)),
    commands,
    retryBudget: new RetryBudget(options.retryBudget),
    sequenced: true,
    maxInFlight: options.maxInFlight ?? DEFAULT_MAX_IN_FLIGHT,
    maxPayloadBytes: options.maxPayloadBytes ?? DEFAULT_MAX_PAYLOAD_BYTES,
    aliveMs: options.aliveMs ?? DEFAULT_ALIVE_MS,
    policy: { idempotent: false, waitForReady: options.waitForReady ?? true, timeoutMs: checkTimeout(timeoutMs) },
    clock: options.clock ?? systemClock,
    random: options.random ?? Math.random,
    onState: (state, error) => {
      if (state === "closed") events.abort(); // removes the listeners below
      onState?.(state, error);
    },
  });
  const client = new ClientFace(engine, { meta: options.meta, middleware: options.middleware ?? [] });
  const listening = { signal: events.signal };
  const page = (globalThis as { document?: EventTarget & { hidden: boolean } }).document;
  const hurry = () => page?.hidden || engine.hurry();
  globalThis.addEventListener?.("online", hurry, listening);
  page?.addEventListener("visibilitychange", hurry, listening);
  if (signal?.aborted) void client.close();
  else signal?.addEventListener("abort", () => client.close(), listening);
  if (!options.lazy) await engine.open();
  return client as unknown as Client<C>;
}
