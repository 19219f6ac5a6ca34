/** Uses of the runtime other than sockets, so that no module outside this folder names the runtime. */

/** A readable form of a value, with an optional limit on nested containers. */
export function inspect(value: unknown, depth?: number): string {
  return Deno.inspect(value, depth === undefined ? {} : { depth });
}

/** Whether an error means a missing permission, which is the program's mistake and not a network failure. */
export function isDenied(error: unknown): boolean {
  return error instanceof Deno.errors.NotCapable;
}
