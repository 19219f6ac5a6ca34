/** `cli/new.ts`: a new service is made, and does what its README says, with nothing changed but where packages come from. */

import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import config from "../../deno.json" with { type: "json" };
import { Folder, Program, root, run } from "../production/programs.ts";

const env = { NO_COLOR: "1" };

/** Makes a service in a folder, by the program of a checkout. */
function make(
  folder: Folder,
  args: string[],
  permissions = ["--allow-write=."],
  checkout = root,
): ReturnType<typeof run> {
  const config = `--config=${root}deno.json`;
  return run(Deno.execPath(), ["run", "--no-prompt", config, ...permissions, `${checkout}cli/new.ts`, ...args], {
    cwd: folder.path,
    env,
  });
}

Deno.test("new: the service that it makes passes its checks and tests, runs, and is called", async () => {
  await using folder = await Folder.make();
  const made = await make(folder, ["my-shop"]);
  assertEquals(made.code, 0, made.text);
  assertMatch(made.text, /^my-shop is ready:\n\n {4}cd my-shop\n/);

  // A test gets by with the npm registry.
  const path = `${folder.path}/my-shop`;
  const own = JSON.parse(await Deno.readTextFile(`${path}/deno.json`));
  assertEquals(own.links, [root.replace(/\/$/, "")]);
  own.imports["@std/assert"] = config.imports["@std/assert"];
  await Deno.writeTextFile(`${path}/deno.json`, JSON.stringify(own, null, 2) + "\n");
  const options = { cwd: path, env };
  const deno = (...args: string[]) => run(Deno.execPath(), args, options);

  const checked = await deno("task", "check");
  assertEquals(checked.code, 0, checked.text);
  const tested = await deno("task", "test");
  assertEquals(tested.code, 0, tested.text);
  assertStringIncludes(tested.text, "ok | 2 passed | 0 failed");

  const starting = ["task", "--quiet", "start", "--port", "0"];
  await using server = await Program.start(Deno.execPath(), starting, /listening on .*\n/, options);
  const [, port] = await server.hear(/:(\d+)\n/);
  const called = await deno("task", "--quiet", "call", "--port", port, "GREET", "name=Ada", "--json");
  assertEquals(called, { code: 0, text: '{"res":"Hello, Ada!"}\n' });
  const client = await Deno.readTextFile(`${path}/client.ts`);
  await Deno.writeTextFile(`${path}/client.ts`, client.replace("commands>()", `commands>({ port: ${port} })`));
  assertEquals(await deno("run", "--allow-net", "client.ts"), { code: 0, text: "Hello, Ada!\n1\n2\n3\n" });
  server.kill("SIGTERM");
  assertEquals((await server.status).code, 0);

  for (const file of ["README.md", "Containerfile"]) {
    const text = await Deno.readTextFile(`${path}/${file}`);
    assertEquals(text.includes("my-service"), false, file);
    assertStringIncludes(text, "my-shop");
  }
});

Deno.test("new: what cannot be made is said in one line, and nothing is written over", async () => {
  await using folder = await Folder.make();
  for (const name of ["../evil", "My Shop", "", "-x"]) {
    const { code, text } = await make(folder, [name]);
    assertEquals([code, text], [
      2,
      `Cannot use ${
        JSON.stringify(name)
      } as a name: use lower-case letters, digits and dashes, and begin with a letter\n`,
    ]);
  }
  const ignored = await make(folder, ["node_modules"]);
  assertEquals(ignored, {
    code: 2,
    text: 'Cannot use "node_modules" as a name: Deno ignores a folder of this name\n',
  });
  const long = "x".repeat(300);
  const { code, text } = await make(folder, [long]);
  assertEquals(code, 1);
  assertMatch(text, new RegExp(`^Cannot make ${long}: .*\n$`));
  assertEquals((await make(folder, [])).code, 2);
  assertEquals((await make(folder, ["--help"])).code, 0);

  await Deno.mkdir(`${folder.path}/taken`);
  assertEquals(await make(folder, ["taken"]), { code: 2, text: "Cannot make taken: it exists already\n" });
  const denied = await make(folder, ["shop"], []);
  assertEquals(denied, { code: 1, text: "Cannot write shop: add --allow-write=.\n" });
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["taken"]);
});

Deno.test("new: a checkout behind a link needs a permission; its own path is no name to be replaced", async () => {
  await using folder = await Folder.make();
  const checkout = `${folder.path}/my-service/`;
  await Deno.symlink(root.replace(/\/$/, ""), checkout.replace(/\/$/, ""));
  const denied = await make(folder, ["my-shop"], undefined, checkout);
  assertEquals(denied.code, 1);
  assertMatch(denied.text, /^Cannot make my-shop: .*--allow-read.*\n$/);
  const made = await make(folder, ["my-shop"], ["--allow-write=.", "--allow-read"], checkout);
  assertEquals(made.code, 0, made.text);
  const { links } = JSON.parse(await Deno.readTextFile(`${folder.path}/my-shop/deno.json`));
  assertEquals(links, [checkout.replace(/\/$/, "")]);
});
