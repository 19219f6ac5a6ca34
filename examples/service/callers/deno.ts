/**
 * Deno: the types of the commands come from the server.
 *
 *     WEATHER_TOKEN=sesame deno run --allow-net --allow-env callers/deno.ts 1235 4.5
 */

import { connect } from "@packline/packline/client";
import type * as server from "../server.ts";

const [port, degrees] = Deno.args.map(Number);
const meta = { token: Deno.env.get("WEATHER_TOKEN") ?? "", traceparent: Deno.env.get("TRACEPARENT") ?? "" };
await using client = await connect<typeof server>({ port, meta });

await client.call.RECORD({ place: "Oslo", degrees });
const measurements = await client.call.LIST({ place: "Oslo" });
console.log(JSON.stringify(measurements.map(({ degrees }) => degrees)));
