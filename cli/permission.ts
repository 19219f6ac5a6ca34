/**
 * Permissions: the advice for a missing one, and whether there is one.
 *
 * In: flags of the runtime; what is to be done. Out: how to add the flags (a compiled binary must be compiled again);
 * whether it may be done. Nobody is asked. Refused: nothing.
 */

/** The advice, for the end of a line. */
export function withFlags(flags: string): string {
  return `${Deno.build.standalone ? "compile" : "run"} it with ${flags}`;
}

/** Whether the program may do this without a question to the user. */
export function isGranted(permission: Deno.PermissionDescriptor): boolean {
  return Deno.permissions.querySync(permission).state === "granted";
}

/** A variable of the environment, if the program may read it. */
export function environment(variable: string): string | undefined {
  return isGranted({ name: "env", variable }) ? Deno.env.get(variable) : undefined;
}
