/** A service of a user's own, as a program. Not a test. */

import { command, run } from "../../mod.ts";

export const commands = {
  GREET: command({
    summary: "Greets somebody",
    params: ["name"],
    handler({ name }: { name: string }) {
      console.log(`greeting ${name}`);
      return `Hello, ${name}!`;
    },
  }),
  PROCESS: command({ handler: () => Deno.pid }),
  MAY: command({
    handler: (descriptor: { name: Deno.PermissionName; path?: string; command?: string; host?: string }) =>
      Deno.permissions.querySync(descriptor as Deno.PermissionDescriptor).state,
  }),
};

if (import.meta.main) {
  using _cleanup = { [Symbol.dispose]: () => console.log("cleaned up") };
  // Something that would keep the process for ever.
  setInterval(() => {}, 1_000_000);
  await run({ commands, port: 0, maxInFlight: 7, idleTimeoutMs: Infinity, workerFlags: ["--allow-read=/dev/null"] });
}
