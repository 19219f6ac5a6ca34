/**
 * Checks permissions, and gives advice for a missing one.
 *
 * In: flags of the runtime; a permission. Out: how to add the flags (a compiled binary must be compiled again); whether
 * the permission is granted. The user is not asked. Refused: nothing.
 */

/** The advice, for the end of an error text. */
export function withFlags(flags: string): string {
  return `${Deno.build.standalone ? "compile" : "run"} it with ${flags}`;
}

/** Whether the program has a permission, without asking the user. */
export function isGranted(permission: Deno.PermissionDescriptor): boolean {
  return Deno.permissions.querySync(permission).state === "granted";
}

/** A variable of the environment, if the program may read it. */
export function environment(variable: string): string | undefined {
  return isGranted({ name: "env", variable }) ? Deno.env.get(variable) : undefined;
}
