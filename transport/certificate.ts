/**
 * Reads certificates at a server (RFC 5280): a client's identity, after TLS has checked the signature; whether the
 * server's own certificate is valid now and can replace an earlier one.
 *
 * In: the client's certificate as DER, from the handshake; the server's own as PEM. Out: the whole subject of the
 * client's certificate as an unambiguous text, its alternative names, its fingerprint. Refused: nothing; an unreadable
 * certificate gives `undefined`. The runtime's own parser omits attributes that it does not know, so one client could
 * pass for another.
 */

import type { ServerTls } from "./tls.ts";

/** The identity of the peer, from a certificate that the server has checked. */
export interface PeerCertificate {
  /**
   * The subject, such as `O=Analytical, CN=ada`: all attributes in the order of the certificate, in the notation of RFC
   * 4514. Invisible characters, and characters that could be read as notation, are escaped, so no two subjects look the
   * same.
   */
  readonly subject: string;
  /** Alternative names: `DNS:ada.example`, `email:ada@example.org`, `URI:spiffe://example.org/ada`, `IP:7f000001`. */
  readonly alternativeNames: readonly string[];
  /** The SHA-256 of the certificate, such as `40:0E:F0:…`. It differs between certificates of the same subject. */
  readonly fingerprint256: string;
}

/** A certificate as `node:tls` gives it. */
interface CheckedCertificate {
  /** The whole certificate as DER; absent if the peer sent none. */
  readonly raw?: Uint8Array;
  readonly valid_from: string;
  readonly valid_to: string;
  readonly fingerprint256: string;
}

/** Short names of attributes by identifier: the names in RFC 4514, section 3, and three other common ones. */
const ATTRIBUTES: Readonly<Record<string, string>> = {
  "2.5.4.3": "CN",
  "2.5.4.5": "serialNumber",
  "2.5.4.6": "C",
  "2.5.4.7": "L",
  "2.5.4.8": "ST",
  "2.5.4.9": "STREET",
  "2.5.4.10": "O",
  "2.5.4.11": "OU",
  "2.5.4.12": "title",
  "0.9.2342.19200300.100.1.1": "UID",
  "0.9.2342.19200300.100.1.25": "DC",
  "1.2.840.113549.1.9.1": "emailAddress",
};

/** String types by tag, with their encodings. ASCII is valid UTF-8. */
const TEXT_ENCODINGS: Readonly<Record<number, string>> = {
  0x0c: "utf-8", // UTF8String
  0x12: "utf-8", // NumericString
  0x13: "utf-8", // PrintableString
  0x16: "utf-8", // IA5String
  0x1a: "utf-8", // VisibleString
  0x1e: "utf-16be", // BMPString
};

/** The supported forms of an alternative name, by tag. */
const ALTERNATIVE_NAMES: Readonly<Record<number, string>> = { 0x81: "email", 0x82: "DNS", 0x86: "URI", 0x87: "IP" };

const SUBJECT_ALTERNATIVE_NAME = "2.5.29.17";
const OBJECT_IDENTIFIER = 0x06;
const UTC_TIME = 0x17;
const SEQUENCE = 0x30;
const SET = 0x31;
const VERSION = 0xa0;
const EXTENSIONS = 0xa3;

/** Characters that RFC 4514 escapes anywhere in a value; characters that are invisible or move their neighbours. */
const SPECIAL = /[,+"\\<>;=]/g;
const INVISIBLE = /[\p{C}\p{Zl}\p{Zp}]/gu;

/**
 * Reads a certificate.
 *
 * @param certificate The peer's certificate, checked by TLS.
 * @returns The identity; `undefined` if the subject cannot be read or the certificate is not valid now. A handshake
 * checks the validity too, but a resumed session has no new handshake.
 */
export function identityOf(certificate: CheckedCertificate): PeerCertificate | undefined {
  const { raw, valid_from, valid_to, fingerprint256 } = certificate;
  if (raw === undefined) return undefined;
  const now = Date.now(); // a certificate states calendar time
  if (!(Date.parse(valid_from) <= now && now <= Date.parse(valid_to))) return undefined;
  try {
    const [signed] = partsOf(partsOf(new Uint8Array(raw))[0].content);
    const fields = partsOf(signed.content).filter(({ tag }) => tag !== VERSION);
    const subject = fields[4];
    const extensions = fields.find(({ tag }) => tag === EXTENSIONS);
    return {
      subject: partsOf(subject.content).map(relativeNameOf).join(", "),
      alternativeNames: extensions === undefined ? [] : alternativeNamesOf(extensions.content),
      fingerprint256,
    };
  } catch {
    return undefined; // not DER
  }
}

/**
 * Checks the validity period of a server's own certificate. Clients check it; the server's handshake does not.
 *
 * @param pem The certificate, or a chain that begins with it.
 * @returns The problem, such as `has expired on 2026-01-01`; `undefined` if there is none or it cannot be read.
 */
export function validityProblem(pem: string): string | undefined {
  try {
    const [, text] = pem.match(/-----BEGIN CERTIFICATE-----([^-]+)-----END/) as RegExpMatchArray;
    const [signed] = partsOf(partsOf(bytesOf(text))[0].content);
    const validity = partsOf(signed.content).filter(({ tag }) => tag !== VERSION)[3];
    const [from, to] = partsOf(validity.content).map(timeOf);
    const now = new Date().toISOString();
    if (now > to) return `has expired on ${to.slice(0, 10)}`;
    if (now < from) return `is not valid before ${from.slice(0, 10)}`;
  } catch {
    // `tlsProblem()` reports a certificate that cannot be read.
  }
  return undefined;
}

/**
 * Why a running server cannot replace its certificates with new ones. `tlsProblem()` has checked the new ones before.
 *
 * @returns The problem; `undefined` if there is none.
 */
export function renewalProblem(before: ServerTls, { cert, ca }: ServerTls): string | undefined {
  if ((before.ca === undefined) !== (ca === undefined)) {
    return "whether clients need a certificate (ca) changes only with a restart";
  }
  const untimely = validityProblem(cert);
  return untimely === undefined ? undefined : `the certificate ${untimely}`;
}

/** The bytes of base64; `Uint8Array.fromBase64()` is too new for Node. */
function bytesOf(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/** Converts `YYMMDDHHMMSSZ` (UTCTime: 1950 to 2049), or the form with a four-digit year, to ISO 8601. */
function timeOf({ tag, content }: Part): string {
  const text = new TextDecoder().decode(content);
  const whole = tag === UTC_TIME ? `${text < "50" ? "20" : "19"}${text}` : text;
  return whole.replace(/^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/, "$1-$2-$3T$4:$5:$6.000Z");
}

/** One DER value. */
interface Part {
  readonly tag: number;
  readonly content: Uint8Array;
  /** Tag, length and content. */
  readonly bytes: Uint8Array;
}

/** The consecutive DER values in some bytes. */
function partsOf(bytes: Uint8Array): Part[] {
  const parts: Part[] = [];
  for (let at = 0; at < bytes.length;) {
    let start = at + 2;
    let length = bytes[at + 1];
    if (length >= 0x80) {
      start += length & 0x7f;
      length = 0;
      for (const byte of bytes.subarray(at + 2, start)) length = length * 256 + byte;
    }
    const end = start + length;
    if (!(end <= bytes.length)) throw new RangeError("a value ends after its container");
    parts.push({ tag: bytes[at], content: bytes.subarray(start, end), bytes: bytes.subarray(at, end) });
    at = end;
  }
  return parts;
}

/**
 * One part of a subject: usually one attribute. Several have no order and are joined by a plus. What is none of these
 * could look like another subject.
 */
function relativeNameOf({ tag, content }: Part): string {
  const attributes = partsOf(content);
  if (tag !== SET || attributes.length === 0) throw new RangeError("a part of a name is no set of attributes");
  return attributes.map((attribute) => {
    const [type, value, ...more] = partsOf(attribute.content);
    if (attribute.tag !== SEQUENCE || type.tag !== OBJECT_IDENTIFIER || more.length > 0) {
      throw new RangeError("an attribute is no pair of a type and a value");
    }
    const identifier = identifierOf(type.content);
    const name = ATTRIBUTES[identifier];
    const text = name === undefined ? undefined : textOf(value);
    return `${name ?? identifier}=${text === undefined ? `#${hex(value.bytes)}` : escaped(text)}`;
  }).join("+");
}

/**
 * An object identifier in dotted form: base-128 numbers, which may be as long as a UUID. The first one holds two
 * components. A number with leading zeros, or without an end, could pass for another identifier.
 */
function identifierOf(bytes: Uint8Array): string {
  const steps: bigint[] = [];
  let step: bigint | undefined;
  for (const byte of bytes) {
    if (step === undefined && byte === 0x80) throw new RangeError("a number begins with zeros");
    step = (step ?? 0n) * 128n + BigInt(byte & 0x7f);
    if (byte >= 0x80) continue;
    steps.push(step);
    step = undefined;
  }
  if (step !== undefined) throw new RangeError("a number does not end");
  const first = steps[0] < 80n ? steps[0] / 40n : 2n;
  return [first, steps[0] - 40n * first, ...steps.slice(1)].join(".");
}

/** The text of a value; `undefined` if it is not text of a known type. */
function textOf({ tag, content }: Part): string | undefined {
  const encoding = TEXT_ENCODINGS[tag];
  return encoding === undefined ? undefined : decoded(content, encoding);
}

/** Decodes a text with its byte order mark, without which two names could look the same; `undefined` if it is none. */
function decoded(bytes: Uint8Array, encoding: string): string | undefined {
  try {
    return new TextDecoder(encoding, { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** Escapes a value as in RFC 4514, section 2.4. */
function escaped(text: string): string {
  return text
    .replaceAll(SPECIAL, "\\$&")
    .replaceAll(/^[ #]| $/g, "\\$&")
    .replaceAll(INVISIBLE, (character) => hex(new TextEncoder().encode(character)).replaceAll(/../g, "\\$&"));
}

function alternativeNamesOf(extensions: Uint8Array): string[] {
  for (const { content } of partsOf(partsOf(extensions)[0].content)) {
    const parts = partsOf(content);
    if (identifierOf(parts[0].content) !== SUBJECT_ALTERNATIVE_NAME) continue;
    const value = parts.at(-1) as Part; // an octet string, after an optional "critical"
    return partsOf(partsOf(value.content)[0].content).flatMap(({ tag, content }) => {
      const form = ALTERNATIVE_NAMES[tag];
      if (form === undefined) return [];
      if (form === "IP") return `IP:${hex(content)}`;
      const text = decoded(content, "utf-8");
      return `${form}:${text === undefined ? `#${hex(content)}` : escaped(text)}`;
    });
  }
  return [];
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
