/**
 * Checks permissions, and gives advice for a missing one.
 *
 * In: flags of the runtime; a permission. Out: how to add the flags (a compiled binary must be compiled again); whether
 * the permission is granted. The user is not asked. Refused, by a `UsageError`: a variable of the environment that is
 * not UTF-8.
 */

import { UsageError } from "./arguments.ts";

/** The advice, for the end of an error text. */
export function withFlags(flags: string): string {
  return `${Deno.build.standalone ? "compile" : "run"} it with ${flags}`;
}

/** Whether the program has a permission, without asking the user. */
export function isGranted(permission: Deno.PermissionDescriptor): boolean {
  return Deno.permissions.querySync(permission).state === "granted";
}

/**
 * A variable of the environment, if the program may read it.
 *
 * @throws {UsageError} If it is not UTF-8.
 */
export function environment(variable: string): string | undefined {
  if (!isGranted({ name: "env", variable })) return undefined;
  try {
    return Deno.env.get(variable);
  } catch (error) {
    if (error instanceof Deno.errors.InvalidData) throw new UsageError(`${variable} is not text in UTF-8`);
    throw error;
  }
}
