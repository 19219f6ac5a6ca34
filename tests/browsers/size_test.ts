/** What a page loads: the client for browsers, bundled and minified. */

import { assert, assertEquals } from "@std/assert";
import { brotliCompressSync } from "node:zlib";
import { bundle } from "../support/bundle.ts";

/** 13 KiB, by `gzip -9`; by brotli it is less. The runtime's own gzip makes it half a percent larger. */
const MOST_BYTES = 13 * 1024;

Deno.test("the client for browsers is small, and names no runtime", async () => {
  const code = await bundle("client/web.ts");
  const bytes = new TextEncoder().encode(code);
  const gzip = await gzipBytes(bytes);
  const brotli = brotliCompressSync(bytes).length;
  console.log(`minified ${bytes.length}, gzip ${gzip}, brotli ${brotli} bytes`);
  assert(gzip <= MOST_BYTES, `${gzip} bytes by gzip`);
  assertEquals(code.match(/\b(Deno|Buffer|process)\b|node:|toHex|toBase64|Promise\.try/g), null);
});

async function gzipBytes(bytes: Uint8Array<ArrayBuffer>): Promise<number> {
  const gzip = new Deno.Command("gzip", { args: ["-9n"], stdin: "piped", stdout: "piped" }).spawn();
  const [{ stdout }] = await Promise.all([gzip.output(), new Blob([bytes]).stream().pipeTo(gzip.stdin)]);
  return stdout.length;
}
