/**
 * Values as text that is the same only for the same values: what outcomes are compared by, and what a digest is made of.
 *
 * In: anything a codec or a stage puts out. Out: its text, or a hash of it.
 */

/**
 * @param value The value: of MessagePack, or a message around some.
 * @param loosely Leaves out what the encoding does not carry: whether a whole number is a bigint, and the sign of 0.
 */
export function describe(value: unknown, loosely = false): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return loosely ? `${value}` : `${value}n`;
  if (Object.is(value, -0)) return loosely ? "0" : "-0";
  if (typeof value !== "object" || value === null) return String(value);
  // Not by `instanceof`: what std reads under --unstable-unsafe-proto may have any prototype.
  if (ArrayBuffer.isView(value)) return `<${(value as Uint8Array).toHex()}>`;
  if (Array.isArray(value)) return `[${value.map((item) => describe(item, loosely)).join()}]`;
  let text = "";
  for (const key of Object.keys(value)) {
    text += `${JSON.stringify(key)}:${describe((value as Record<string, unknown>)[key], loosely)},`;
  }
  // A map whose prototype a peer could set would give itself away here.
  const prototype = Object.getPrototypeOf(value);
  return `${prototype === Object.prototype ? "" : prototype?.constructor?.name}{${text}}`;
}

/** FNV-1a with 32 bits: quick, the same everywhere, and not for secrets. */
export function hash(data: string | Uint8Array, seed = 0x811c9dc5): number {
  let hash = seed;
  for (let index = 0; index < data.length; index++) {
    hash = Math.imul(hash ^ (typeof data === "string" ? data.charCodeAt(index) : data[index]), 0x01000193);
  }
  return hash >>> 0;
}
