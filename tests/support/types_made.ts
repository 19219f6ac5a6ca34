/**
 * What a program costs the compiler: the types that it makes. Unlike the time, their number does not depend on the
 * machine and its load.
 */

import { assert } from "@std/assert";

/**
 * How many types the compiler makes to check these files.
 *
 * @param files Their texts by their names.
 * @param config The path of their `deno.json`.
 */
export async function typesMade(files: Record<string, string>, config: string): Promise<number> {
  const folder = await Deno.makeTempDir();
  try {
    for (const [name, text] of Object.entries(files)) await Deno.writeTextFile(`${folder}/${name}`, text);
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "check",
        "--log-level=debug",
        "--config",
        config,
        ...Object.keys(files).map((name) => `${folder}/${name}`),
      ],
      env: { NO_COLOR: "1" },
      stdout: "null",
      stderr: "piped",
    }).output();
    const said = new TextDecoder().decode(stderr);
    assert(success, said.slice(-2000));
    return Number(said.match(/Instantiations: (\d+)/)?.[1]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
