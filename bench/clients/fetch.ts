/** `fetch`, as a load. */

import { GETS, loadThrough } from "./calls.ts";

await loadThrough(
  ({ port }) => async (key) => (await (await fetch(`http://127.0.0.1:${port}/${key}`)).json()).res,
  GETS,
);
