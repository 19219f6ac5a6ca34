/**
 * A program that changes a global object, and then makes calls.
 *
 * In: the name of a change, and whether it happens before or after the library is imported. Out: `well` on stdout, or
 * an error.
 */

// deno-lint-ignore-file no-explicit-any -- what is changed here has no types

const global = globalThis as any;

/** Not the errors: under those, the runtime itself stumbles. */
const INTRINSICS = ["Object", "Array", "Function", "Promise", "Map", "Set", "Uint8Array", "String", "Date"];

/** Each change by its name. */
export const CHANGES: Record<string, () => void> = {
  "a function on Object.prototype": () => global.Object.prototype.clone = function () {},
  "a number on Object.prototype": () => global.Object.prototype.version = 1,
  "a function on Array.prototype": () => global.Array.prototype.last = function () {},
  "frozen prototypes": () => {
    for (const name of INTRINSICS) {
      Object.freeze(global[name].prototype);
    }
  },
  "timers that are objects": () => {
    const { setTimeout, clearTimeout } = globalThis;
    global.setTimeout = (...args: Parameters<typeof setTimeout>) => ({ id: setTimeout(...args) });
    global.clearTimeout = (timer: any) => clearTimeout(timer?.id);
  },
};

if (import.meta.main) {
  const [name, when] = Deno.args;
  if (when === "before") CHANGES[name]();
  const { command, connect, middleware, reply, RpcError, serve } = await import("../../mod.ts");
  if (when === "after") CHANGES[name]();
  const commands = {
    ECHO: command({ handler: ({ value }: { value: unknown }, { meta }) => reply(value, { meta: { ...meta } }) }),
    COUNT: command({
      async *handler({ to }: { to: number }) {
        for (let n = 1; n <= to; n++) yield { n };
        return "end";
      },
    }),
    FAIL: command({
      handler(): null {
        throw new RpcError("REFUSED", "on purpose", { data: { why: ["none"] } });
      },
    }),
    MINE: command.with(middleware((_call, next) => next({ user: "Ada" })))((_params: object, { user }) => user),
  };
  const same = (got: unknown, wanted: unknown) => {
    const [one, other] = [JSON.stringify(got), JSON.stringify(wanted)];
    if (one !== other) throw new Error(`${one} in place of ${other}`);
  };
  const server = await serve({ port: 0, commands, middleware: [(_call, next) => next()] });
  const client = await connect<typeof commands>({ port: server.port });
  const guarded = await connect<typeof commands>({
    port: server.port,
    meta: () => ({ token: "t" }),
    middleware: [(_call, next) => next({ meta: { trace: "x" } })],
  });
  const value = { list: [1, { a: null }], toString: "x", more: { constructor: true } };
  same(await client.reply("ECHO", { value }, { meta: { token: "t" } }), { res: value, meta: { token: "t" } });
  same((await client.reply("STATS")).res.inFlight, 0);
  same([await client.call.MINE(), await client.outcome.MINE()], ["Ada", { ok: true, value: "Ada" }]);
  same((await guarded.reply.ECHO({ value })).meta, { token: "t", trace: "x" });
  for (const each of [client, guarded]) {
    const items: unknown[] = [];
    for await (const item of each.stream("COUNT", { to: 3 })) items.push(item);
    same(items, [{ n: 1 }, { n: 2 }, { n: 3 }]);
  }
  const error = await client.reply("FAIL").catch((error: unknown) => error);
  if (!(error instanceof RpcError)) throw error;
  same([error.code, error.message, error.data], ["REFUSED", "REFUSED: on purpose", { why: ["none"] }]);
  await client.close();
  await guarded.close();
  await server.shutdown();
  console.log("well");
}
