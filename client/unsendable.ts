/**
 * The error for what a caller gives and MessagePack cannot hold.
 *
 * In: the error of the encoder. Out: the caller's error, with the name of the command. Refused: nothing.
 */

import { PayloadTooLargeError } from "../codec/errors.ts";
import { messageOf } from "../transport/runtime.ts";

/**
 * What cannot be sent is a mistake in the program, so it is an error without a code.
 *
 * @param fault What is wrong, if the cause does not say it.
 */
export function unsendable(name: string, cause: unknown, fault = messageOf(cause)): TypeError | RangeError {
  const Class = cause instanceof PayloadTooLargeError ? RangeError : TypeError;
  return new Class(`Cannot call ${name}: ${fault}`, { cause });
}
