/**
 * Node, and Bun: the same client, from the archive that `deno task npm` makes in packline's checkout.
 *
 *     npm install ../../dist/packline-packline-0.1.0.tgz
 *     WEATHER_TOKEN=sesame node callers/node.mjs 1235 4.5
 */

import { connect } from "@packline/packline/client";

const [port, degrees] = process.argv.slice(2).map(Number);
const { WEATHER_TOKEN: token = "", TRACEPARENT: traceparent = "" } = process.env;
const client = await connect({ port, meta: { token, traceparent } });

await client.call.RECORD({ place: "Oslo", degrees });
const measurements = await client.call.LIST({ place: "Oslo" });
console.log(JSON.stringify(measurements.map(({ degrees }) => degrees)));
await client.close();
