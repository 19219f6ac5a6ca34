/**
 * The errors of the codec. A {@linkcode DecodeError} is about received bytes and its text contains no such bytes. An
 * {@linkcode EncodeError} is about a value to send and its text names the value. The value is searched for only after
 * encoding has failed.
 *
 * In: a value. Out: whether it is a plain object; the path of a part that cannot be sent. Refused: nothing.
 */

/** A payload that is not one valid MessagePack value. Its text contains nothing from the peer. */
export class DecodeError extends Error {
  /** Always `"DecodeError"`. */
  override readonly name = "DecodeError";
}

/** A value that MessagePack cannot represent; the text names it. */
export class EncodeError extends Error {
  /** Always `"EncodeError"`. */
  override readonly name = "EncodeError";
}

/** A value of a kind that cannot be sent, such as a function or a `Date`. */
export class UnsendableError extends EncodeError {}

/** A message whose payload is over the limit. */
export class PayloadTooLargeError extends EncodeError {
  /**
   * @param payloadBytes Its size; `Infinity` if encoding stopped before that was known.
   * @param limitBytes The limit.
   */
  constructor(readonly payloadBytes: number, readonly limitBytes: number) {
    const size = payloadBytes === Infinity ? "far above the limit, which is" : `${payloadBytes} bytes, the limit is`;
    super(`the payload is ${size} ${limitBytes}`);
  }
}

/** The error for a message that takes too much memory: first of all, it may be too large already. */
export function tooHeavy(writtenBytes: number, maxPayloadBytes: number, maxMessageBytes: number): EncodeError {
  if (writtenBytes > maxPayloadBytes) return new PayloadTooLargeError(Infinity, maxPayloadBytes);
  return new EncodeError(`Cannot encode a message that takes more than ${maxMessageBytes} bytes of memory`);
}

/** Whether an object is plain, also from another realm. An instance of a class could lose its state. */
export function isPlain(object: object): boolean {
  const prototype = Object.getPrototypeOf(object);
  return prototype === Object.prototype || prototype === null || isObjectPrototype(prototype);
}

/** Whether a prototype is the `Object.prototype` of any realm, such as a `node:vm` context. */
function isObjectPrototype(prototype: object): boolean {
  return Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype, "isPrototypeOf");
}

/** A value's type in words: `a Date`, `a function`. */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value !== "object") return `a ${typeof value}`;
  if (Array.isArray(value)) return "an array";
  const prototype = Object.getPrototypeOf(value);
  const constructor = prototype?.constructor;
  // A constructor of another prototype, such as Object, is inherited.
  const isNamed = typeof constructor === "function" && constructor.prototype === prototype && constructor.name !== "";
  if (!isNamed) return "an object with a custom prototype";
  return `${/^[AEIO]/.test(constructor.name) ? "an" : "a"} ${constructor.name}`;
}

/**
 * Finds the first value that cannot be sent.
 *
 * @param value The value to search.
 * @param path Its name.
 * @param depth How deep to search; a cycle is another fault.
 * @returns Its path and type, such as `res.items[3].at: a Date cannot be sent`; `undefined` if there is none.
 */
export function faultIn(value: unknown, path: string, depth: number): string | undefined {
  switch (typeof value) {
    case "function":
    case "symbol":
      return `${path}: ${kindOf(value)} cannot be sent`;
    case "bigint":
      if (BigInt.asIntN(64, value) === value || BigInt.asUintN(64, value) === value) return;
      return `${path}: an integer of more than 64 bits cannot be sent`;
    case "object":
      break;
    default:
      return;
  }
  if (value === null || value instanceof Uint8Array || depth === 0) return;
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) {
      const fault = faultIn(value[index], `${path}[${index}]`, depth - 1);
      if (fault !== undefined) return fault;
    }
    return;
  }
  if (!isPlain(value)) return `${path}: ${kindOf(value)} cannot be sent`;
  for (const [name, field] of Object.entries(value)) {
    const step = /^[\p{ID_Start}_$][\p{ID_Continue}$]*$/u.test(name) ? `.${name}` : `[${JSON.stringify(name)}]`;
    const fault = faultIn(field, path + step, depth - 1);
    if (fault !== undefined) return fault;
  }
}
