/**
 * The errors of the codec. A {@linkcode DecodeError} is about received bytes and its text contains none of them. An
 * {@linkcode EncodeError} is about a value to send and its text names the value.
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

/** A message that takes more memory than its receiver allows. */
export class TooHeavyError extends EncodeError {}

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
