/**
 * Which server the flags mean, and how to reach it.
 *
 * In: flags. Out: an address, or a connection. Refused: flags that contradict one another, by a `UsageError`; a file
 * that cannot be read, by an `InputError`; a server that cannot be reached or may not be, by a `CONNECTION_LOST` that
 * says what to do about it.
 */

import { RpcError } from "../errors.ts";
import { DEFAULT_HOSTNAME, DEFAULT_PORT } from "../limits.ts";
import { type Address, dialAddress, textOf } from "../transport/dial.ts";
import type { Transport } from "../transport/transport.ts";
import { type ClientTls, tlsProblem } from "../transport/tls.ts";
import { type FlagValues, toggle, UsageError } from "./arguments.ts";
import { hostnameFlag, pathFlag, portFlag } from "./flags.ts";
import { InputError, readPem } from "./pem.ts";
import { withFlags } from "./permission.ts";

/** The flags that say where the server is. */
export const ADDRESS_FLAGS = {
  hostname: hostnameFlag("the server's name or address"),
  port: portFlag("the server's port", 1),
  unix: pathFlag("the server's unix socket, in place of a name and a port"),
  tls: toggle("speaks TLS; implied by --ca, --cert and --key"),
  ca: pathFlag("a file with the authority to trust, PEM"),
  cert: pathFlag("a file with the client's own certificate, PEM, for a server that asks for one"),
  key: pathFlag("a file with its private key, PEM"),
};

/** The address that the flags give. */
export async function addressOf(flags: FlagValues<typeof ADDRESS_FLAGS>): Promise<Address> {
  const { hostname = DEFAULT_HOSTNAME, port = DEFAULT_PORT, unix: path, ca, cert, key } = flags;
  const withTls = flags.tls || ca !== undefined || cert !== undefined || key !== undefined;
  if ((cert === undefined) !== (key === undefined)) throw new UsageError("--cert and --key go together");
  if (path !== undefined && withTls) throw new UsageError("--unix goes without TLS");
  return { hostname, port, path, tls: withTls ? await readTls(flags) : undefined };
}

async function readTls(flags: FlagValues<typeof ADDRESS_FLAGS>): Promise<ClientTls> {
  const names = ["ca", "cert", "key"] as const;
  const tls = await readPem(flags, names);
  const problem = tlsProblem(tls);
  if (problem === undefined) return tls;
  const given = names.filter((name) => flags[name] !== undefined).map((name) => `--${name} ${flags[name]}`);
  throw new InputError(`cannot use ${given.join(", ")}: ${problem}`);
}

/**
 * Has the runtime ask for what is needed to reach the server, where it is missing and somebody is there to be asked.
 * Before anything else: nothing may be timed meanwhile, and no line be edited.
 */
export async function askPermission(address: Address): Promise<void> {
  const { path } = address;
  try {
    await Deno.permissions.request({ name: "net", host: textOf(address) });
  } catch (error) {
    // What is no name of a server is for the dial to say.
    if (!(error instanceof URIError)) throw error;
  }
  if (path === undefined) return;
  for (const name of ["read", "write"] as const) await Deno.permissions.request({ name, path });
}

/** How the library names what a certificate's check lacks. */
const OPTION_CA = /\bas ca$/;

/** Dials; a permission that is missing is named, and options by their flags. */
export async function dialOrExplain(address: Address, signal: AbortSignal): Promise<Transport> {
  try {
    return await dialAddress(address, signal);
  } catch (error) {
    if (error instanceof RpcError) {
      const { err, msg } = error.toJSON();
      throw new RpcError(err, msg?.replace(OPTION_CA, "with --ca"), { retryable: error.retryable, cause: error.cause });
    }
    if (!(error instanceof Deno.errors.NotCapable)) throw error;
    const { path } = address;
    const flags = path === undefined
      ? `--allow-net=${textOf(address)}`
      : `--allow-net=unix:${path} --allow-read=${path} --allow-write=${path}`;
    throw new RpcError("CONNECTION_LOST", `no permission to reach ${textOf(address)}; ${withFlags(flags)}`);
  }
}
