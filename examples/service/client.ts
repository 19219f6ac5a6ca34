/**
 * A caller. It imports the types of the commands, and no code of the server.
 *
 *     WEATHER_TOKEN=sesame deno run --allow-net --allow-env=WEATHER_TOKEN client.ts [PORT]
 */

import { connect } from "@packline/packline/client";
import type * as server from "./server.ts";

const port = Number(Deno.args[0] ?? 1235);
const token = Deno.env.get("WEATHER_TOKEN") ?? "";
await using client = await connect<typeof server>({ port, meta: { token } });

const { at, station } = await client.call.RECORD({ place: "Oslo", degrees: 4.5 });
console.log(`recorded by ${station}, ${at}`);

// A stream to the server: any iterable, here a list. All of it is recorded, or nothing.
const archive = [
  { place: "Oslo", degrees: 3, at: "2026-01-30T12:00:00Z" },
  { place: "Oslo", degrees: 3.5, at: "2026-01-31T12:00:00Z" },
];
const { recorded } = await client.call.IMPORT({}, { items: archive });
console.log(`imported ${recorded}`);

// Reading a list twice does no harm, so the client sends this call again after a lost connection.
for (const { degrees } of await client.call.LIST({ place: "Oslo", count: 3 }, { idempotent: true })) {
  console.log(`${degrees} °C`);
}
