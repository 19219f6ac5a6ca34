/** What a page loads: the client for browsers, bundled and minified. */

import { assert, assertEquals } from "@std/assert";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { bundle } from "../support/bundle.ts";

/** 13 KiB, by gzip; by brotli it is less. */
const MOST_BYTES = 13 * 1024;

Deno.test("the client for browsers is small, and names no runtime", async () => {
  const code = await bundle("client/web.ts");
  const bytes = new TextEncoder().encode(code);
  const gzip = gzipSync(bytes, { level: 9 }).length;
  const brotli = brotliCompressSync(bytes).length;
  console.log(`minified ${bytes.length}, gzip ${gzip}, brotli ${brotli} bytes`);
  assert(gzip <= MOST_BYTES, `${gzip} bytes by gzip`);
  assertEquals(code.match(/\b(Deno|Buffer|process)\b|node:|toHex|toBase64|Promise\.try/g), null);
});
