/** Modules of the project as a page loads them. */

const root = new URL("../../", import.meta.url);

/** Bundles a module for browsers, as README says. */
export async function bundle(module: string): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--quiet", "--platform=browser", "--minify", new URL(module, root).pathname],
    cwd: root.pathname,
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}
