/**
 * What TLS needs to know, at both ends, and what the runtime's errors about it mean.
 *
 * In: certificates and keys, as PEM text. Out: the same, checked as far as it goes without a peer; an error as a sentence
 * that says what is wrong with which of them.
 */

import { OPTION_KINDS, type OptionKind } from "../limits.ts";

/** A server's certificate, and whose certificates it wants to see. */
export interface ServerTls {
  /** The certificate chain, as PEM. */
  cert: string;
  /** Its private key, as PEM. */
  key: string;
  /**
   * Certificate authorities, as PEM. With them, only clients are let in whose certificate one of them has signed (mutual
   * TLS); others are turned away before a byte of theirs is decoded.
   */
  ca?: string;
}

/** Whom a client trusts, and what it shows. */
export interface ClientTls {
  /**
   * Certificate authorities to trust, as PEM: beside those the runtime knows, or, by a client that shows a certificate of
   * its own, in their place.
   */
  ca?: string;
  /** The client's own certificate chain, as PEM, for a server that wants one; together with `key`. */
  cert?: string;
  /** Its private key, as PEM. */
  key?: string;
}

export const PEER_EXPIRED = "the certificate of the peer has expired";
export const PEER_TOO_EARLY = "the certificate of the peer is not valid yet";
const BROKE_OFF = "the server broke off";

/** What `serve()` and `connect()` may be given as `tls`, beyond what can be said only by reading it. */
export const TLS: OptionKind = {
  is: (value) =>
    OPTION_KINDS.object.is(value) &&
    (["cert", "key", "ca"] as const).every((name) =>
      ["string", "undefined"].includes(typeof (value as ClientTls)[name])
    ),
  must: "be an object whose cert, key and ca are PEM text",
};

/** What the runtimes of both kinds say of TLS, and what it means. Each pattern fits the whole text. */
const FAULTS: readonly [RegExp, string][] = [
  [/^.*\bKeyMismatch$|^.*key values mismatch$/, "the private key does not belong to the certificate"],
  [/^No certificates found in certificate data$|^.*no start line$/, "the certificate is not PEM text"],
  [/^No keys found in key data$|^.*DECODER routines.*$/, "the private key is not PEM text"],
  [/^invalid peer certificate: BadEncoding$|^Unable to add pem file .*$/, "a certificate is damaged"],
  [/^.*failed to parse private key.*$/, "the private key is damaged, or of a kind that is not known"],
  [/^invalid peer certificate: (Expired|certificate expired\b.*)$|^CERT_HAS_EXPIRED$/, PEER_EXPIRED],
  [/^invalid peer certificate: (NotValidYet|certificate not valid yet\b.*)$|^CERT_NOT_YET_VALID$/, PEER_TOO_EARLY],
  [
    /^invalid peer certificate: (NotValidForName|certificate not valid for name .*)$|^ERR_TLS_CERT_ALTNAME_INVALID$/,
    "the certificate of the peer is for another name",
  ],
  [
    /^invalid peer certificate: (UnknownIssuer|.*CaUsedAsEndEntity.*)$|^(DEPTH_ZERO_)?SELF_SIGNED_CERT.*$|^UNABLE_TO_.*$/,
    "the certificate of the peer is signed by nobody who is trusted here; name its authority as ca",
  ],
  [
    /^received fatal alert: (CertificateRequired|BadCertificate|UnknownCA|DecryptError|AccessDenied)$|^peer sent no certificates$/,
    "the peer does not accept the certificate of this side, or wants one",
  ],
  [/^received fatal alert: CertificateExpired$/, "the peer says that the certificate of this side has expired"],
  [/^peer closed connection without sending TLS close_notify\b.*$/, BROKE_OFF],
  [/^received corrupt message\b.*$|^.*wrong version number.*$|^.*InvalidContentType.*$/, "the peer does not speak TLS"],
];

/**
 * Looks at certificates and keys before they are used, so that what is wrong with them is said at once, and by whose
 * they are.
 *
 * @param tls What `serve()` or `connect()` was given.
 * @returns What is wrong, as a sentence without its full stop; `undefined` if they will do, as far as one can tell.
 */
export function tlsProblem({ ca, cert, key }: ClientTls): string | undefined {
  if ((cert === undefined) !== (key === undefined)) return "a certificate and its private key go together";
  if (ca !== undefined && !ca.includes("-----BEGIN CERTIFICATE-----")) return "the authority is not PEM text";
  if (key?.includes("ENCRYPTED")) return "the private key is encrypted; it is needed in the clear";
  try {
    // It reads all three as TLS does, needs no permission, and opens nothing.
    Deno.createHttpClient({
      ...(ca !== undefined && { caCerts: [ca] }),
      ...(cert !== undefined && key !== undefined && { cert, key }),
    }).close();
    return undefined;
  } catch (error) {
    return faultIn(messageOf(error)) ?? messageOf(error);
  }
}

/**
 * Why a connection could not be made, or is lost, for people.
 *
 * @param error What the runtime, or a dial of the user's own, has thrown.
 * @param answered Whether the server has answered on this connection: then it has accepted the client's certificate.
 */
export function reasonOf(error: unknown, answered = false): string {
  const text = messageOf(error);
  if (!isOfTls(error)) return text;
  const fault = faultIn(text);
  return fault === BROKE_OFF && !answered
    ? `${fault}, as one does that wants a certificate, or another one`
    : fault ?? text;
}

/** What an error says. It may be anything that somebody has thrown. */
export function messageOf(error: unknown): string {
  try {
    return String(error instanceof Error ? error.message : error);
  } catch {
    return "thrown: something that cannot be shown";
  }
}

/** The runtime's own TLS has two classes of errors, and Node's gives each a code. A program's own texts mean what they say. */
function isOfTls(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return ["InvalidData", "UnexpectedEof"].includes(error.name) ||
    typeof (error as { code?: unknown }).code === "string";
}

function faultIn(text: string): string | undefined {
  return FAULTS.find(([pattern]) => pattern.test(text))?.[1];
}
