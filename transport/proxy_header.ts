/**
 * Reads the PROXY protocol's header (versions 1 and 2, https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt), in
 * which a proxy sends the address of its client before the client's own bytes.
 *
 * In: a source of bytes. Out: the client's address, or that the connection is the proxy's own. Never reads a byte
 * beyond the header, so later bytes need no buffer. Refused, by a {@linkcode ProxyHeaderError}: everything else.
 */

import type { OptionKind } from "../limits.ts";
import { addressBytes, type AddressRange, addressRange, addressTextOf, isInRange, mapped } from "./ip_address.ts";
import { addressText } from "./address.ts";
import { PreambleError } from "./preamble_acceptor.ts";

/** In the list of proxies: every peer of a unix socket. */
const ANY_UNIX = "unix";

/** The longest header of version 1. */
const MAX_TEXT_BYTES = 107;

/** How much of a long header of version 2 is read at once. */
const SKIPPED_AT_ONCE = 1024;

/** The shortest header of version 1, `PROXY UNKNOWN\r\n`. Headers of version 2 are longer. */
const FIRST_BYTES = 15;

/** The signature of version 2, and the size of the part that has a fixed length. */
const SIGNATURE = Uint8Array.of(0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a);
const FIXED_BYTES = 16;

/** How version 1 begins. */
const TEXT = new TextEncoder().encode("PROXY ");

const CUT = "it has ended before its header of the PROXY protocol";
const LINE_END = "\r\n";
const UNIX_PATH_BYTES = 108;

/** The longest header of version 2 without what follows its addresses, which takes up to 64 KiB and is skipped. */
const ADDRESSED_BYTES = FIXED_BYTES + 2 * UNIX_PATH_BYTES;

/** A source of bytes, which reads no more than fits into the given buffer. */
export interface ByteSource {
  /** Reads some bytes; `null` at the end. */
  read(into: Uint8Array): Promise<number | null>;
}

/** A connection of a named proxy does not begin with a valid header. */
export class ProxyHeaderError extends PreambleError {
  /** Always `"ProxyHeaderError"`. */
  override readonly name = "ProxyHeaderError";
}

/** The proxies whose headers are trusted. */
export class Proxies {
  readonly #ranges: readonly AddressRange[];
  readonly #unix: boolean;

  /** @param named Addresses, ranges of them, and `unix`. */
  constructor(named: readonly string[]) {
    this.#unix = named.includes(ANY_UNIX);
    this.#ranges = named.map(addressRange).filter((range) => range !== undefined);
  }

  /** @param hostname The peer's address; `undefined` on a unix socket. */
  has(hostname: string | undefined): boolean {
    if (hostname === undefined) return this.#unix;
    const bytes = addressBytes(hostname);
    return bytes !== undefined && this.#ranges.some((range) => isInRange(bytes, range));
  }
}

/** Whether a text names a proxy. */
export function isProxyName(text: string): boolean {
  return text === ANY_UNIX || addressRange(text) !== undefined;
}

/** The check of the option. */
export const PROXIES: OptionKind = {
  is: (value) => Array.isArray(value) && value.every((each) => typeof each === "string" && isProxyName(each)),
  must: 'be an array of addresses and ranges, such as "10.0.0.0/8" or "127.0.0.1", and "unix" for a unix socket',
};

/**
 * Reads a header.
 *
 * @param source The source of the bytes.
 * @returns The client's address as readable text; `undefined` if the connection is the proxy's own or the client is
 * unknown; `null` if the connection ends without a byte, as a health check's does.
 * @throws {ProxyHeaderError} If the first bytes are not a header.
 */
export async function readProxyHeader(source: ByteSource): Promise<string | undefined | null> {
  const bytes = new Uint8Array(ADDRESSED_BYTES);
  let end = 0;
  while (end < FIRST_BYTES) {
    const readBytes = await source.read(bytes.subarray(end, FIRST_BYTES));
    if (readBytes === null && end === 0) return null;
    if (readBytes === null) throw new ProxyHeaderError(CUT);
    end += readBytes;
    // Check at once, because a request may be shorter than any header, and its sender waits for the answer.
    const isBeginning = [SIGNATURE, TEXT].some((start) => start.every((byte, at) => at >= end || bytes[at] === byte));
    if (!isBeginning) throw new ProxyHeaderError("it does not begin with a header of the PROXY protocol");
  }
  return bytes[0] === SIGNATURE[0] ? await readBinary(source, bytes) : await readText(source, bytes);
}

/** Why a connection is refused if its header does not arrive in time. */
export function headerIsLate(limitMs: number): string {
  return `its header of the PROXY protocol has not come within ${limitMs} ms`;
}

async function readText(source: ByteSource, bytes: Uint8Array): Promise<string | undefined> {
  let end = FIRST_BYTES;
  let line = latin1(bytes, 0, end);
  while (!line.endsWith(LINE_END)) {
    // Read no byte beyond the line: two bytes are missing, or one.
    const missing = line.endsWith("\r") ? 1 : LINE_END.length;
    if (end + missing > MAX_TEXT_BYTES) throw malformed(`its line is longer than ${MAX_TEXT_BYTES} bytes`);
    await fill(source, bytes, end, end + missing);
    line += latin1(bytes, end, end + missing);
    end += missing;
  }
  const text = line.slice(0, -LINE_END.length);
  if (/^PROXY UNKNOWN( |$)/.test(text)) return undefined;
  const [, family, hostname, destination, port, destinationPort] =
    /^PROXY (TCP4|TCP6) (\S+) (\S+) (\d{1,5}) (\d{1,5})$/.exec(text) ?? [];
  const isOfFamily = (address: string) =>
    address.includes(":") === (family === "TCP6") && addressBytes(address) !== undefined;
  const isRight = family !== undefined && isOfFamily(hostname) && isOfFamily(destination) &&
    [port, destinationPort].every((number) => Number(number) <= 65_535);
  if (!isRight) throw malformed("its line has no two addresses and ports");
  return peerText(addressBytes(hostname) as Uint8Array, Number(port));
}

async function readBinary(source: ByteSource, bytes: Uint8Array): Promise<string | undefined> {
  await fill(source, bytes, FIRST_BYTES, FIXED_BYTES);
  const [version, command] = [bytes[12] >> 4, bytes[12] & 15];
  if (version !== 2 || command > 1) throw malformed(`version ${version} and command ${command} are unknown`);
  const length = FIXED_BYTES + (bytes[14] << 8 | bytes[15]);
  const end = Math.min(length, ADDRESSED_BYTES);
  await fill(source, bytes, FIXED_BYTES, end);
  await skip(source, length - end);
  if (command === 0) return undefined; // the proxy's own connection, such as a health check
  const family = bytes[13];
  const body = bytes.subarray(FIXED_BYTES, end);
  if (family === 0) return undefined; // a kind of address that the header cannot express
  const addressBytes = { 0x11: 12, 0x21: 36, 0x31: 2 * UNIX_PATH_BYTES }[family];
  if (addressBytes === undefined) throw malformed(`the family 0x${family.toString(16).padStart(2, "0")} is unknown`);
  if (body.length < addressBytes) {
    throw malformed(`its addresses take ${addressBytes} bytes, and it has ${body.length}`);
  }
  if (family === 0x11) return peerText(mapped(body.subarray(0, 4)), body[8] << 8 | body[9]);
  if (family === 0x21) return peerText(body.subarray(0, 16), body[32] << 8 | body[33]);
  return pathText(body.subarray(0, UNIX_PATH_BYTES));
}

/** Fills a part of a buffer, and reads nothing beyond it. */
async function fill(source: ByteSource, bytes: Uint8Array, start: number, end: number): Promise<void> {
  while (start < end) {
    const readBytes = await source.read(bytes.subarray(start, end));
    if (readBytes === null) throw new ProxyHeaderError(CUT);
    start += readBytes;
  }
}

/** Reads some bytes, and forgets them. */
async function skip(source: ByteSource, bytes: number): Promise<void> {
  const part = new Uint8Array(Math.min(bytes, SKIPPED_AT_ONCE));
  for (let left = bytes; left > 0; left -= part.length) await fill(source, part, 0, Math.min(left, part.length));
}

function malformed(what: string): ProxyHeaderError {
  return new ProxyHeaderError(`its header of the PROXY protocol is not valid: ${what}`);
}

function peerText(address: Uint8Array, port: number): string {
  return addressText({ transport: "tcp", hostname: addressTextOf(address), port });
}

/** A path as text in which every byte is visible; `undefined` if it is empty. */
function pathText(path: Uint8Array): string | undefined {
  const end = path.indexOf(0);
  const shown = Array.from(
    end < 0 ? path : path.subarray(0, end),
    (byte) => byte > 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `%${byte.toString(16).padStart(2, "0")}`,
  ).join("");
  return shown === "" ? undefined : `unix:${shown}`;
}

function latin1(bytes: Uint8Array, start: number, end: number): string {
  return String.fromCharCode(...bytes.subarray(start, end));
}
