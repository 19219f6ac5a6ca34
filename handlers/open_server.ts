/**
 * Makes servers over the sockets of any runtime. Each runtime has its own entry point, with the same `serve()` and
 * `createServer()`.
 *
 * In: options, and the sockets of the runtime. Out: a {@linkcode Server}. Refused: an option that does not exist, has
 * the wrong type or is out of range; an address in use.
 */

import { checkOptions, LIMIT_NAMES, type Limits, OPTION_KINDS, type OptionKind } from "../limits.ts";
import { CLOCK } from "../transport/clock.ts";
import type { ServerNetwork } from "../transport/listen.ts";
import { ORIGINS } from "../transport/origins.ts";
import { LOG_FORMAT, LOG_LEVEL } from "./log_line.ts";
import { SOME_BUILT_INS } from "./registry.ts";
import { LISTEN_OPTIONS, type Listener, type ListenOptions, PacklineServer, type Server } from "./server.ts";
import { type ServerOptions, ServerState } from "./server_state.ts";

/** The options of `serve()`: the options of a server, and its address. */
export interface ServeOptions extends ServerOptions, ListenOptions {}

/** A listening server, returned by `serve()`. */
export interface ListeningServer extends Server, Listener {}

/** What each option must be. The ranges of the limits are checked in `resolveLimits()`. */
export const SERVER_OPTIONS: Record<keyof ServerOptions, OptionKind> = {
  ...Object.fromEntries(LIMIT_NAMES.map((name) => [name, OPTION_KINDS.any])) as Record<keyof Limits, OptionKind>,
  commands: OPTION_KINDS.commands,
  builtIns: SOME_BUILT_INS,
  tap: OPTION_KINDS.boolean,
  ready: OPTION_KINDS.function,
  middleware: OPTION_KINDS.functions,
  onConnect: OPTION_KINDS.function,
  onClose: OPTION_KINDS.function,
  checkResults: OPTION_KINDS.boolean,
  onError: OPTION_KINDS.function,
  logLevel: LOG_LEVEL,
  logFormat: LOG_FORMAT,
  webOrigins: ORIGINS,
  clock: CLOCK,
  random: OPTION_KINDS.function,
  worker: OPTION_KINDS.object,
};

/**
 * Makes a server that does not listen yet.
 *
 * @param options The options of `createServer()`.
 * @param network The sockets of the runtime.
 * @returns The server.
 */
export function openServer(options: ServerOptions, network: ServerNetwork): Server {
  checkOptions(options, SERVER_OPTIONS);
  // Copies: what the caller does to them later must not change the calls that are under way.
  const own = { ...options, middleware: [...options.middleware ?? []] };
  return new PacklineServer(new ServerState(own), own, network);
}

/**
 * Makes a server, and listens.
 *
 * @param options The options of `serve()`.
 * @param network The sockets of the runtime.
 * @returns The server, listening.
 */
export async function openListeningServer(options: ServeOptions, network: ServerNetwork): Promise<ListeningServer> {
  checkOptions(options, { ...LISTEN_OPTIONS, ...SERVER_OPTIONS });
  const server = openServer(partOf<ServerOptions>(options, SERVER_OPTIONS), network);
  return Object.assign(server, await server.listen(partOf<ListenOptions>(options, LISTEN_OPTIONS)));
}

/** The options that have a kind in a list. */
export function partOf<Part extends object>(options: Part, kinds: Record<keyof Part, OptionKind>): Part {
  const names = Object.keys(kinds) as (keyof Part)[];
  return Object.fromEntries(names.map((name) => [name, options[name]])) as Part;
}
