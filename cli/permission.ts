/**
 * The advice for a missing permission.
 *
 * In: flags of the runtime. Out: how to add them; a compiled binary must be compiled again. Refused: nothing.
 */

/** The advice, for the end of a line. */
export function withFlags(flags: string): string {
  return `${Deno.build.standalone ? "compile" : "run"} it with ${flags}`;
}
