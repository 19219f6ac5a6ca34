/**
 * What to do where a permission is missing.
 *
 * In: flags of the runtime. Out: how to give it them. A single binary has those that it was compiled with, and takes no
 * more. Refused: nothing.
 */

/** The advice, for the end of a line. */
export function withFlags(flags: string): string {
  return `${Deno.build.standalone ? "compile" : "run"} it with ${flags}`;
}
