/** The library in a program that has changed what all code shares, before it was imported or after. */

import { assertEquals } from "@std/assert";
import { CHANGES } from "./support/changed_globals.ts";

const program = new URL("support/changed_globals.ts", import.meta.url).pathname;
const config = new URL("../deno.json", import.meta.url).pathname;

for (const name of Object.keys(CHANGES)) {
  for (const when of ["before", "after"]) {
    Deno.test(`calls, streams and errors are what they are with ${name}, changed ${when} the import`, async () => {
      const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "--quiet", "--no-check", "--allow-net=127.0.0.1", `--config=${config}`, program, name, when],
        env: { NO_COLOR: "1" },
      }).output();
      const decoder = new TextDecoder();
      assertEquals([decoder.decode(stderr), decoder.decode(stdout)], ["", "well\n"]);
    });
  }
}
