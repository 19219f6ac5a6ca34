/** What packline asks of the runtime beside sockets: so nothing above this folder names the runtime. */

/** A value as the runtime shows it to people, so many containers deep. */
export function inspect(value: unknown, depth?: number): string {
  return Deno.inspect(value, depth === undefined ? {} : { depth });
}

/** Whether an error says that the program may not do something: that is the program's matter, not the network's. */
export function isDenied(error: unknown): boolean {
  return error instanceof Deno.errors.NotCapable;
}
