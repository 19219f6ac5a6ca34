/**
 * The one place that knows which runtime this is. Only sockets and look-ups of names are elsewhere: each runtime has
 * its own {@linkcode Network}.
 *
 * In: values, errors, certificates. Out: the runtime's results for them. Refused, by {@linkcode parseCertificates}:
 * certificates and keys that TLS cannot use.
 */

/** The part of Deno that is used here; other runtimes have none. */
const deno = (): typeof Deno | undefined => globalThis.Deno;

/**
 * A module of Node, which Bun has too, but not a browser. It is not imported, because a browser's bundle could not load
 * it, and not requested in Deno, which would load its whole `node:process`.
 */
const nodeModule = () => globalThis.process?.getBuiltinModule;

/** The errors of sockets and files, by their names in Deno, with Node's codes for them. */
const CODES = {
  AddrInUse: "EADDRINUSE",
  AlreadyExists: "EEXIST",
  BadResource: undefined,
  BrokenPipe: "EPIPE",
  ConnectionAborted: "ECONNABORTED",
  ConnectionRefused: "ECONNREFUSED",
  ConnectionReset: "ECONNRESET",
  Interrupted: undefined,
  NotCapable: undefined,
  NotConnected: "ENOTCONN",
  NotFound: "ENOENT",
  PermissionDenied: "EPERM",
  WouldBlock: "EAGAIN",
} as const;

/** The name of an error of a socket or a file. */
export type SystemErrorName = keyof typeof CODES;

/** Whether a paused socket of `node:tls` keeps reading the socket below it, as in Deno. */
export const tlsReadsAhead = (): boolean => deno() !== undefined;

/**
 * After this many rounds of its event loop, the runtime has polled all sockets. While there is work, Deno does so once in
 * 61 rounds. Node does in each, and `setImmediate()` may call back in the same one.
 */
export const pollRounds = (): number => deno() === undefined ? 3 : 64;

/** A readable form of a value, with an optional limit on nested containers. */
export function inspect(value: unknown, depth?: number): string {
  const options = depth === undefined ? {} : { depth };
  const runtime = deno();
  if (runtime !== undefined) return runtime.inspect(value, options);
  if (typeof value === "string") return JSON.stringify(value); // Node uses single quotes
  const util = nodeModule()?.("node:util");
  if (util !== undefined) return util.inspect(value, options);
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return Object.prototype.toString.call(value);
  }
}

/**
 * Whether an error has this name. The class is not checked, because each runtime has its own classes, and errors of
 * Node's sockets have a code.
 */
export function isNamed(error: unknown, name: SystemErrorName): boolean {
  if (!(error instanceof Error)) return false;
  const { code } = error as { code?: unknown };
  return error.name === name || code !== undefined && code === CODES[name];
}

/** An error of this name. In Deno, it has Deno's class for it. */
export function systemError(name: SystemErrorName, message: string, options?: ErrorOptions): Error {
  const Class = deno()?.errors[name];
  return Class ? new Class(message, options) : Object.assign(new Error(message, options), { name });
}

/** Whether an error means a missing permission, which is the program's mistake and not a network failure. */
export function isDenied(error: unknown): boolean {
  return isNamed(error, "NotCapable");
}

/** The message of an error, which may be any thrown value. */
export function messageOf(error: unknown): string {
  try {
    return String(error instanceof Error ? error.message : error);
  } catch {
    return "thrown: something that cannot be shown";
  }
}

/**
 * Parses certificates and keys as TLS does. It needs no permission, and opens nothing.
 *
 * @param tls Authorities, a certificate chain and its private key, as PEM.
 * @throws The runtime's error, if TLS cannot use them.
 */
export function parseCertificates({ ca, cert, key }: { ca?: string; cert?: string; key?: string }): void {
  const runtime = deno();
  if (runtime === undefined) {
    const builtIn = nodeModule();
    builtIn?.("node:tls").createSecureContext({ ca, cert, key });
    // The call above ignores a damaged authority.
    if (builtIn && ca !== undefined) new (builtIn("node:crypto").X509Certificate)(ca);
    return;
  }
  runtime.createHttpClient({
    ...(ca !== undefined && { caCerts: [ca] }),
    ...(cert !== undefined && key !== undefined && { cert, key }),
  }).close();
}

/** Deno's OpenTelemetry. Throws in other runtimes. */
export const runtimeTelemetry = (): typeof Deno.telemetry => globalThis.Deno.telemetry;

/** Writes some of the bytes to stderr without blocking, and returns how many. */
export function writeToStderr(bytes: Uint8Array): Promise<number> {
  const runtime = deno();
  if (runtime !== undefined) return runtime.stderr.write(bytes);
  // Not `process.stderr`, which blocks while a pipe is full.
  return new Promise((resolve, reject) => {
    nodeModule()?.("node:fs").write(2, bytes, (error, written) => error ? reject(error) : resolve(written));
  });
}

/**
 * Runs work that calls event listeners, and catches their errors, which would otherwise be uncaught and end the
 * process.
 *
 * @param work Calls the listeners before it returns.
 * @param onError Receives each error; in Node, a tick later.
 */
export function catchListenerErrors(work: () => void, onError: (error: unknown) => void): void {
  if (deno() === undefined) return catchUncaught(work, onError);
  const caught = (event: ErrorEvent) => {
    event.preventDefault();
    onError(event.error);
  };
  addEventListener("error", caught);
  work();
  removeEventListener("error", caught);
}

/** The same in Node, which throws such an error in its own tick, and in Bun, which reports it as uncaught at once. */
function catchUncaught(work: () => void, onError: (error: unknown) => void): void {
  const { process } = globalThis;
  const { nextTick } = process;
  process.nextTick = (callback, ...args) =>
    nextTick(() => {
      try {
        callback(...args);
      } catch (error) {
        onError(error);
      }
    });
  const isOfBun = "bun" in process.versions && !process.hasUncaughtExceptionCaptureCallback();
  if (isOfBun) process.setUncaughtExceptionCaptureCallback(onError);
  work();
  if (isOfBun) process.setUncaughtExceptionCaptureCallback(null);
  process.nextTick = nextTick;
}
