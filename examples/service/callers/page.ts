/**
 * A web page. The server allows its origin with `--web-origin http://localhost:8000`.
 *
 *     deno bundle --platform=browser --minify -o page.js callers/page.ts
 */

import { connect } from "@packline/packline/web";
import type { commands } from "../server.ts";

/** Records a temperature, and returns the last temperatures. */
export async function record(url: string, degrees: number, meta: Record<string, string>): Promise<number[]> {
  const client = await connect<typeof commands>({ url, meta });
  try {
    await client.call.RECORD({ place: "Oslo", degrees });
    const measurements = await client.call.LIST({ place: "Oslo" });
    return measurements.map(({ degrees }) => degrees);
  } finally {
    await client.close();
  }
}
