/**
 * The text of a failed call, for a command line.
 *
 * In: an error of the library. Out: its text, without advice that only code can follow. Refused: nothing.
 */

import type { RpcError } from "../errors.ts";

/** What errors of the library say in terms of code: an option, a method. */
const IN_CODE: readonly [said: RegExp, meant: string][] = [
  [/^no server can be reached, and waitForReady is false: /, ""],
  [/use client\.stream\(\)$/, "this needs a command that answers once"],
  [/use client\.call\(\)$/, "this needs a command that answers with a stream"],
];

/** What to do about a reply that is too large. */
export const RAISE_LIMIT = "raise the limit at both ends, here with --max-payload-bytes";

/** The text of an error, if it has one. */
export function textFor(error: RpcError): string | undefined {
  const text = IN_CODE.reduce((text, [said, meant]) => text?.replace(said, meant), error.toJSON().msg);
  return error.code === "REPLY_TOO_LARGE" ? `${text ?? "the reply is too large"}; ${RAISE_LIMIT}` : text;
}
