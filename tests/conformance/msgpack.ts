/**
 * MessagePack as the kit speaks it, written from PROTOCOL.md, "Values", without packline's codec: a mistake there must
 * not hide here.
 *
 * In: values, or bytes. Out: bytes, or values; integers beyond 2^53 are bigints. Refused: bytes that a peer must not send.
 */

/** Bytes that stand for a value as they are, valid or not. */
export class Raw {
  constructor(readonly bytes: Uint8Array) {}
}

const utf8 = new TextEncoder();
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A value in its shortest form. */
export function encode(value: unknown): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  write(value, parts);
  return join(...parts);
}

function write(value: unknown, parts: Uint8Array[]): void {
  if (value instanceof Raw) parts.push(value.bytes);
  else if (value === null || value === undefined) parts.push(Uint8Array.of(0xc0));
  else if (typeof value === "boolean") parts.push(Uint8Array.of(value ? 0xc3 : 0xc2));
  else if (typeof value === "bigint") parts.push(wide(value));
  else if (typeof value === "number") parts.push(numberBytes(value));
  else if (typeof value === "string") {
    const bytes = utf8.encode(value);
    parts.push(head(bytes.length, 0xa0, 32, [0xd9, 0xda, 0xdb]), bytes);
  } else if (value instanceof Uint8Array) parts.push(head(value.length, 0, 0, [0xc4, 0xc5, 0xc6]), value);
  else if (Array.isArray(value)) {
    parts.push(head(value.length, 0x90, 16, [undefined, 0xdc, 0xdd]));
    for (const item of value) write(item, parts);
  } else {
    const fields = Object.entries(value).filter(([, field]) => field !== undefined);
    parts.push(head(fields.length, 0x80, 16, [undefined, 0xde, 0xdf]));
    for (const field of fields) field.forEach((part) => write(part, parts));
  }
}

/** The bytes before a text, binary, array or map. */
function head(size: number, short: number, shortSizes: number, [of8, of16, of32]: (number | undefined)[]): Uint8Array {
  if (size < shortSizes) return Uint8Array.of(short | size);
  if (size < 256 && of8 !== undefined) return Uint8Array.of(of8, size);
  return size < 65_536
    ? tagged(of16!, 2, (view) => view.setUint16(1, size))
    : tagged(of32!, 4, (view) => view.setUint32(1, size));
}

function numberBytes(value: number): Uint8Array {
  if (!Number.isInteger(value) || value > 0xffffffff || value < -0x80000000) {
    return tagged(0xcb, 8, (view) => view.setFloat64(1, value));
  }
  if (value >= -32 && value < 128) return Uint8Array.of(value & 255);
  if (value >= 0) {
    if (value < 256) return Uint8Array.of(0xcc, value);
    return value < 65_536
      ? tagged(0xcd, 2, (view) => view.setUint16(1, value))
      : tagged(0xce, 4, (view) => view.setUint32(1, value));
  }
  if (value >= -128) return tagged(0xd0, 1, (view) => view.setInt8(1, value));
  return value >= -32_768
    ? tagged(0xd1, 2, (view) => view.setInt16(1, value))
    : tagged(0xd2, 4, (view) => view.setInt32(1, value));
}

function wide(value: bigint): Uint8Array {
  return value < 0n
    ? tagged(0xd3, 8, (view) => view.setBigInt64(1, value))
    : tagged(0xcf, 8, (view) => view.setBigUint64(1, value));
}

function tagged(tag: number, size: number, set: (view: DataView) => void): Uint8Array {
  const bytes = new Uint8Array(1 + size);
  bytes[0] = tag;
  set(new DataView(bytes.buffer));
  return bytes;
}

/** The one value that the bytes are. */
export function decode(bytes: Uint8Array): unknown {
  const reader = new ValueReader(bytes);
  const value = reader.value();
  if (reader.at !== bytes.length) throw new SyntaxError(`${bytes.length - reader.at} bytes behind the value`);
  return value;
}

class ValueReader {
  at = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  value(): unknown {
    const tag = this.#take(1)[0];
    if (tag < 0x80) return tag;
    if (tag < 0x90) return this.#map(tag & 15);
    if (tag < 0xa0) return this.#array(tag & 15);
    if (tag < 0xc0) return this.#text(tag & 31);
    if (tag >= 0xe0) return tag - 256;
    switch (tag) {
      case 0xc0:
        return null;
      case 0xc2:
      case 0xc3:
        return tag === 0xc3;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.#take(this.#size(tag - 0xc4)).slice();
      case 0xca:
        return this.#number(4, (view, at) => view.getFloat32(at));
      case 0xcb:
        return this.#number(8, (view, at) => view.getFloat64(at));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.#size(tag - 0xcc);
      case 0xcf:
        return plain(this.#number(8, (view, at) => view.getBigUint64(at)));
      case 0xd0:
        return this.#number(1, (view, at) => view.getInt8(at));
      case 0xd1:
        return this.#number(2, (view, at) => view.getInt16(at));
      case 0xd2:
        return this.#number(4, (view, at) => view.getInt32(at));
      case 0xd3:
        return plain(this.#number(8, (view, at) => view.getBigInt64(at)));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.#text(this.#size(tag - 0xd9));
      case 0xdc:
      case 0xdd:
        return this.#array(this.#size(tag - 0xdb));
      case 0xde:
      case 0xdf:
        return this.#map(this.#size(tag - 0xdd));
    }
    throw new SyntaxError(`the byte 0x${tag.toString(16)} begins no value of the protocol`);
  }

  /** An unsigned integer of 1, 2 or 4 bytes. */
  #size(power: number): number {
    return [
      () => this.#number(1, (view, at) => view.getUint8(at)),
      () => this.#number(2, (view, at) => view.getUint16(at)),
      () => this.#number(4, (view, at) => view.getUint32(at)),
    ][power]();
  }

  #number<N>(size: number, get: (view: DataView, at: number) => N): N {
    this.#take(size);
    return get(this.#view, this.at - size);
  }

  #take(size: number): Uint8Array {
    if (this.at + size > this.#bytes.length) throw new SyntaxError("the bytes end inside a value");
    return this.#bytes.subarray(this.at, this.at += size);
  }

  #text(size: number): string {
    return strict.decode(this.#take(size));
  }

  #array(size: number): unknown[] {
    return Array.from({ length: size }, () => this.value());
  }

  #map(size: number): Record<string, unknown> {
    const fields: [string, unknown][] = [];
    for (let left = size; left > 0; left--) {
      const key = this.value();
      if (typeof key !== "string" && typeof key !== "number") throw new SyntaxError("a key that is no text");
      fields.push([String(key), this.value()]);
    }
    return Object.fromEntries(fields);
  }
}

function plain(value: bigint): number | bigint {
  return Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

/** Pieces as one. */
export function join(...pieces: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(pieces.reduce((size, piece) => size + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
