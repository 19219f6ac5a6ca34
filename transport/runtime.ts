/**
 * The one place that knows which runtime this is, for all but sockets: those are a {@linkcode Network} of their own.
 *
 * In: values, errors, certificates. Out: what the runtime says of them. Refused, by {@linkcode parseCertificates}: what TLS
 * cannot use.
 */

/** The part of Deno that is used here; other runtimes have none. */
const deno: typeof Deno | undefined = globalThis.Deno;

/** A readable form of a value, with an optional limit on nested containers. */
export function inspect(value: unknown, depth?: number): string {
  if (deno !== undefined) return deno.inspect(value, depth === undefined ? {} : { depth });
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return Object.prototype.toString.call(value);
  }
}

/**
 * Whether an error is the one of this name. Not by its class: each runtime has classes of its own, and Node's sockets say it by
 * a code.
 */
export function isNamed(error: unknown, name: string): boolean {
  return error instanceof Error && error.name === name;
}

/** Whether an error means a missing permission, which is the program's mistake and not a network failure. */
export function isDenied(error: unknown): boolean {
  return isNamed(error, "NotCapable");
}

/**
 * Parses certificates and keys as TLS does. It needs no permission, and opens nothing.
 *
 * @param tls Authorities, a certificate chain and its private key, as PEM.
 * @throws The runtime's error, if TLS cannot use them.
 */
export function parseCertificates({ ca, cert, key }: { ca?: string; cert?: string; key?: string }): void {
  deno?.createHttpClient({
    ...(ca !== undefined && { caCerts: [ca] }),
    ...(cert !== undefined && key !== undefined && { cert, key }),
  }).close();
}
