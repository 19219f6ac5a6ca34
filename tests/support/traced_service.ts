/**
 * A service in a process of its own, to be called over the network by another.
 *
 * In: the port of a warehouse, for the service that calls one. Out: its own port, in a line; then it runs until it is told to
 * end.
 */

import { command, connect, run } from "../../mod.ts";

const [warehousePort] = Deno.args.splice(0);

const turn = () => new Promise((resolve) => setTimeout(resolve));

const STOCK = command(async () => (await turn(), 2));
const toWarehouse = warehousePort === undefined
  ? undefined
  : await connect({ port: Number(warehousePort), commands: { STOCK } });

const ORDER = command(async () => {
  await turn();
  return await toWarehouse!.call.STOCK() > 0;
});
const ORDERS = command(async function* () {
  yield 1;
  await turn();
  yield await toWarehouse!.call.STOCK();
});

await run({ port: 0, commands: { STOCK, ORDER, ORDERS } });
await toWarehouse?.close();
