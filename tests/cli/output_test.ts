/** `cli/output.ts`: what is written to the terminal. */

import { assertEquals } from "@std/assert";
import { showStatus } from "../../cli/output.ts";

Deno.test("a status that a stopped terminal does not take is left out, and the next one is tried", () => {
  const tried: string[] = [];
  const terminal = {
    isTerminal: () => true,
    writeSync(bytes: Uint8Array) {
      tried.push(new TextDecoder().decode(bytes));
      throw new Deno.errors.WouldBlock("Resource temporarily unavailable");
    },
  };
  for (const [name, value] of Object.entries(terminal)) {
    Object.defineProperty(Deno.stderr, name, { value, configurable: true });
  }
  try {
    showStatus("waiting, 1 s");
    showStatus("");
  } finally {
    for (const name of Object.keys(terminal)) delete (Deno.stderr as unknown as Record<string, unknown>)[name];
  }
  assertEquals(tried, ["\r\x1b[Kwaiting, 1 s", "\r\x1b[K"]);
});
