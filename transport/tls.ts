/**
 * The TLS options of both ends, their checks, and readable texts for the runtime's TLS errors.
 *
 * In: certificates and keys as PEM text, or a function that returns them; errors. Out: the first problem found without
 * a peer; the reason for an error as text. Refused, by {@linkcode askTls}: certificates and keys that TLS cannot use.
 */

import { hasThen, OPTION_KINDS, type OptionKind } from "../limits.ts";
import { type Clock, within } from "./clock.ts";
import { isDenied, messageOf, parseCertificates } from "./runtime.ts";

/** A server's certificate, and the authority for client certificates. */
export interface ServerTls {
  /** The certificate chain, as PEM. */
  cert: string;
  /** Its private key, as PEM. */
  key: string;
  /**
   * Certificate authorities, as PEM. If set, clients must show a certificate signed by one of them (mutual TLS). Other
   * clients are disconnected before any of their bytes are decoded.
   */
  ca?: string;
}

/** The authorities that a client trusts, and its own certificate. */
export interface ClientTls {
  /**
   * Certificate authorities to trust, as PEM. They are added to the runtime's own. On Node, or if the client has its
   * own `cert`, they replace them.
   */
  ca?: string;
  /** The client's own certificate chain, as PEM, if the server requires one; needs `key`. */
  cert?: string;
  /** Its private key, as PEM. */
  key?: string;
}

/** The options, or a function that returns them when they are needed, for example from renewed files. */
export type TlsSource<Tls extends ClientTls> = Tls | (() => Tls | Promise<Tls>);

export const PEER_EXPIRED = "the peer's certificate has expired";
export const PEER_DAMAGED = "a certificate of the peer is damaged";
export const PEER_TOO_EARLY = "the peer's certificate is not valid yet";
const NO_TLS = "the peer does not speak TLS";
const CUT_OFF = "the server closed the connection";

/** How long a server's function may take. A program looks for new certificates this often. */
const ASK_TIMEOUT_MS = 60_000;

const PEM_OBJECT = "an object whose cert, key and ca are PEM text";

const { string } = OPTION_KINDS;
const TLS_OPTIONS: Readonly<Record<keyof ClientTls, OptionKind>> = { cert: string, key: string, ca: string };

/** The check of the `tls` option; `tlsProblem()` checks its contents. */
export const TLS: OptionKind = {
  is: (value) => typeof value === "function" || isTls(value),
  must: `be ${PEM_OBJECT}, or a function that gives one`,
  within: TLS_OPTIONS,
};

function isTls(value: unknown): boolean {
  return OPTION_KINDS.object.is(value) && !hasThen(value) &&
    Object.keys(TLS_OPTIONS).every((name) =>
      ["string", "undefined"].includes(typeof (value as ClientTls)[name as keyof ClientTls])
    );
}

/**
 * TLS errors of Deno, Node and Bun, with their meanings. Each pattern matches the whole text; OpenSSL's texts include a
 * place in its source.
 */
const FAULTS: readonly [RegExp, string][] = [
  [/^.*\bKeyMismatch$|^.*key.values.mismatch$/i, "the private key does not belong to the certificate"],
  [
    /^No certificates found in certificate data$|^.*no.start.line$/i,
    "the certificate is not the PEM text of a certificate",
  ],
  [/^No keys found in key data$|^.*DECODER routines.*$/, "the private key is not the PEM text of a private key"],
  [
    /^invalid peer certificate: BadEncoding$|^Unable to (add pem file|decode certificate)\b.*$|^.*asn\.?1 encoding routines.*$|^Invalid CA$/i,
    "a certificate is damaged",
  ],
  [
    /^invalid peer certificate: .*UnsupportedCertVersion.*$/,
    "a certificate is of version 1, which TLS does not take; make it of version 3, with subjectAltName",
  ],
  [/^.*failed to parse private key.*$|^Unable to decode key$/, "the private key is damaged or of an unsupported type"],
  [/^invalid peer certificate: (Expired|certificate expired\b.*)$|^CERT_HAS_EXPIRED$/, PEER_EXPIRED],
  [/^invalid peer certificate: (NotValidYet|certificate not valid yet\b.*)$|^CERT_NOT_YET_VALID$/, PEER_TOO_EARLY],
  [
    /^invalid peer certificate: (NotValidForName|certificate not valid for name .*)$|^ERR_TLS_CERT_ALTNAME_INVALID$/,
    "the peer's certificate is for another name",
  ],
  [
    /^invalid peer certificate: .*CaUsedAsEndEntity.*$/,
    "the peer's certificate is for an authority and not for a server; make it with basicConstraints=CA:FALSE",
  ],
  [
    /^invalid peer certificate: UnknownIssuer$|^(DEPTH_ZERO_)?SELF_SIGNED_CERT.*$|^UNABLE_TO_.*$/,
    "the peer's certificate is not signed by a trusted authority; pass its authority as ca",
  ],
  [
    /^received fatal alert: (CertificateRequired|BadCertificate|UnknownCA|DecryptError|AccessDenied)$|^.*alert.(certificate.required|bad.certificate|unknown.ca|decrypt.error|access.denied)\b[^]*$/i,
    "the peer rejected this side's certificate, or requires one",
  ],
  [
    /^peer sent no certificates$|^.*peer did not return a certificate[^]*$/i,
    "the peer has sent no certificate, and this side requires one",
  ],
  [
    /^received fatal alert: CertificateExpired$|^.*alert.certificate.expired\b[^]*$/i,
    "the peer says that this side's certificate has expired",
  ],
  [/^peer closed connection without sending TLS close_notify\b.*$/, CUT_OFF],
  [/^received corrupt message\b.*$|^.*wrong.version.number[^]*$|^.*InvalidContentType.*$/i, NO_TLS],
];

/**
 * Checks certificates and keys before they are used, so that a problem is reported at once.
 *
 * @param tls The `tls` option of `serve()` or `connect()`.
 * @returns The problem, as a sentence without its full stop; `undefined` if none is found.
 */
export function tlsProblem({ ca, cert, key }: ClientTls): string | undefined {
  if ((cert === undefined) !== (key === undefined)) return "a certificate and its private key must be given together";
  if (ca !== undefined && !ca.includes("-----BEGIN CERTIFICATE-----")) {
    return "the certificate authority is not the PEM text of a certificate";
  }
  if (key?.includes("ENCRYPTED")) return "the private key is encrypted; give it unencrypted";
  const damaged = damageIn("chain", cert) ?? damageIn("authorities", ca);
  if (damaged !== undefined) return damaged;
  try {
    parseCertificates({ ca, cert, key });
    return undefined;
  } catch (error) {
    const text = messageOf(error);
    return faultIn(text) ?? text.replace(/^invalid peer certificate/, "the certificate is invalid");
  }
}

/** Which certificate is damaged. TLS does not read those that follow the first one in a chain; its peers do. */
function damageIn(place: string, pem = ""): string | undefined {
  const certificates = pem.match(/-----BEGIN CERTIFICATE-----[^]*?(-----END CERTIFICATE-----|$)/g) ?? [];
  const index = certificates.findIndex((certificate) => !isReadable(certificate));
  return index < 0 ? undefined : `certificate ${index + 1} of the ${place} is damaged`;
}

/** Parsed as an authority, a certificate is read whole, and may be of any use and age. */
function isReadable(certificate: string): boolean {
  try {
    parseCertificates({ ca: certificate });
    return true;
  } catch {
    return false;
  }
}

/**
 * Gets the options and checks them.
 *
 * @param source The options, or the function that returns them.
 * @returns The options.
 * @throws {TypeError} If the function fails, or an option is unknown, or TLS cannot use it. The text is the problem.
 * @throws {Deno.errors.NotCapable} If the function lacks a permission.
 */
export async function askTls<Tls extends ClientTls>(source: TlsSource<Tls>): Promise<Tls> {
  let tls: Tls;
  try {
    tls = typeof source === "function" ? await source() : source;
  } catch (error) {
    if (isDenied(error)) throw error;
    throw new TypeError(messageOf(error), { cause: error });
  }
  if (!isTls(tls)) throw new TypeError(`the function tls must give ${PEM_OBJECT}`);
  const unknown = Object.keys(tls).find((name) => !Object.hasOwn(TLS_OPTIONS, name));
  if (unknown !== undefined) throw new TypeError(`the function tls must give ${PEM_OBJECT}, and no "${unknown}"`);
  const problem = tlsProblem(tls);
  if (problem !== undefined) throw new TypeError(problem);
  return tls;
}

/**
 * Like {@linkcode askTls}, for a server. Without a certificate, it would take connections, and each handshake would fail.
 * A function that never answers would hold up all later renewals.
 *
 * @throws {TypeError} Also if there is no certificate: a function may return the values of variables that are not set.
 */
export async function askServerTls(source: TlsSource<ServerTls>, clock: Clock): Promise<ServerTls> {
  const late = () => new TypeError(`the function tls has not returned within ${ASK_TIMEOUT_MS / 1000} s`);
  const tls = await within(clock, ASK_TIMEOUT_MS, askTls(source), late);
  if (tls.cert === undefined) throw new TypeError("a server needs cert and key");
  return tls;
}

/**
 * A readable reason why a connection could not be made or was lost.
 *
 * @param error What the runtime, or a user's `dial`, threw.
 * @param answered Whether the server has replied on this connection, and so has accepted the client's certificate.
 */
export function reasonOf(error: unknown, answered = false): string {
  const text = messageOf(error);
  if (!isOfTls(error)) return text;
  const fault = faultIn(text);
  return fault === CUT_OFF && !answered ? `${fault}; it may require a certificate, or a different one` : fault ?? text;
}

/** Whether an error of a handshake says that the peer speaks another protocol. */
export function isNoTls(error: unknown): boolean {
  return faultIn(messageOf(error)) === NO_TLS;
}

/**
 * Deno's TLS errors have two classes, and Node's have a code. Other errors, such as a program's own, keep their text.
 */
function isOfTls(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return ["InvalidData", "UnexpectedEof"].includes(error.name) ||
    typeof (error as { code?: unknown }).code === "string";
}

function faultIn(text: string): string | undefined {
  return FAULTS.find(([pattern]) => pattern.test(text))?.[1];
}
