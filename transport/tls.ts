/**
 * What TLS needs to know, at both ends, and what the runtime's errors about it mean.
 *
 * In: certificates and keys, as PEM text. Out: the same, checked as far as it goes without a peer; an error as a sentence
 * that says what is wrong with which of them.
 */

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

/** What the runtimes of both kinds say, and what it means. */
const FAULTS: readonly [RegExp, string][] = [
  [/KeyMismatch|key values mismatch/i, "the private key does not belong to the certificate"],
  [/No certificates found|no start line|PEM.*certificate/i, "the certificate is not PEM text"],
  [/No keys found|PEM.*key|unsupported.*key|DECODER/i, "the private key is not PEM text"],
  [/BadEncoding/, "a certificate is damaged"],
  [/failed to parse private key/, "the private key is damaged, or of a kind that is not known"],
  [/peer certificate: Expired|certificate has expired/i, "the certificate of the peer has expired"],
  [/NotValidYet/i, "the certificate of the peer is not valid yet"],
  [
    /not valid for name|NotValidForName|does not match certificate's altnames/i,
    "the certificate of the peer is for another name",
  ],
  [
    /UnknownIssuer|CaUsedAsEndEntity|self.signed|unable to verify/i,
    "the certificate of the peer is signed by nobody who is trusted here; name its authority as ca",
  ],
  [
    /fatal alert: (CertificateRequired|BadCertificate|UnknownCA|DecryptError|AccessDenied)|peer sent no certificates/i,
    "the peer does not accept the certificate of this side, or wants one",
  ],
  [/fatal alert: CertificateExpired/i, "the peer says that the certificate of this side has expired"],
  [
    /without sending TLS close_notify/i,
    "the peer broke off; a server that asks for a certificate does so with one that it does not accept",
  ],
  [/InvalidContentType|corrupt message|wrong version number/i, "the peer does not speak TLS"],
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
    return reasonOf(error);
  }
}

/** What an error says, for people; where it is one of TLS, what it means. It may be anything that somebody has thrown. */
export function reasonOf(error: unknown): string {
  try {
    const text = String(error instanceof Error ? error.message : error);
    return FAULTS.find(([pattern]) => pattern.test(text))?.[1] ?? text;
  } catch {
    return "thrown: something that cannot be shown";
  }
}
