/** packline's own client, as a load. */

import { connect } from "../../client.ts";
import { GETS, loadThrough } from "./calls.ts";

await loadThrough(async ({ port }) => {
  const client = await connect({ port });
  return (key) => client.call("GET", { key });
}, GETS);
