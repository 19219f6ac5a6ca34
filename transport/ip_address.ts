/**
 * IP addresses and address ranges, as bytes that can be compared.
 *
 * In: text such as `203.0.113.5`, `2001:db8::1`, `10.0.0.0/8`. Out: sixteen bytes, an IPv4 address as its IPv6 form
 * `::ffff:203.0.113.5`; text again. Refused: text that is not an address, by `undefined`.
 */

const IPV4 = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/;

/** The first twelve bytes of an IPv4 address in its IPv6 form. */
const MAPPED = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);

/** The bytes of an address, without the zone of a link-local address. */
export function addressBytes(text: string): Uint8Array | undefined {
  const numbers = IPV4.exec(text)?.slice(1);
  if (numbers !== undefined) {
    return numbers.some((number) => Number(number) > 255 || /^0./.test(number))
      ? undefined
      : mapped(numbers.map(Number));
  }
  // The URL parser checks the address, and returns one form: groups in hex, with at most one gap.
  const url = /^[\da-fA-F:.]+(%[^\s%/]+)?$/.test(text) ? URL.parse(`http://[${text.replace(/%.*/, "")}]`) : null;
  if (url === null) return undefined;
  const [before, after] = url.hostname.slice(1, -1).split("::").map((part) => part === "" ? [] : part.split(":"));
  const gap: string[] = after === undefined ? [] : new Array(8 - before.length - after.length).fill("0");
  const groups = [...before, ...gap, ...after ?? []];
  const bytes = new Uint8Array(16);
  groups.forEach((group, index) => bytes.set([parseInt(group, 16) >> 8, parseInt(group, 16) & 255], 2 * index));
  return bytes;
}

/** An address as text: IPv6 in its shortest form, or IPv4. */
export function addressTextOf(bytes: Uint8Array): string {
  if (MAPPED.every((byte, index) => bytes[index] === byte)) return bytes.subarray(MAPPED.length).join(".");
  const groups = Array.from({ length: 8 }, (_, index) => (bytes[2 * index] << 8 | bytes[2 * index + 1]).toString(16));
  return new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1);
}

/** The sixteen bytes of an IPv4 address, from its four bytes. */
export function mapped(four: ArrayLike<number>): Uint8Array {
  const bytes = new Uint8Array(16);
  bytes.set(MAPPED);
  bytes.set(four, MAPPED.length);
  return bytes;
}

/** A range of addresses whose first bits are the same. */
export interface AddressRange {
  readonly bytes: Uint8Array;
  readonly bits: number;
}

/** A range, such as `10.0.0.0/8`. A single address is a range of one. */
export function addressRange(text: string): AddressRange | undefined {
  const [address, prefix, more] = text.split("/");
  const bytes = addressBytes(address);
  if (bytes === undefined || more !== undefined) return undefined;
  const [mostBits, before] = IPV4.test(address) ? [32, 96] : [128, 0];
  if (prefix === undefined) return { bytes, bits: 128 };
  if (!/^\d{1,3}$/.test(prefix) || Number(prefix) > mostBits) return undefined;
  return { bytes, bits: before + Number(prefix) };
}

/** Whether an address is in a range. */
export function isInRange(address: Uint8Array, { bytes, bits }: AddressRange): boolean {
  const whole = bits >> 3;
  for (let index = 0; index < whole; index++) if (address[index] !== bytes[index]) return false;
  const rest = bits & 7;
  return rest === 0 || (address[whole] ^ bytes[whole]) >> (8 - rest) === 0;
}
