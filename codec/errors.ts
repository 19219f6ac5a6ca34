/**
 * What goes wrong between values and bytes. A {@linkcode DecodeError} is about what a peer has sent, and holds none of it; an
 * {@linkcode EncodeError} about what the program wants to send, and says what that is.
 */

/** A payload that is not one acceptable MessagePack value. Its text holds nothing that the peer has sent. */
export class DecodeError extends Error {
  /** Always `"DecodeError"`. */
  override readonly name = "DecodeError";
}

/** A value that MessagePack cannot hold; the text names what it is. */
export class EncodeError extends Error {
  /** Always `"EncodeError"`. */
  override readonly name = "EncodeError";
}

/** A message that takes more memory than its reader grants. */
export class TooHeavyError extends EncodeError {}

/** A message whose payload is over the limit. */
export class PayloadTooLargeError extends EncodeError {
  /**
   * @param payloadBytes The size it would have; `Infinity` where it was given up before that was known.
   * @param limitBytes The size it may have.
   */
  constructor(readonly payloadBytes: number, readonly limitBytes: number) {
    const size = payloadBytes === Infinity ? "far above the limit, which is" : `${payloadBytes} bytes, the limit is`;
    super(`the payload is ${size} ${limitBytes}`);
  }
}
